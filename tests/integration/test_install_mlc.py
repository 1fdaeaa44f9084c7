"""The whole installation of MLC-LLM on a stand-in engine: real pip, real environment, real processes, on this machine.

The wheels are built here and served as a page of links; the model comes from a hub of our own. Nothing is mocked.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.app.settings import mlc_child
from agent.config.load import load_config
from agent.install import InstallStep, MlcChoices, execute, plan_mlc
from agent.install import lock as locks
from agent.install.accelerator import Probe
from agent.install.runtime import interpreter
from market.errors import DataInvalid, Misconfigured, NotReady
from tests import enginewheels
from tests.modelhub import COMMIT, ModelHub, serving

LARGE = random.Random(3).randbytes(400_000)
FILES = {
    "mlc-chat-config.json": b'{"quantization": "q4f16_1", "model_type": "llama"}',
    "tokenizer.json": b"{}",
    "params_shard_0.bin": LARGE,
    "params_shard_1.bin": LARGE[:1000],
    "LICENSE.txt": b"terms",
    ".gitattributes": b"*.bin lfs",
}
TITLES = [
    "Find the accelerator",
    "Make the engine's environment",
    "Lock the engine's wheels",
    "Fetch the engine's wheels",
    "Install the engine",
    "Lock the model's files",
    "Fetch the model",
    "Compile the model",
    "Check the model's answer",
    "Write the configuration",
]


@dataclass(frozen=True)
class Box:
    """A home folder, and the servers it installs from."""

    home: Path
    hub: ModelHub
    shelf: Path

    def steps(self, offline: Path | None = None, **choices: Any) -> list[InstallStep]:
        given = {"device": "vulkan", "index": f"{self.hub.base}/wheels/", "hub": f"{self.hub.base}/", **choices}
        return plan_mlc("llama3.2-3b", self.home, offline, MlcChoices(**given))

    def install(self, offline: Path | None = None, **choices: Any) -> list[str]:
        """The titles of the steps that had something to do."""
        begun: list[str] = []
        shares: dict[str, list[float]] = {}

        def show(title: str, share: float) -> None:
            shares.setdefault(title, []).append(share)
            if share == 0.0 and title not in begun:
                begun.append(title)

        execute(self.steps(offline, **choices), show)
        assert all(seen[-1] == 1.0 for seen in shares.values())
        return begun

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "llama3.2-3b" / "install.json").read_text())
        return found

    @property
    def root(self) -> Path:
        return self.home / "mlc"


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time of change."""
    shown = {str(path): path.lstat() for path in sorted(folder.rglob("*"))}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in shown.items()}


@pytest.fixture(scope="module", autouse=True)
def general_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Index in which pip finds everything that is not MLC's own: a folder, so that no network is used."""
    folder = tmp_path_factory.mktemp("general")
    enginewheels.needed(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(folder))
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModelHub, Path]]:
    shelf = tmp_path_factory.mktemp("shelf")
    enginewheels.pair(shelf)
    large = frozenset({"params_shard_0.bin", "params_shard_1.bin"})
    with serving(ModelHub(dict(FILES), large, shelf)) as hub:
        yield hub, shelf


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, world: tuple[ModelHub, Path]) -> tuple[Box, list[str], list[str]]:
    """One installation from nothing: the box, what was done, and what a dry run had said of it before."""
    box = Box(tmp_path_factory.mktemp("first") / "home", *world)
    said = [step.describe() for step in box.steps()]
    assert not box.home.exists(), "a plan and its description touch nothing"
    return box, box.install(), said


@pytest.fixture
def box(first: tuple[Box, list[str], list[str]], tmp_path: Path, world: tuple[ModelHub, Path]) -> Box:
    """A copy of the finished installation, with servers of the same content that a test may change."""
    home = tmp_path / "home"
    shutil.copytree(first[0].home, home, symlinks=True)
    shelf = tmp_path / "shelf"
    shutil.copytree(world[1], shelf)
    return Box(home, world[0], shelf)


@pytest.fixture
def shelved(box: Box) -> Iterator[Box]:
    """The same, with an index of its own."""
    with serving(ModelHub(dict(FILES), box.hub.large, box.shelf)) as hub:
        yield replace(box, hub=hub)


