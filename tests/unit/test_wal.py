"""A damaged write-ahead log: what SQLite would lose of it without a word is at most what nobody was told of."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from market.errors import StoreUnavailable
from storage.store import open_store
from storage.wal import damage, must_be_whole
from tests.profiles import examples

COMMITS = 30


@dataclass(frozen=True)
class Killed:
    """The files of a database whose program was killed: all is in the log, nothing in the database."""

    folder: Path
    body: bytes = field(repr=False)
    log: bytes = field(repr=False)

    def again(self, log: bytes) -> Path:
        """The same with another log."""
        for old in self.folder.glob("again.db*"):
            old.unlink()
        (self.folder / "again.db").write_bytes(self.body)
        (self.folder / "again.db-wal").write_bytes(log)
        return self.folder / "again.db"


@pytest.fixture(scope="module", params=[512, 4096])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("wal")
    live = folder / "live.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {request.param}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE t (x)")
        for n in range(COMMITS):
            connection.execute("INSERT INTO t VALUES (?)", (str(n) * 100,))
        wal = live.with_name("live.db-wal")
        made = Killed(folder, live.read_bytes(), wal.read_bytes())
        assert damage(wal) is None
    shutil.rmtree(folder / "live.db", ignore_errors=True)
    return made


def rows(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection, suppress(sqlite3.DatabaseError):
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])
    return 0


def refused(database: Path) -> bool:
    try:
        must_be_whole(database)
    except StoreUnavailable:
        return True
    return False


@examples(150)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(where=0.0, bit=0)
def test_a_flipped_bit_loses_one_commit_or_the_database_is_refused(killed: Killed, where: float, bit: int) -> None:
    log = bytearray(killed.log)
    log[int(where * len(log))] ^= 1 << bit
    database = killed.again(bytes(log))
    if not refused(database):
        assert rows(database) >= COMMITS - 1, "only the last one may be gone, as if it had been torn"


@examples(80)
@given(kept=st.floats(0, 1))
def test_a_log_that_was_cut_off_is_no_damage(killed: Killed, kept: float) -> None:
    """As a crash leaves it: whatever was not synced is missing."""
    assert not refused(killed.again(killed.log[: int(kept * len(killed.log))]))


@examples(40)
@given(hole=st.integers(1, 3))
def test_a_torn_last_commit_is_no_damage(killed: Killed, hole: int) -> None:
    log = bytearray(killed.log)
    log[-hole * 100] ^= 1
    database = killed.again(bytes(log))
    assert not refused(database) and rows(database) == COMMITS - 1


def test_a_log_that_was_begun_anew_ends_where_the_old_one_shows(tmp_path: Path) -> None:
    """After a checkpoint new frames lie before old ones, which count no more."""
    with closing(sqlite3.connect(tmp_path / "e.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        for n in range(20):
            connection.execute("INSERT INTO t VALUES (?)", (n,))
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        for n in range(3):
            connection.execute("INSERT INTO t VALUES (?)", (n,))
        assert not refused(tmp_path / "e.db")


def test_a_store_with_a_damaged_log_is_not_opened_and_not_touched(killed: Killed) -> None:
    log = bytearray(killed.log)
    log[len(log) // 3] ^= 4
    database = killed.again(bytes(log))

    async def scope() -> None:
        with pytest.raises(StoreUnavailable, match="acknowledged changes lie behind it"):
            async with open_store(f"sqlite:///{database}"):
                pass

    asyncio.run(scope())
    assert database.with_name("again.db-wal").read_bytes() == bytes(log) and database.read_bytes() == killed.body
