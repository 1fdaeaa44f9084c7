"""Durability of acknowledged records: a full disk, a killed process, a lock, a damaged file."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from market.errors import Halt, Misconfigured, StoreUnavailable
from storage.connection import open_database
from storage.migrate import prepare
from storage.store import RunLog, Store, open_store
from tests.unit.test_storage_values import begin, decision, fill

ROOT = Path(__file__).parents[2]


async def fill_up(store: Store) -> int:
    """Write until there is no space left; how many decisions were acknowledged."""
    log = store.log((await begin(store)).id)
    with pytest.raises(StoreUnavailable, match="the disk is full") as full:
        await write_on(log)
    assert "Free some space" in full.value.next_step
    assert isinstance(full.value, Halt)
    return log.appended


async def write_on(log: RunLog) -> None:
    for number in range(10_000):
        await log.decision(decision(number))


async def check_and_go_on(store: Store, acknowledged: int) -> None:
    run = await begin(store)
    assert run.records == acknowledged
    assert [d.seq for d in await store.decisions(limit=10_000)] == list(range(acknowledged))
    assert await store.verify() == []
    log = store.log(run.id)
    for number in range(acknowledged + 5):
        await log.decision(decision(number))
    assert (log.compared, log.appended) == (acknowledged, 5)
    assert await store.verify() == []


@contextmanager
def page_limit(pages: int) -> Iterator[Callable[[], None]]:
    """Databases opened inside may not grow beyond `pages`, until what is yielded is called."""
    opened: list[sqlite3.Connection] = []

    def limit(connection: sqlite3.Connection, _: object) -> None:
        opened.append(connection)
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "connect", limit)
    try:
        yield lambda: [c.execute("PRAGMA max_page_count = 1000000") for c in opened].clear()
    finally:
        event.remove(Engine, "connect", limit)


def test_a_full_database_keeps_what_it_acknowledged_and_works_again(tmp_path: Path) -> None:
    async def scope() -> None:
        with page_limit(120) as lift:
            async with open_store(f"sqlite:///{tmp_path / 'full.db'}") as store:
                acknowledged = await fill_up(store)
                assert acknowledged > 10
                assert await store.verify() == []
                lift()
                await check_and_go_on(store, acknowledged)

    asyncio.run(scope())


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    """Losing power cannot be tried here; that SQLite is told to wait for the disk can."""
    opened: list[sqlite3.Connection] = []

    def keep(connection: sqlite3.Connection, _: object) -> None:
        opened.append(connection)

    async def scope() -> list[object]:
        async with open_store(f"sqlite:///{tmp_path / 'new.db'}"):
            asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return [opened[0].execute(f"PRAGMA {name}").fetchone()[0] for name in asked]

    event.listen(Engine, "connect", keep)
    try:
        assert asyncio.run(scope()) == ["wal", 2, 1, 5000]
    finally:
        event.remove(Engine, "connect", keep)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 1.5 MB; skipped where mounting is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=1500k", "tmpfs", place], capture_output=True)
    if not made or made.returncode != 0:
        pytest.skip("mounting a file system is not permitted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_keeps_what_it_acknowledged_and_works_again(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 700_000)
    url = f"sqlite:///{small_disk / 'full.db'}"

    async def scope() -> None:
        async with open_store(url) as store:
            acknowledged = await fill_up(store)
            assert acknowledged > 3
        ballast.unlink()
        async with open_store(url) as store:
            await check_and_go_on(store, acknowledged)

    asyncio.run(scope())


def test_a_read_only_file_system_is_read_and_not_written(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'kept.db'}"

    async def write(number: int) -> None:
        async with open_store(url) as store:
            log = store.log((await begin(store)).id)
            for each in range(number + 1):
                await log.decision(decision(each))

    async def read() -> None:
        async with open_store(url, read_only=True) as store:
            assert [d.id for d in await store.decisions()] == ["d000"]
            assert await store.verify() == []

    asyncio.run(write(0))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    asyncio.run(read())
    with pytest.raises(StoreUnavailable, match="unavailable: it cannot be"):
        asyncio.run(write(1))


WRITER = """
import asyncio, sys
from storage.store import open_store
from tests.unit.test_storage_values import begin, decision
async def main():
    async with open_store(sys.argv[1]) as store:
        log = store.log((await begin(store)).id)
        for number in range(100_000):
            record = await log.decision(decision(number))
            print(record.seq, record.hash, flush=True)
asyncio.run(main())
"""


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    acknowledged: dict[int, str] = {}
    for round_ in range(3):
        command = [sys.executable, "-c", WRITER, f"sqlite:///{path}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                seq, hash_ = line.split()
                assert acknowledged.setdefault(int(seq), hash_) == hash_
                if int(seq) >= 40 * (round_ + 1):
                    break
            child.kill()
            for line in child.stdout:
                if line.endswith("\n"):
                    seq, hash_ = line.split()
                    acknowledged[int(seq)] = hash_
        check_survivors(path, acknowledged)


def check_survivors(path: Path, acknowledged: dict[int, str]) -> None:
    async def scope() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            run = await begin(store)
            found = {r.seq: r.hash for r in await store.records(run.id)}
            assert acknowledged.items() <= found.items()
            assert await store.verify() == []

    asyncio.run(scope())


def test_a_lock_that_does_not_end_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"

    async def scope() -> None:
        async with open_store(f"sqlite:///{path}?timeout=0.05") as store:
            log = store.log((await begin(store)).id)
            await log.fill(fill(0))
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreUnavailable, match="held it locked for too long"):
                    await log.fill(fill(1))
                other.execute("ROLLBACK")
            await log.fill(fill(1))
            assert [f.id for f in await store.fills(log.run_id)] == ["f0", "f1"]

    asyncio.run(scope())


def test_a_file_that_is_no_database_is_reported_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("not a database at all\n" * 100)
    before = path.read_bytes()

    async def scope() -> None:
        async with open_store(f"sqlite:///{path}"):
            raise AssertionError("opened")

    with pytest.raises(StoreUnavailable, match=r"the file is damaged \(file is not a database\)"):
        asyncio.run(scope())
    assert path.read_bytes() == before


def test_damaged_pages_are_reported_by_whoever_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"

    async def write() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            log = store.log((await begin(store)).id)
            for number in range(60):
                await log.decision(decision(number))

    async def read() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            await store.verify()

    asyncio.run(write())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3] + b"\xff" * (len(whole) // 3) + whole[2 * len(whole) // 3 :])
    with pytest.raises(StoreUnavailable, match="the file is damaged") as damaged:
        asyncio.run(read())
    assert "restore a backup" in damaged.value.next_step


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'file' / 'folder' / 'new.db'}"):
            raise AssertionError("opened")

    with pytest.raises(Misconfigured, match="cannot be made"):
        asyncio.run(scope())


def test_writing_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    """A write that cannot go on yet waits in its thread, while the loop turns."""

    async def scope() -> None:
        url, released = f"sqlite:///{tmp_path / 'busy.db'}", threading.Event()
        async with open_database(url) as database:
            await database.call(lambda: prepare(database))
            store = Store(database)
            log = store.log((await begin(store)).id)
            held = asyncio.create_task(database.call(lambda: released.wait(60)))
            writing = asyncio.create_task(log.fill(fill(0)))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not writing.done()
            released.set()
            assert await held, "the loop did not turn: nobody else could have released the thread"
            await writing
            for number in range(1, 2000):
                await log.fill(fill(number))
            assert log.appended == 2000

    asyncio.run(scope())
