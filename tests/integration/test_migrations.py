"""A database is brought to this version whole, or left alone."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Dialect, create_engine, event
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.schema import CreateTable

from market.errors import DataInvalid, Misconfigured, NotReady, StoreUnavailable
from market.feed import Bar
from storage.migrate import REVISIONS, scripts, upgrade
from storage.records import DecisionFilter, Observation
from storage.schema import from_us, metadata
from storage.store import open_store
from tests.unit.test_storage_values import begin, decision


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


async def touch(path: Path, *, read_only: bool = False) -> int:
    async with open_store(f"sqlite:///{path}", read_only=read_only) as store:
        return len(await store.runs())


def test_migrations_make_exactly_the_schema() -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        (made,) = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE sql LIKE '%CONSTRAINT%'").one()
        assert made == len(metadata.tables) + 1
    engine.dispose()


def test_the_revisions_that_are_known_without_alembic_are_the_migrations() -> None:
    walked = [script.revision for script in ScriptDirectory.from_config(scripts()).walk_revisions()]
    assert list(REVISIONS) == walked[::-1]


def test_an_empty_folder_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "new.db"
    assert asyncio.run(touch(path)) == 0
    assert tables(path) == {*metadata.tables, "alembic_version"}
    assert [p.name for p in path.parent.iterdir()] == ["new.db"]


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"

    async def scope() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            await store.log((await begin(store)).id).decision(decision())
        async with open_store(f"sqlite:///{path}") as store:
            assert [d.id for d in await store.decisions()] == ["d000"]

    asyncio.run(scope())


OLD_BARS: list[tuple[Any, ...]] = [
    ("feed", "0x01", 5, n * 5_000_000, bid, 510_000, depth, 20_000, n)
    for n, (bid, depth) in enumerate([(490_000, 10_000), (None, 10_000), (480_000, 2**50), (1, 7)] * 200)
] + [("feed", "0x02", 300, 300_000_000, None, None, 0, 0, 0)]
OLD_WINDOWS = [
    ("feed", f"0x{n}", 1_000_000 * n, 60, 900, 400_000 + n, text, 1_000_000, 2_000_000 * (7 - n), n % 2)
    for n, text in enumerate(['{"drift":"up","spread":"tight"}', "{}", '{"drift":"down"}'] * 2)
]


def test_what_the_oldest_shape_held_is_carried_over(tmp_path: Path) -> None:
    path = tmp_path / "oldest.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection, "0001")
    engine.dispose()
    with closing(sqlite3.connect(path)) as old, old:
        old.executemany("INSERT INTO bars VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", OLD_BARS)
        old.executemany("INSERT INTO observations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", OLD_WINDOWS)
    asyncio.run(carried_over(path))
    assert tables(path) == {*metadata.tables, "alembic_version"}
    asyncio.run(carried_over(path))


async def carried_over(path: Path) -> None:
    end = from_us(10**12)
    async with open_store(f"sqlite:///{path}") as store:
        for market_id, step in (("0x01", 5), ("0x02", 300)):
            bars = await store.bars("feed", market_id, step, as_of=end, limit=9999)
            assert bars == [
                Bar(m, from_us(at), *values) for _, m, s, at, *values in OLD_BARS if (m, s) == (market_id, step)
            ]
        past = await store.past("feed", as_of=end, window=900)
        assert past.rows(np.arange(len(past))) == [
            Observation(m, from_us(at), left, window, mid, json.loads(text), payout, from_us(known), bool(official))
            for _, m, at, left, window, mid, text, payout, known, official in reversed(OLD_WINDOWS)
        ]
        assert await store.verify() == []


def test_the_shape_can_be_made_for_postgresql() -> None:
    postgresql: Dialect = PGDialect()  # type: ignore[no-untyped-call]
    made = [str(CreateTable(t).compile(dialect=postgresql)) for t in metadata.sorted_tables]
    assert any("BYTEA" in text for text in made)


def test_several_programs_may_make_the_same_database(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda _: asyncio.run(touch(path)), range(12))) == [0] * 12
    assert tables(path) == {*metadata.tables, "alembic_version"}


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "half.db"
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def manual(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begun(connection: object) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    with engine.connect() as connection, connection.begin() as transaction:
        upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        transaction.rollback()
    engine.dispose()
    assert tables(path) == set()
    assert asyncio.run(touch(path)) == 0


def test_a_newer_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    asyncio.run(touch(path))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    for read_only in (False, True):
        with pytest.raises(NotReady, match=r"made by a newer version of edgeclaw \(schema 0999") as refused:
            asyncio.run(touch(path, read_only=read_only))
        assert "Upgrade edgeclaw" in refused.value.next_step


def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(DataInvalid, match="some other program's database"):
        asyncio.run(touch(path))
    assert tables(path) == {"songs"}


def test_reading_creates_and_migrates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    with pytest.raises(NotReady, match="there is no database"):
        asyncio.run(touch(path, read_only=True))
    assert not path.exists()
    path.touch()
    with pytest.raises(NotReady, match="has not been brought to this version"):
        asyncio.run(touch(path, read_only=True))


@pytest.mark.parametrize(("revision", "readable"), [("0001", False), ("0003", False), ("0004", True)])
def test_a_database_of_before_is_read_as_it_is_where_it_has_all_that_reading_needs(
    tmp_path: Path, revision: str, readable: bool
) -> None:
    path = tmp_path / "before.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection, revision)
    engine.dispose()

    async def audited() -> None:
        async with open_store(f"sqlite:///{path}", read_only=True) as store:
            assert await store.runs() == [] and await store.listed(DecisionFilter()) == []
            assert await store.verify() == []

    if not readable:
        with pytest.raises(NotReady, match="has not been brought to this version"):
            asyncio.run(audited())
    else:
        before = path.read_bytes()
        asyncio.run(audited())
        assert path.read_bytes() == before
    assert asyncio.run(touch(path)) == 0
    assert tables(path) == {*metadata.tables, "alembic_version"}


def test_reading_beside_a_writer_sees_what_is_acknowledged_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "live.db"

    async def scope() -> None:
        url = f"sqlite:///{path}"
        async with open_store(url) as writer:
            log = writer.log((await begin(writer)).id)
            await log.decision(decision())
            async with open_store(url, read_only=True) as reader:
                assert len(await reader.decisions()) == 1
                await log.decision(decision(1))
                assert len(await reader.decisions()) == 2
                assert await reader.verify() == []
                again = reader.log(log.run_id)
                for number in range(2):
                    await again.decision(decision(number))
                with pytest.raises(StoreUnavailable, match="cannot be written"):
                    await again.decision(decision(2))
            await log.decision(decision(2))
        async with open_store(url, read_only=True) as reader:
            assert len(await reader.decisions()) == 3

    asyncio.run(scope())
    assert [p.name for p in tmp_path.iterdir()] == ["live.db"]


@pytest.mark.parametrize(
    ("url", "error"),
    [("not a url", Misconfigured), ("postgresql+nosuchdriver://box/edgeclaw", NotReady), ("nosuch://x", NotReady)],
)
def test_a_url_that_leads_nowhere_is_refused(url: str, error: type[Exception]) -> None:
    async def scope() -> None:
        async with open_store(url):
            raise AssertionError("opened")

    with pytest.raises(error):
        asyncio.run(scope())
