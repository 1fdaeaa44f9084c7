"""Ahead-of-time compilation of a model for the device, with a record of what the library was made from.

MLC-LLM's own cache of libraries ignores its version, so that an upgrade leaves stale ones; here the record
does: other versions, weights, device or settings, or another library file, and it is compiled again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.install import notes, runtime, weights
from agent.install.command import Command, run
from agent.install.lock import Runtime, Weights
from agent.install.place import Installation
from market.errors import DataInvalid, NotReady

_TIMEOUT = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class CompileModel:
    place: Installation
    title: str = "Compile the model"

    def describe(self) -> str:
        return f"{self._command()}; write hashes and versions to {self.place.record}"

    def done(self) -> bool:
        return compiled(self.place)

    def run(self, progress: Callable[[float], None]) -> None:
        self._agrees()
        ended = run(self._command(), timeout=_TIMEOUT)
        notes.replace(self.place.folder / "compile.log", ended.out + ended.err)
        part = self._part()
        if ended.code != 0 or not part.is_file():
            message = f"MLC-LLM could not compile the model: {ended.said.rstrip('.')}."
            raise NotReady(message, next_step=f"Read {self.place.folder / 'compile.log'}.")
        # The old record first: one that outlived its library would vouch for the new file.
        self.place.record.unlink(missing_ok=True)
        part.replace(self.place.library)
        library = notes.stamp(self.place.library, notes.hashed(self.place.library))
        made = made_from(self.place, runtime.locked(self.place), weights.locked(self.place))
        notes.write_note(self.place.record, {"library": library, "made_from": made})

    def _agrees(self) -> None:
        """Raise DataInvalid unless the model's configuration names the quantisation that was chosen."""
        path = self.place.weights / weights.CONFIG
        try:
            said = json.loads(path.read_text(encoding="utf-8"))["quantization"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataInvalid(f"{path} does not name a quantisation.", next_step="Choose another model.") from error
        if said != self.place.model.compiled.quantization:
            message = f"{path} says {said} where {self.place.model.compiled.quantization} was expected."
            raise DataInvalid(message, next_step="Choose another model.")

    def _part(self) -> Path:
        return self.place.library.with_name(f"new-{self.place.library.name}")

    def _command(self) -> Command:
        chosen = self.place.model.compiled
        model = str(self.place.weights / weights.CONFIG)
        words = ("--device", self.place.accelerator.device, "--quantization", chosen.quantization)
        return self.place.engine("compile", model, *words, "--overrides", chosen.overrides, "-o", str(self._part()))


def made_from(place: Installation, runtime: Runtime, weights: Weights) -> dict[str, Any]:
    """Inputs that a compiled library depends on."""
    return {
        "model": {"repository": place.model.repository, "revision": weights.revision, "sha256": weights.digest},
        "versions": runtime.versions,
        "build": runtime.build,
        "device": place.accelerator.device,
        "settings": asdict(place.model.compiled),
    }


def compiled(place: Installation) -> bool:
    """True if the library is the one on record, and was made from what is installed now."""
    noted = notes.read_note(place.record)
    try:
        made = made_from(place, runtime.locked(place), weights.locked(place))
    except NotReady:
        return False
    return noted.get("made_from") == made and notes.vouched(noted.get("library"), place.library)