def test_everything_is_installed_from_nothing(first: tuple[Box, list[str], list[str]]) -> None:
    box, begun, _ = first
    assert begun == [title for title in TITLES if title not in ("Find the accelerator", "Fetch the engine's wheels")]
    lock = locks.read_lock(box.root / "lock.json")
    runtime, weights = lock.runtime, lock.models["mlc-ai/Llama-3.2-3B-Instruct-q4f16_1-MLC"]
    assert runtime is not None and [wheel.name for wheel in runtime.wheels] == [
        "mlc-llm-nightly-cpu",
        "mlc-ai-nightly-cpu",
        "needed-by-engine",
    ]
    assert weights.revision == COMMIT
    assert sorted(file.path for file in weights.files) == sorted(set(FILES) - {".gitattributes"})
    for file in weights.files:
        assert (box.root / "llama3.2-3b" / "model" / file.path).read_bytes() == FILES[file.path]
    asked = {path for path, _ in box.hub.seen if "/resolve/" in path}
    assert asked == {f"/mlc-ai/Llama-3.2-3B-Instruct-q4f16_1-MLC/resolve/{COMMIT}/{f.path}" for f in weights.files}


def test_the_record_says_what_the_library_was_made_from(first: tuple[Box, list[str], list[str]]) -> None:
    box = first[0]
    made = box.record["made_from"]
    assert made["versions"] == {"mlc": "0.20.dev1", "tvm": "0.20.dev1"} and made["device"] == "vulkan:0"
    assert made["model"]["revision"] == COMMIT and len(made["model"]["sha256"]) == 64
    library = json.loads((box.root / "llama3.2-3b" / "vulkan.so").read_text())
    assert library == ["q4f16_1", "vulkan:0", made["settings"]["overrides"], "0.20.dev1"]
    golden = json.loads((box.root / "llama3.2-3b" / "golden.json").read_text())
    assert golden["text"] == " Paris." and golden["weights"] == made["model"]["sha256"]


def test_the_engine_stays_out_of_the_agents_environment(first: tuple[Box, list[str], list[str]]) -> None:
    python = first[0].root / "venv" / "bin" / "python"
    code = "import mlc_llm, tvm, needed_by_engine; import importlib.util as u; print(u.find_spec('agent'))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    from importlib.util import find_spec

    assert find_spec("mlc_llm") is None


def test_the_settings_name_what_was_installed(first: tuple[Box, list[str], list[str]]) -> None:
    box = first[0]
    written = box.root / "llama3.2-3b" / "edgeclaw.yaml"
    edge = yaml.safe_load(written.read_text())["edge"]
    assert mlc_child(load_config(written).edge.mlc).port == edge["mlc"]["port"], "a run takes it as it is"
    assert (edge["runtime"], edge["model"], edge["mlc"]["device"]) == ("mlc", "llama3.2-3b", "vulkan:0")
    assert Path(edge["mlc"]["python"]).exists() and Path(edge["mlc"]["model_lib"]).is_file()
    assert (Path(edge["mlc"]["model_dir"]) / "mlc-chat-config.json").is_file()


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(first: tuple[Box, list[str], list[str]]) -> None:
    box, _, before = first
    said = "\n".join(before)
    for words in (
        "vulkan:0",
        " -m venv --clear ",
        f"--find-links {box.hub.base}/wheels/",
        "mlc-llm-nightly-cpu",
        "--require-hashes",
        f"GET {box.hub.base}/api/models/mlc-ai/Llama-3.2-3B-Instruct-q4f16_1-MLC/tree/COMMIT",
        "-m mlc_llm compile",
        "--quantization q4f16_1",
        "-m mlc_llm serve",
        "/v1/completions",
        "runtime: mlc",
    ):
        assert words in said
    listed = listing(box.home)
    steps = box.steps()
    after = [step.describe() for step in steps]
    assert all(step.done() for step in steps) and [step.title for step in steps] == TITLES
    assert f"{len(LARGE):,} bytes" in "\n".join(after), "once locked, the bytes are known"
    assert listing(box.home) == listed


