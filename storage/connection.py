"""Database access on one worker thread: the event loop never waits for a disk.

Writing transactions take the write lock before their first read, so that a check still holds at the write. Knows no
table.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.pool import QueuePool, StaticPool

from market.errors import Misconfigured, NotReady
from storage.faults import translated
from storage.urls import database_target, without_secrets

T = TypeVar("T")

BUSY_SECONDS = 5.0
"""Longest wait of a statement for another program's lock; a `timeout` in the URL overrides it."""
_ATTEMPTS = 50
_MEMORY = (None, "", ":memory:")


class Database:
    """Transactions on an open database. The context managers belong to the worker thread; all else may be awaited."""

    def __init__(self, engine: Engine, worker: ThreadPoolExecutor, place: str) -> None:
        self.place = place
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        self._worker = worker

    @property
    def waiting(self) -> int:
        """Jobs queued for the worker thread."""
        return self._worker._work_queue.qsize()

    @property
    def url(self) -> URL:
        """URL with its password: to open another connection, not for display."""
        return self._engine.url

    @property
    def folder(self) -> Path | None:
        """Folder of the database file; None if it is no file of this machine."""
        database = self._engine.url.database
        if self._engine.url.get_backend_name() != "sqlite" or database in _MEMORY:
            return None
        return Path(str(database)).parent

    @property
    def dialect(self) -> Dialect:
        return self._engine.dialect

    def reading(self) -> AbstractContextManager[Connection]:
        """A read transaction on one snapshot of the database."""
        return self._transaction(self._engine)

    def writing(self) -> AbstractContextManager[Connection]:
        """A write transaction: durable when the block ends without an error, rolled back otherwise."""
        return self._transaction(self._writer)

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with translated(self.place), engine.begin() as connection:
            yield connection

    async def call(self, job: Callable[[], T]) -> T:
        """Run `job` in the worker thread, after those queued before it.

        A cancelled caller does not stop a job: its writes complete, and its side effects stay consistent.
        """
        done = asyncio.get_running_loop().run_in_executor(self._worker, job)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            done.add_done_callback(_consume)
            raise

    async def read(self, job: Callable[[Connection], T]) -> T:
        def work() -> T:
            with self.reading() as connection:
                return job(connection)

        return await self.call(work)

    async def write(self, job: Callable[[Connection], T]) -> T:
        def work() -> T:
            with self.writing() as connection:
                return job(connection)

        return await self.call(work)


@contextmanager
def damaged_text(connection: Connection) -> Iterator[None]:
    """Read text that is not UTF-8 any more with its wrong bytes spelt out, while the block lasts: SQLite's driver would
    raise for the whole query, and name no record."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):  # other servers store no such text
        yield
        return
    before = driver.text_factory
    driver.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
    try:
        yield
    finally:
        driver.text_factory = before


def _consume(done: asyncio.Future[T]) -> None:
    """Consume the result of a job whose caller was cancelled, so that asyncio does not log its exception as never
    retrieved."""
    if not done.cancelled():
        done.exception()


@asynccontextmanager
async def open_database(url: str, *, read_only: bool = False) -> AsyncIterator[Database]:
    """Connect to `url`; an SQLite file and its folder are created unless `read_only`.

    Errors: Misconfigured for an invalid URL, NotReady for a missing driver or, read-only, a missing file,
    StoreUnavailable if the database cannot be opened.
    """
    target = database_target(url)
    place = str(target.database) if _sqlite(target) else without_secrets(target.render_as_string(hide_password=True))
    with ThreadPoolExecutor(1, thread_name_prefix="store") as worker:
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(worker, _engine, target, place, read_only)
        try:
            yield Database(engine, worker, place)
        finally:
            await asyncio.shield(loop.run_in_executor(worker, engine.dispose))


def _sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _engine(url: URL, place: str, read_only: bool) -> Engine:
    try:
        if not _sqlite(url):
            return create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)
        return _sqlite_engine(url, place, read_only)
    except (ImportError, NoSuchModuleError) as error:
        raise NotReady(f"no driver for {place} is installed: {error}.", next_step="Install it with pip.") from error


def _sqlite_engine(url: URL, place: str, read_only: bool) -> Engine:
    memory = url.database in _MEMORY
    if not memory:
        if not read_only:
            # here, because it adds up with numpy, which reading does without
            from storage.wal import must_be_whole

            must_be_whole(Path(str(url.database)).expanduser().absolute())
        url = _file_url(url, Path(str(url.database)).expanduser().absolute(), place, read_only)
    wait = {} if "timeout" in url.query else {"timeout": BUSY_SECONDS}
    pool: dict[str, Any] = {"poolclass": StaticPool} if memory else {"poolclass": QueuePool, "pool_size": 1}
    engine = create_engine(url, connect_args={"check_same_thread": False, **wait}, **pool)
    event.listen(engine, "connect", _for_reading if read_only else _for_writing)
    event.listen(engine, "begin", _begin)
    return engine


def _file_url(url: URL, path: Path, place: str, read_only: bool) -> URL:
    if not read_only:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"the folder {path.parent} cannot be made: {error.strerror}."
            raise Misconfigured(message, next_step="Name another in EDGECLAW_HOME or storage.url.") from error
        return url.set(database=str(path))
    if not path.exists():
        raise NotReady(f"there is no database at {place}.", next_step="Make a run first, or name another file.")
    how = {"mode": "ro", "uri": "true"}
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        how["mode"] = "rw"  # only so that SQLite's side files are taken away at the end
    elif not path.with_name(path.name + "-wal").exists():
        how["immutable"] = "1"  # the side files that SQLite would need cannot be made
    return url.set(database=f"file:{quote(str(path))}").update_query_dict(how)


def _for_reading(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only = ON")


def _for_writing(connection: sqlite3.Connection, _: object) -> None:
    """Connection set-up for writers: transactions are begun by `_begin` alone (the driver would leave DDL outside
    them), and a commit is on disk when it returns."""
    connection.isolation_level = None
    _write_ahead(connection)
    # In WAL mode the weaker NORMAL may lose the last commits at a power cut: an order could be at the venue without its
    # intent in the log.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL with retries: SQLite does not wait for the lock that changes the journal mode, so two programs that
    create the same file have to."""
    for attempt in range(_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(BUSY_SECONDS / _ATTEMPTS)
        else:
            return


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("writes", False)
    # A deferred transaction that reads first and then writes fails with SQLITE_BUSY if another writer came in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
