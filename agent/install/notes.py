"""Notes that vouch for files: a file is trusted while its size and time of change are those it was hashed with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


def hashed(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of a file in hexadecimal; `progress` receives the bytes read so far."""
    seen, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            seen.update(chunk)
            done += len(chunk)
            progress(done)
    return seen.hexdigest()


def has(path: Path, sha256: str) -> bool:
    """True if the file exists with this content; reads all of it."""
    return path.is_file() and hashed(path) == sha256


def stamp(path: Path, sha256: str) -> dict[str, Any]:
    """A file's entry in a note: its just computed hash with size and time of change."""
    shown = path.stat()
    return {"file": path.name, "sha256": sha256, "size": shown.st_size, "mtime_ns": shown.st_mtime_ns}


def vouched(noted: object, path: Path, sha256: str = "") -> bool:
    """True if a stamp still matches the file (and, where given, the hash); fast enough for every start."""
    if not isinstance(noted, Mapping):
        return False
    try:
        found = stamp(path, sha256 or str(noted.get("sha256")))
    except OSError:
        return False
    return all(noted.get(key) == value for key, value in found.items())


def read_note(path: Path) -> dict[str, Any]:
    """The content of a note; empty if it is missing or unreadable."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def write_note(path: Path, note: Mapping[str, Any]) -> None:
    """Write a note atomically, also against power failure."""
    replace(path, json.dumps(note, indent=2) + "\n")


def replace(path: Path, text: str) -> None:
    """Replace a file by `text` atomically, also against power failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        # Before the rename: else a power failure may leave the new name on an empty file.
        os.fsync(file.fileno())
    part.replace(path)