def test_nothing_is_done_twice(box: Box) -> None:
    assert box.install() == ["Write the configuration"], "the copy lies elsewhere, and its settings say so"
    listed = listing(box.home)
    assert box.install() == []
    assert listing(box.home) == listed


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        ("lock.json", ["Lock the engine's wheels", "Lock the model's files"]),
        ("llama3.2-3b/vulkan.so", ["Compile the model", "Check the model's answer"]),
        ("llama3.2-3b/install.json", ["Compile the model", "Check the model's answer"]),
        ("llama3.2-3b/weights.json", ["Fetch the model"]),
        ("llama3.2-3b/model/params_shard_0.bin", ["Fetch the model"]),
        ("venv/edgeclaw.json", ["Make the engine's environment", "Install the engine"]),
    ],
)
def test_what_is_lost_is_made_again_and_no_more(box: Box, lost: str, again: list[str]) -> None:
    box.install()
    (box.root / lost).unlink()
    assert box.install() == again
    assert box.install() == []


def test_changed_weights_are_noticed_and_fetched_again(box: Box) -> None:
    box.install()
    shard = box.root / "llama3.2-3b" / "model" / "params_shard_0.bin"
    shard.write_bytes(bytes(len(LARGE)))
    assert box.install() == ["Fetch the model"]
    assert shard.read_bytes() == LARGE


def test_other_versions_are_compiled_again(shelved: Box) -> None:
    shelved.install()
    enginewheels.pair(shelved.shelf, "0.20.dev2")
    assert shelved.install() == [], "the lock holds, whatever the index has"
    (shelved.root / "lock.json").unlink()
    again = shelved.install(pins=("0.20.dev2", "0.20.dev2"))
    for title in ("Install the engine", "Compile the model", "Check the model's answer"):
        assert title in again
    assert shelved.record["made_from"]["versions"]["mlc"] == "0.20.dev2"
    assert json.loads((shelved.root / "llama3.2-3b" / "vulkan.so").read_text())[3] == "0.20.dev2"
    site = next((shelved.root / "venv" / "lib").glob("python*")) / "site-packages"
    assert [path.name for path in site.glob("mlc_llm*.dist-info")] == ["mlc_llm_nightly_cpu-0.20.dev2.dist-info"]


def test_an_answer_that_changed_is_refused_until_its_owner_accepts_it(shelved: Box) -> None:
    enginewheels.pair(shelved.shelf, "0.20.dev2", answer=" Paris, or so.")
    (shelved.root / "lock.json").unlink()
    with pytest.raises(NotReady, match=r"now answers ' Paris, or so\.' where it answered ' Paris\.'") as refused:
        shelved.install()
    assert "golden.json" in refused.value.next_step
    with pytest.raises(NotReady):
        shelved.install()
    (shelved.root / "llama3.2-3b" / "golden.json").unlink()
    shelved.install()
    assert json.loads((shelved.root / "llama3.2-3b" / "golden.json").read_text())["text"] == " Paris, or so."


@pytest.mark.parametrize(
    ("answer", "grumpy", "said"),
    [(" the the the", False, "does not answer sensibly"), (" Paris.", True, "Insufficient GPU memory")],
)
def test_a_model_that_talks_nonsense_or_does_not_start(shelved: Box, answer: str, grumpy: bool, said: str) -> None:
    enginewheels.pair(shelved.shelf, "0.20.dev2", answer, grumpy=grumpy)
    (shelved.root / "lock.json").unlink()
    (shelved.root / "llama3.2-3b" / "golden.json").unlink()
    with pytest.raises(NotReady, match=said):
        shelved.install()
    assert not (shelved.root / "llama3.2-3b" / "golden.json").exists()


def test_a_lock_from_another_box_brings_the_same_files(
    first: tuple[Box, list[str], list[str]], shelved: Box, tmp_path: Path
) -> None:
    enginewheels.pair(shelved.shelf, "0.20.dev9")  # newer, and not what is locked
    lock = tmp_path / "owners.json"
    shutil.copy(first[0].root / "lock.json", lock)
    other = replace(shelved, home=tmp_path / "other")
    begun = other.install(lock=lock)
    assert begun == [title for title in TITLES[1:] if not title.startswith("Lock")]
    assert lock.read_bytes() == (first[0].root / "lock.json").read_bytes()
    assert other.record["made_from"] == first[0].record["made_from"]


