"""Check of an owner's GGUF file: validate its header, hash it, and write a note that vouches for it.

The weights are not parsed: the runtime decides on the file's tensor types.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.install import notes
from agent.install.models import OwnersModel
from agent.llm import gguf
from market.errors import DataInvalid, NotReady


@dataclass(frozen=True, slots=True)
class CheckOwnModel:
    """Validate the file at `path`; an empty `sha256` accepts any content. `known` is the table's entry of the model, if
    any."""

    path: Path
    sha256: str = ""
    known: OwnersModel | None = None
    title: str = "Check the model file"

    def describe(self) -> str:
        expected = f", expect {self.sha256}" if self.sha256 else ""
        return f"read the header of {self.path}, hash it{expected}, and write {self._note}"

    def done(self) -> bool:
        return notes.vouched(notes.read_note(self._note).get("model"), self.path, self.sha256)

    def run(self, progress: Callable[[float], None]) -> None:
        if not self.path.is_file():
            lost = NotReady(f"The model file {self.path} does not exist.", next_step="Check the path.")
            raise self.known.missing(self.path) if self.known else lost
        header, before = gguf.header(self.path), self.path.stat()
        found = notes.hashed(self.path, lambda done: progress(min(1.0, done / max(before.st_size, 1))))
        if self.sha256 and found != self.sha256:
            message = f"{self.path} is not the expected model: its SHA-256 is {found}, not {self.sha256}."
            raise NotReady(message, next_step="Get the file again, or give the --sha256 that its source names.")
        stamp = notes.stamp(self.path, found)
        # A file still being copied would get a note for a content that it no longer has.
        if (stamp["size"], stamp["mtime_ns"]) != (before.st_size, before.st_mtime_ns):
            raise DataInvalid(f"{self.path} changed while it was read.", next_step="Wait until it is whole.")
        about = {"name": header.name, "architecture": header.architecture, "tensors": header.tensors}
        try:
            notes.write_note(self._note, {"model": {**stamp, **about}})
        except PermissionError:
            return  # a folder we may not write to: the file is right, and each start hashes it again

    @property
    def _note(self) -> Path:
        """Path beside the file, where the engine looks for it."""
        return self.path.with_name(f"{self.path.name}.json")
