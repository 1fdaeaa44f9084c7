"""Evaluated prefixes on disk, so that a static prompt is evaluated once and not at every start.

Independent of the content of a state. A file that is damaged, or belongs to another model, library, processor or
layout, is ignored; a failed write is tolerated.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.llm.llamacpp.prefixes import Blocks
from agent.llm.logits import Logits

KEPT = 8
"""Maximum number of files in the folder; the least recently used are deleted first."""

_MAGIC = b"edgeclaw prefix 1\n"
_HASH = 32


@dataclass(frozen=True, slots=True)
class State:
    """A prefix in the library's format, and the logits of its last token."""

    state: bytes
    logits: Logits


@dataclass(frozen=True, slots=True)
class SavedPrefixes:
    """Store of prefixes. `made_by` names everything that the bits of a state depend on, besides its tokens and
    cells."""

    folder: Path
    made_by: tuple[str, ...]
    vocabulary: int

    def find(self, blocks: Blocks, first: int) -> State | None:
        """The state of a prefix whose cells begin at `first`; None when there is no intact one."""
        key = self._key(blocks, first)
        path = self._path(key)
        try:
            content = path.read_bytes()
            # Touched on use, since `_tidy` deletes by age.
            os.utime(path)
        except OSError:
            return None
        head = len(_MAGIC) + 2 * _HASH
        body = memoryview(content)[head:]
        if content[:head] != _MAGIC + key + hashlib.sha256(body).digest() or len(body) <= 4 * self.vocabulary:
            return None
        return State(bytes(body[4 * self.vocabulary :]), np.frombuffer(body, np.float32, self.vocabulary).copy())

    def keep(self, blocks: Blocks, first: int, state: State) -> None:
        """Write a state; an existing file of its name is replaced atomically."""
        key = self._key(blocks, first)
        body = state.logits.tobytes() + state.state
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(".part", dir=self.folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_MAGIC + key + hashlib.sha256(body).digest() + body)
                    file.flush()
                    os.fsync(descriptor)
                Path(part).replace(self._path(key))
            finally:
                Path(part).unlink(missing_ok=True)
            self._tidy()

    def _tidy(self) -> None:
        files = sorted(self.folder.glob("*.prefix"), key=lambda path: path.stat().st_mtime_ns)
        for path in files[:-KEPT]:
            path.unlink(missing_ok=True)

    def _key(self, blocks: Blocks, first: int) -> bytes:
        return hashlib.sha256(json.dumps([self.made_by, first, blocks]).encode()).digest()

    def _path(self, key: bytes) -> Path:
        return self.folder / f"{key.hex()[:32]}.prefix"