def test_a_wheel_that_is_not_the_locked_one_is_refused(shelved: Box) -> None:
    enginewheels.pair(shelved.shelf, answer=" Paris, and a stolen key.")  # the same version, other bytes
    shutil.rmtree(shelved.root / "wheels")
    note = shelved.root / "venv" / "edgeclaw.json"
    noted = json.loads(note.read_text())
    note.write_text(json.dumps({"python": noted["python"]}))
    with pytest.raises(NotReady, match="not the one that is locked"):
        shelved.install()
    assert not list((shelved.root / "wheels").glob("mlc_llm*"))


def test_a_lock_for_something_else_is_refused(box: Box, tmp_path: Path) -> None:
    version, platform = interpreter(Path(box.root / "venv" / "bin" / "python"))
    with pytest.raises(Misconfigured, match=rf"made for cpu {version} {platform}, .* for cu128 {version}"):
        box.steps(device="cuda")
    with pytest.raises(Misconfigured, match=r"0\.20\.dev1,0\.20\.dev1, not 1,2"):
        box.steps(pins=("1", "2"))
    with pytest.raises(Misconfigured, match="two versions"):
        box.steps(pins=("1",))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataInvalid, match=r"bad\.json"):
        box.steps(lock=tmp_path / "bad.json")


def offline_folder(box: Box, folder: Path) -> Path:
    """Made with the commands that docs/install.md gives."""
    (folder / "wheels").mkdir(parents=True)
    shutil.copy(box.root / "lock.json", folder / "manifest.json")
    words: list[str | Path] = [
        "--no-deps",
        "--require-hashes",
        "--find-links",
        box.root / "wheels",
        "--dest",
        folder / "wheels",
    ]
    python = box.root / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "-q", "download", *words, "-r", box.root / "requirements.txt"], check=True)
    shutil.copytree(box.root / "llama3.2-3b" / "model", folder / "model")
    return folder


def test_an_offline_folder_needs_no_network_at_all(box: Box, tmp_path: Path) -> None:
    folder = offline_folder(box, tmp_path / "stick")
    asked = len(box.hub.seen)
    other = replace(box, home=tmp_path / "other")
    begun = other.install(folder)
    networked = ("Find", "Lock", "Fetch the engine")
    assert begun == ["Check the offline folder", *(title for title in TITLES if not title.startswith(networked))]
    assert other.record["made_from"] == box.record["made_from"]
    assert len(box.hub.seen) == asked
    assert other.install(folder) == []


def test_an_offline_folder_that_is_not_whole_names_what_is_missing(box: Box, tmp_path: Path) -> None:
    folder = offline_folder(box, tmp_path / "stick")
    other = replace(box, home=tmp_path / "other")
    for lost in ("model/params_shard_1.bin", "wheels/needed_by_engine-1.4-py3-none-any.whl"):
        content = (folder / lost).read_bytes()
        (folder / lost).unlink()
        with pytest.raises(NotReady, match=rf"lacks .*{lost}"):
            other.install(folder)
        (folder / lost).write_bytes(content[::-1])
        with pytest.raises(NotReady, match=rf"{lost} is not the file in the manifest"):
            other.install(folder)
        (folder / lost).write_bytes(content)
    assert not (other.root / "venv").exists()
    (folder / "manifest.json").unlink()
    with pytest.raises(Misconfigured, match=r"manifest\.json"):
        other.install(folder)
    with pytest.raises(Misconfigured, match="does not exist"):
        other.install(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b'{"quantization": "q0f32"}', "says q0f32 where q4f16_1 was expected"),
        (b"{}", "does not name a quantisation"),
        (b'{"quantization": "q4f16_1", "broken": true}', "Cannot find compilation output"),
    ],
)
def test_a_model_that_cannot_be_compiled(shelved: Box, config: bytes, said: str) -> None:
    shelved.hub.files["mlc-chat-config.json"] = config
    lock = locks.read_lock(shelved.root / "lock.json")
    locks.write_lock(shelved.root / "lock.json", replace(lock, models={}))
    with pytest.raises(NotReady, match=said):
        shelved.install()


