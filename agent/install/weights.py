"""A model's files: listed and locked, then fetched or copied from an offline folder, every byte hashed on the way."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.install import lock as locks
from agent.install import notes, runtime
from agent.install.download import WIRE, DownloadPolicy
from agent.install.hub import Hub, HubFile
from agent.install.lock import ModelFile, Weights
from agent.install.place import AGAIN, Installation
from market.errors import DataInvalid, NotReady

CONFIG = "mlc-chat-config.json"
SPARE = 500_000_000
"""Free bytes required beyond the weights: the compiled library, notes and logs."""

_DAMAGED = "Get the folder again."


def locked(place: Installation) -> Weights:
    """The model's files in the lock. Raises NotReady where they are not locked yet."""
    weights = locks.read_lock(place.lock).models.get(place.model.repository)
    if weights is None:
        raise NotReady(f"{place.lock} names no files of {place.model.repository}.", next_step=AGAIN)
    return weights


def installed(place: Installation, weights: Weights) -> bool:
    """True if the note vouches for every file as it is now."""
    noted = notes.read_note(place.weights_note).get("files")
    if not isinstance(noted, dict):
        return False
    return all(notes.vouched(noted.get(f.path), place.weights / f.path, f.sha256) for f in weights.files)


@dataclass(frozen=True, slots=True)
class LockModel:
    """Lock the model's files at one commit of the hub, with their SHA-256.

    Files that the hub lists without one are small; they are fetched here, and checked by Git's hash.
    """

    place: Installation
    wire: DownloadPolicy = WIRE
    title: str = "Lock the model's files"

    def describe(self) -> str:
        hub, name = Hub(self.place.hub), self.place.model.repository
        asked = hub.commit_url(name, self.place.model.revision)
        return f"GET {asked}; GET {hub.tree_url(name, 'COMMIT')}; write the files with hashes to {self.place.lock}"

    def done(self) -> bool:
        return self.place.model.repository in locks.read_lock(self.place.lock).models

    def run(self, progress: Callable[[float], None]) -> None:
        hub, name = Hub(self.place.hub, self.wire), self.place.model.repository
        commit = hub.commit(name, self.place.model.revision)
        listed, files = hub.files(name, commit), []
        if CONFIG not in {file.path for file in listed}:
            raise DataInvalid(f"{name} is no model in MLC's format: it has no {CONFIG}.", next_step="Choose another.")
        for at, file in enumerate(listed, start=1):
            files.append(self._hashed(hub, commit, file))
            progress(at / len(listed))
        weights = Weights(commit, tuple(files))
        locks.write_lock(self.place.lock, locks.read_lock(self.place.lock).with_model(name, weights))

    def _hashed(self, hub: Hub, commit: str, file: HubFile) -> ModelFile:
        if file.sha256:
            return ModelFile(file.path, file.size, file.sha256)
        target = self.place.weights / file.path
        content = target.read_bytes() if target.is_file() and target.stat().st_size == file.size else b""
        if not file.fits(content):
            content = hub.small(self.place.model.repository, commit, file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)  # not vouched for yet: the next step hashes whatever lies there
        return ModelFile(file.path, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class FetchWeights:
    """Fetch every locked file, from the hub or from the offline folder; present and correct files are kept."""

    place: Installation
    wire: DownloadPolicy = WIRE
    title: str = "Fetch the model"

    def describe(self) -> str:
        weights = locks.read_lock(self.place.lock).models.get(self.place.model.repository)
        if weights is None:
            origin = Hub(self.place.hub).file_url(self.place.model.repository, "COMMIT", "FILE")
            return f"GET {origin} for each FILE listed, to {self.place.weights}"
        lines = [f"{self._origin(weights, file)} ({file.size:,} bytes)" for file in weights.files]
        return f"{'; '.join(lines)}; {weights.size:,} bytes in all, to {self.place.weights}"

    def done(self) -> bool:
        weights = locks.read_lock(self.place.lock).models.get(self.place.model.repository)
        return weights is not None and installed(self.place, weights)

    def run(self, progress: Callable[[float], None]) -> None:
        weights = locked(self.place)
        noted = notes.read_note(self.place.weights_note).get("files")
        known = dict(noted) if isinstance(noted, dict) else {}
        missing = [f for f in weights.files if not self._kept(f, known)]
        self._room(missing)
        before = weights.size - sum(file.size for file in missing)
        for file in missing:
            target = self.place.weights / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            so_far = partial(_share, progress, before, max(weights.size, 1))
            if self.place.offline:
                _copy(self.place.offline / "model" / file.path, target, file, so_far)
            else:
                self.wire.fetch(self._url(weights, file), target, file.size, file.sha256, so_far)
            known[file.path] = notes.stamp(target, file.sha256)
            # After each file, so that an interrupted download of many gigabytes is not hashed again.
            notes.write_note(self.place.weights_note, {"revision": weights.revision, "files": known})
            before += file.size
        current = {file.path: known[file.path] for file in weights.files}
        notes.write_note(self.place.weights_note, {"revision": weights.revision, "files": current})

    def _kept(self, file: ModelFile, known: dict[str, object]) -> bool:
        target = self.place.weights / file.path
        if notes.vouched(known.get(file.path), target, file.sha256):
            return True
        if not notes.has(target, file.sha256):
            return False
        known[file.path] = notes.stamp(target, file.sha256)
        return True

    def _room(self, missing: list[ModelFile]) -> None:
        """Raise NotReady before the first byte if the disk is too small for all of them."""
        if not missing:
            return
        self.place.folder.mkdir(parents=True, exist_ok=True)
        parts = [self.place.weights / f"{file.path}.part" for file in missing]
        there = sum(part.stat().st_size for part in parts if part.exists())
        needed = sum(file.size for file in missing) - there + SPARE
        free = shutil.disk_usage(self.place.folder).free
        if free < needed:
            message = f"The model needs {needed / 1e9:.1f} GB in {self.place.folder}, and {free / 1e9:.1f} GB are free."
            raise NotReady(message, next_step="Free the rest, or set EDGECLAW_HOME to a folder on a larger disk.")

    def _origin(self, weights: Weights, file: ModelFile) -> str:
        if self.place.offline:
            return f"copy {self.place.offline / 'model' / file.path}"
        return f"GET {self._url(weights, file)}"

    def _url(self, weights: Weights, file: ModelFile) -> str:
        return Hub(self.place.hub).file_url(self.place.model.repository, weights.revision, file.path)


@dataclass(frozen=True, slots=True)
class CheckOffline:
    """Check that an offline folder is complete before anything of it is used."""

    place: Installation
    folder: Path
    title: str = "Check the offline folder"

    def describe(self) -> str:
        return f"hash every wheel and model file that {self.place.lock} names under {self.folder}"

    def done(self) -> bool:
        wheels = runtime.installed(self.place, runtime.locked(self.place))
        return wheels and installed(self.place, locked(self.place))

    def run(self, progress: Callable[[float], None]) -> None:
        weights, wheels = locked(self.place), runtime.locked(self.place).wheels
        wanted = [(self.folder / "wheels" / wheel.file, wheel.sha256) for wheel in wheels]
        wanted += [(self.folder / "model" / file.path, file.sha256) for file in weights.files]
        if lost := [path for path, _ in wanted if not path.is_file()]:
            others = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise NotReady(f"The offline folder lacks {lost[0]}{others}.", next_step=_DAMAGED)
        for at, (path, sha256) in enumerate(wanted, start=1):
            if not notes.has(path, sha256):
                raise NotReady(f"{path} is not the file in the manifest: its hash differs.", next_step=_DAMAGED)
            progress(at / len(wanted))


def _copy(source: Path, target: Path, file: ModelFile, progress: Callable[[int], None]) -> None:
    part = target.with_name(f"{target.name}.part")
    seen = hashlib.sha256()
    with source.open("rb") as reading, part.open("wb") as writing:
        while chunk := reading.read(notes.CHUNK):
            seen.update(chunk)
            writing.write(chunk)
            progress(writing.tell())
    if seen.hexdigest() != file.sha256:
        part.unlink()
        raise NotReady(f"{source} is not the file in the manifest: its hash differs.", next_step=_DAMAGED)
    part.replace(target)


def _share(progress: Callable[[float], None], before: int, whole: int, done: int) -> None:
    progress(min(1.0, (before + done) / whole))
