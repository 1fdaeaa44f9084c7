"""Databases for tests, made from one that was migrated once.

Alembic takes longer than most of what a test does with its database, and a property makes one for every example.
Tests of the migrations themselves, of faults while a database is made, and of programs that are processes of their own
use `storage.store.open_store`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import cast

from sqlalchemy import make_url

from storage.connection import Database, open_database
from storage.store import Store
from storage.store import open_store as migrated

MEMORY = "sqlite://"


@asynccontextmanager
async def open_store(url: str = MEMORY, *, read_only: bool = False) -> AsyncIterator[Store]:
    """The product's `open_store`, but that an empty SQLite database starts as a copy of the migrated one."""
    target = make_url(url)
    assert target.get_backend_name() == "sqlite", url
    if target.database:
        if not read_only:
            _place(Path(target.database))
        async with migrated(url, read_only=read_only) as store:
            yield store
        return
    async with open_database(url) as database:
        await database.call(lambda: _fill(database))
        yield Store(database)


def _place(path: Path) -> None:
    """Put the template where there is no database yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_template())


def _fill(database: Database) -> None:
    """Copy the template into a database in memory; its one connection belongs to the worker thread."""
    pooled = database._engine.raw_connection()
    try:
        with closing(sqlite3.connect(":memory:")) as template:
            template.deserialize(_template())
            template.backup(cast(sqlite3.Connection, pooled.driver_connection))
    finally:
        pooled.close()


@cache
def _template() -> bytes:
    """The migrated database as the bytes of its file, made once by the migrations themselves."""
    made: list[bytes] = []
    maker = Thread(target=lambda: made.append(_migrated()))  # the caller may have an event loop of its own
    maker.start()
    maker.join()
    return made[0]


def _migrated() -> bytes:
    async def make(path: Path) -> None:
        async with migrated(f"sqlite:///{path}"):
            pass

    with TemporaryDirectory(prefix="edgeclaw-template-") as folder:
        path = Path(folder) / "template.db"
        asyncio.run(make(path))
        with closing(sqlite3.connect(path)) as made:
            made.execute("PRAGMA journal_mode = DELETE")  # one that writes ahead cannot be read from memory
        return path.read_bytes()
