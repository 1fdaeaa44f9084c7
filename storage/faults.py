"""Translation of database errors for the operator: one sentence and the next step.

The only place where third-party database errors are interpreted. Retries nothing.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError

from market.errors import StoreUnavailable

_FULL = ("the disk is full", "Free some space and start again: everything acknowledged is still there.")
_READ_ONLY = ("it cannot be written", "Check the file's owner and whether the disk is mounted read-only.")
_CORRUPT = ("the file is damaged", "Keep it for inspection and restore a backup, or name a new database.")
_LOCKED = ("another program has held it locked for too long", "Stop the other program, then start again.")
_CLOSED = ("it cannot be opened", "Check that the folder exists and that this user may read and write it.")
_DISK = ("the disk failed to read or write", "Check the disk before starting again.")
_OTHER = ("it did not answer as expected", "Check that the database is running and reachable.")

_BY_CODE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTADB: _CORRUPT,
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_IOERR: _DISK,
}
_BY_ERRNO = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.EEXIST: _CLOSED,
    errno.ENOTDIR: _CLOSED,
    errno.EIO: _DISK,
}


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Convert errors of the database at `place` to StoreUnavailable.

    A violated constraint passes through: its meaning depends on the statement.
    """
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise _unavailable(place, error.orig or error) from error
    except (sqlite3.Error, OSError) as error:
        raise _unavailable(place, error) from error


def _unavailable(place: str, error: BaseException) -> StoreUnavailable:
    meaning = _OTHER
    if isinstance(error, sqlite3.Error):
        # The low byte is the primary result code; the rest tells variants apart.
        meaning = _BY_CODE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, _OTHER)
    elif isinstance(error, OSError):
        meaning = _BY_ERRNO.get(error.errno or 0, _OTHER)
    why, next_step = meaning
    detail = " ".join(str(error).split())
    return StoreUnavailable(f"The database {place} is unavailable: {why} ({detail}).", next_step=next_step)
