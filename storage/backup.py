"""Online backup and restore of the whole database as one file. SQLite alone.

A copy gets its final name only after it has been verified.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from market.errors import DataInvalid, Misconfigured, NotReady, StoreUnavailable
from storage.urls import database_target

_SIDE = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy with its size in bytes and its content."""

    file: Path
    size: int
    runs: int
    records: int


def file_of(url: str) -> Path:
    """File of an SQLite URL. Raises Misconfigured for any other."""
    target = database_target(url)
    if target.get_backend_name() != "sqlite" or not target.database or target.database == ":memory:":
        raise Misconfigured("Only an SQLite file is copied here.", next_step="Use the tools of the server, as pg_dump.")
    return Path(target.database).expanduser().absolute()


def back_up(url: str, to: Path) -> Copied:
    """Copy the database as of this instant to `to`, without blocking its writers.

    Errors: NotReady if there is no database, Misconfigured if `to` exists already or its folder does not,
    StoreUnavailable if the database or the disk fails; then nothing is left at `to`.
    """
    source = file_of(url)
    if not source.exists():
        raise NotReady(f"there is no database at {source}.", next_step="Make a run first, or name another --config.")
    if to.exists():
        raise Misconfigured(f"{to} is there already.", next_step="Name a file that is not.")
    if not to.parent.is_dir():
        raise Misconfigured(f"there is no folder {to.parent}.", next_step="Make it, or name another.")
    part = to.with_name(f"{to.name}.part")
    try:
        part.unlink(missing_ok=True)
        with closing(_connect(source)) as connection:
            # VACUUM INTO reads one snapshot; copying the file would miss the write-ahead log.
            connection.execute("VACUUM INTO ?", (str(part),))
        found = looked_through(part)
        _fsync(part)
        # The content is on disk before the name, and the name before success is reported: a power cut leaves no half
        # copy under the final name.
        part.replace(to)
        _fsync(to.parent)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreUnavailable(f"{source} could not be copied to {to}: {error}.") from error
    return Copied(file=to, size=found.size, runs=found.runs, records=found.records)


def restore(file: Path, url: str) -> tuple[Copied, Path | None]:
    """Put a copy in the database's place; return it with the new name of the former database.

    Errors: NotReady if a process has the database open or there is no copy, DataInvalid if the copy is damaged or is
    none, StoreUnavailable if the disk fails; then the database is unchanged.
    """
    target = file_of(url)
    if not file.exists():
        raise NotReady(f"there is no copy at {file}.", next_step="Name a file that `edgeclaw data backup` has made.")
    if user := _user_of(target):
        raise NotReady(f"process {user} has {target} open.", next_step="Stop it first.")
    found = looked_through(file)
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, part)
        _fsync(part)
        aside = _set_aside(target)
        part.replace(target)
        _fsync(target.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreUnavailable(f"{file} could not be put in the place of {target}: {error}.") from error
    return Copied(file=target, size=found.size, runs=found.runs, records=found.records), aside


def looked_through(file: Path) -> Copied:
    """Verify a copy by reading all of it. Raises DataInvalid if it is damaged or not an edgeclaw database."""
    try:
        with closing(_connect(file)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
            if verdict != "ok":
                raise DataInvalid(f"{file} is damaged: {verdict}.", next_step="Take an older copy.")
            runs, records = connection.execute("SELECT count(*), coalesce(sum(length), 0) FROM runs").fetchone()
    except sqlite3.DatabaseError as error:
        raise DataInvalid(f"{file} is no copy of our database: {error}.", next_step="Name another file.") from error
    return Copied(file=file, size=file.stat().st_size, runs=runs, records=records)


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{file}?mode=rw", uri=True, isolation_level=None, timeout=30)


def _set_aside(target: Path) -> Path | None:
    """Give a database a second name; its side files, which belong to it, are moved to that name. A healthy one is
    checkpointed into a single file first. The first name is never without a database: a run would start an empty one
    there."""
    if not target.exists():
        return None
    with suppress(sqlite3.Error), closing(_connect(target)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    number = 1
    while (aside := target.with_name(f"{target.name}.before-{number}")).exists():
        number += 1
    # Before the database itself: a write-ahead log left beside the restored file would be replayed into it.
    for side in _SIDE:
        with suppress(FileNotFoundError):
            target.with_name(target.name + side).replace(aside.with_name(aside.name + side))
    try:
        os.link(target, aside)
    except OSError:  # not every file system knows a second name
        shutil.copyfile(target, aside)
        _fsync(aside)
    return aside


def _fsync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _user_of(target: Path) -> int:
    """Id of a process that has the file open, among those that this user may inspect; 0 if none has."""
    for place in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if target.samefile(place) and int(place.parts[2]) != os.getpid():
                return int(place.parts[2])
    return 0