def test_a_repository_that_is_no_model(shelved: Box) -> None:
    del shelved.hub.files["mlc-chat-config.json"]
    lock = locks.read_lock(shelved.root / "lock.json")
    locks.write_lock(shelved.root / "lock.json", replace(lock, models={}))
    with pytest.raises(NotReady, match="no model in MLC's format"):
        shelved.install()


def test_weights_arrive_whole_over_a_bad_line(shelved: Box, tmp_path: Path) -> None:
    model = shelved.root / "llama3.2-3b" / "model"
    shutil.rmtree(model)
    shelved.hub.faults["params_shard_0.bin"] = ["cut:1000", "cut:70000", "wrong"]
    shelved.hub.faults["tokenizer.json"] = ["wrong"]
    for refused in ("tokenizer", "params_shard_0"):
        with pytest.raises(NotReady, match=rf"{refused}\.\w+ is not the file expected"):
            shelved.install()
    assert shelved.install() == ["Fetch the model", "Write the configuration"]
    assert (model / "params_shard_0.bin").read_bytes() == LARGE


def test_an_index_without_the_wheels(shelved: Box) -> None:
    (shelved.root / "lock.json").unlink()
    for wheel in shelved.shelf.glob("mlc_ai*"):
        wheel.unlink()
    with pytest.raises(NotReady, match="could not be fetched: No matching distribution found for mlc-ai-nightly-cpu"):
        shelved.install()
    assert not (shelved.root / "lock.json").exists()


def test_an_engine_that_does_not_see_the_device(box: Box) -> None:
    with pytest.raises(NotReady, match="finds no vulkan:1") as refused:
        box.install(device="vulkan:1")
    assert "--engine llamacpp" in refused.value.next_step


def test_a_box_without_an_accelerator_is_sent_to_the_embedded_engine(box: Box, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(NotReady, match="No accelerator was found") as refused:
        box.steps(device="", probe=Probe(bare, "linux", lambda _: None))
    assert refused.value.exit_code == 3 and "--engine llamacpp" in refused.value.next_step


def test_a_python_that_is_none(box: Box, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="not a Python"):
        box.steps(interpreter=tmp_path / "python")


def test_models_are_known_by_name_or_repository(box: Box) -> None:
    given = MlcChoices(device="vulkan")
    own = plan_mlc("mlc-ai/Qwen3-1.7B-q4f16_1-MLC", box.home, None, given)
    assert "mlc-ai/Qwen3-1.7B-q4f16_1-MLC" in own[5].describe() and "--quantization q4f16_1" in own[7].describe()
    for model in ("smollm2-135m", "x/y", "../z-q4f16_1-MLC", "a/b/c-q4f16_1-MLC"):
        with pytest.raises(Misconfigured, match="no model that MLC-LLM"):
            plan_mlc(model, box.home, None, given)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 megabytes, which the weights and what must stay free do not fit on."""
    folder, mount = tmp_path / "disk", shutil.which("mount")
    folder.mkdir()
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=200m", "tmpfs", folder], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_too_small_is_refused_before_the_first_byte(box: Box, small_disk: Path) -> None:
    home = small_disk / "home"
    shutil.copytree(box.home, home, symlinks=True, ignore=shutil.ignore_patterns("*.bin"))
    asked = len(box.hub.seen)
    with pytest.raises(NotReady, match=r"needs 0\.5 GB in .* are free") as refused:
        replace(box, home=home).install()
    assert "Free" in refused.value.next_step and len(box.hub.seen) == asked


def test_a_disk_that_fills_up_is_one_sentence(box: Box, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.install.weights.SPARE", 0)
    home = small_disk / "home"
    shutil.copytree(box.home, home, symlinks=True, ignore=shutil.ignore_patterns("*.bin"))
    with (home / "filler").open("wb") as filler:  # between looking and fetching, something else filled the disk
        filler.write(bytes(shutil.disk_usage(home).free - 100_000))
    monkeypatch.setattr("agent.install.weights.FetchWeights._room", lambda *_: None)
    with pytest.raises(NotReady, match="no space left"):
        replace(box, home=home).install()
    (home / "filler").unlink()
    assert "Fetch the model" in replace(box, home=home).install()
