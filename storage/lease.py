"""Lease of a trading account: one program at a time, on any machine.

A lock that the system releases when its holder dies detects live holders; a fencing token that grows with each holder
invalidates writes of earlier ones. A holder that was cut off and comes back has an old token, and its records are
refused in the transaction that would have written them.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, create_engine, insert, select, text, update
from sqlalchemy.pool import NullPool

from market.errors import NotReady, StoreUnavailable
from storage import schema
from storage.canonical import digest
from storage.connection import Database
from storage.faults import translated
from storage.schema import to_us

_KEEPALIVE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
"""Seconds, and a count, after which the server drops the session of a machine that is gone."""
_WATCH = "Run: edgeclaw status"


@dataclass(frozen=True, slots=True)
class Lease:
    """Lease of `account`. `token` grows with each holder; `taken_from` is a previous holder that did not release it and
    may still be alive, or empty."""

    account: str
    token: int
    taken_from: str = ""

    def must_hold(self, connection: Connection) -> None:
        """Raise NotReady if another holder has taken the account; until the transaction ends none can."""
        lease = schema.leases
        query = select(lease.c.token, lease.c.holder).where(lease.c.account == self.account)
        if connection.dialect.name == "postgresql":
            # A shared row lock: a new holder's update waits for this transaction. SQLite needs none, since a writing
            # transaction holds the lock of the whole database.
            query = query.with_for_update(read=True)
        row = connection.execute(query).one_or_none()
        if row is None or row.token != self.token:
            holder = row.holder if row is not None and row.holder else "nobody"
            raise NotReady(f"Another agent has taken over {self.account} ({holder}).", next_step=_WATCH)


@asynccontextmanager
async def leased(database: Database, account: str, at: datetime) -> AsyncIterator[Lease]:
    """Hold an account for the duration of the block. Raises NotReady if another program holds it."""
    # The lock first, then the token: a program that is refused must not raise the token of the holder.
    release = await database.call(lambda: _lock(database, account))
    try:
        lease = await database.write(lambda connection: _take(connection, account, at))
        writable = True
        try:
            yield lease
        # A store that has failed is not written to again: the row keeps naming this holder.
        except StoreUnavailable:
            writable = False
            raise
        finally:
            with suppress(StoreUnavailable):
                if writable:
                    await database.write(lambda connection: _release(connection, lease))
    finally:
        await asyncio.shield(database.call(release))


def _machine() -> str:
    """This machine since its boot: host names need not be unique."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        started = "unknown"
    return f"{socket.gethostname()}-{started}"


def _take(connection: Connection, account: str, at: datetime) -> Lease:
    lease = schema.leases
    query = select(lease).where(lease.c.account == account)
    if connection.dialect.name == "postgresql":
        query = query.with_for_update()
    row = connection.execute(query).one_or_none()
    values = {"token": 1 if row is None else row.token + 1, "holder": f"{_machine()}/{os.getpid()}", "since": to_us(at)}
    if row is None:
        connection.execute(insert(lease).values(account=account, **values))
        return Lease(account, 1)
    connection.execute(update(lease).where(lease.c.account == account).values(**values))
    elsewhere = row.holder if row.holder and row.holder.rpartition("/")[0] != _machine() else ""
    return Lease(account, row.token + 1, elsewhere)


def _release(connection: Connection, lease: Lease) -> None:
    mine = (schema.leases.c.account == lease.account) & (schema.leases.c.token == lease.token)
    connection.execute(update(schema.leases).where(mine).values(holder=""))


def _lock(database: Database, account: str) -> Callable[[], None]:
    """Take the lock of an account; return its release function. A database in memory belongs to this process alone."""
    if database.dialect.name == "postgresql":
        return _server_lock(database, account)
    if database.folder is None:
        return lambda: None
    return _file_lock((database.folder / Path(database.place).name).resolve(), account)


def _already_held(database: Database, account: str) -> NotReady:
    with suppress(StoreUnavailable), database.reading() as connection:
        lease = schema.leases
        holder = connection.scalar(select(lease.c.holder).where(lease.c.account == account))
        return NotReady(f"Another agent trades {account} already ({holder or 'it is starting'}).", next_step=_WATCH)
    return NotReady(f"Another agent trades {account} already.", next_step=_WATCH)


def _server_lock(database: Database, account: str) -> Callable[[], None]:
    """Session-level advisory lock on the server: released with this connection."""
    # A connection of its own, outside the pool: the pool may replace its connection, and with it would go the lock.
    engine = create_engine(database.url, poolclass=NullPool)
    with translated(database.place):
        connection = engine.connect()
        for name, value in _KEEPALIVE.items():
            connection.execute(text(f"SET {name} = {value}"))
        key = int(digest(account)[:15], 16)
        got = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}))
        connection.commit()
    if not got:
        connection.close()
        raise _already_held(database, account)

    def release() -> None:
        with suppress(Exception):  # a connection that is gone holds nothing
            connection.close()
        engine.dispose()

    return release


def _file_lock(place: Path, account: str) -> Callable[[], None]:
    """Kernel lock on a file beside the database: released with this process."""
    path = place.with_name(f"{place.name}.{digest(account)[:12]}.lock")
    with translated(str(path)):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise NotReady(f"Another agent trades {account} already.", next_step=_WATCH) from None
            raise
    return lambda: os.close(file)
