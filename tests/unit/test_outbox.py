"""Outbox of records about money for a broker: at least once, across restarts and a database that was put back."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from agent.service.contract import MONEY
from agent.service.outbox import Outbox
from storage.records import RecordKind
from storage.store import Store
from tests.fakes import START
from tests.stores import open_store
from tests.unit.test_storage_values import IDENTITY, decision, fill, play

ACCOUNT = {"account": "paper"}


async def told(store: Store, place: Path) -> list[str]:
    """Messages that one process sends until nothing is left."""
    outbox = Outbox(store, "paper", place)
    await outbox.begin()
    found: list[str] = []
    while records := await outbox.next():
        for record in records:
            assert record.kind in MONEY
            found.append(record.key)
            await outbox.confirmed(record)
    return found


def test_what_was_not_confirmed_is_told_by_the_next_process_and_nothing_of_other_accounts(tmp_path: Path) -> None:
    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}") as store:
            assert await told(store, tmp_path / "mqtt.json") == []
            run = await store.begin_run(IDENTITY, ACCOUNT, START)
            await play(store.log(run.id))
            first = Outbox(store, "paper", tmp_path / "mqtt.json")
            await first.begin()
            record = (await first.next())[0]  # sent, and then the process dies
            rest = await told(store, tmp_path / "mqtt.json")
            wanted = [r.key for r in await store.records(run.id) if r.kind in MONEY]
            assert rest == wanted and record.key == wanted[0]
            assert await told(store, tmp_path / "mqtt.json") == []
            assert await told(store, tmp_path / "new.json") == [], "what was before it began is not told"
            other = Outbox(store, "another", tmp_path / "other.json")
            await other.begin()
            assert await other.next() == ()

    asyncio.run(scope())


def test_after_a_database_was_put_back_what_is_written_again_is_told(tmp_path: Path) -> None:
    database, place = tmp_path / "e.db", tmp_path / "mqtt.json"

    async def write(fills: range) -> list[str]:
        async with open_store(f"sqlite:///{database}") as store:
            if not place.exists():
                await told(store, place)
            run = await store.begin_run(IDENTITY, ACCOUNT, START)
            log = store.log(run.id)
            await log.go_on()
            outbox = Outbox(store, "paper", place)
            await outbox.begin()
            for number in fills:
                await log.fill(fill(number))
            assert all(r.kind is RecordKind.FILL for r in await outbox.next())
            return await told(store, place)

    async def begun() -> None:
        async with open_store(f"sqlite:///{database}") as store:
            await told(store, place)
            log = store.log((await store.begin_run(IDENTITY, ACCOUNT, START)).id)
            await log.decision(decision(0))

    asyncio.run(begun())
    shutil.copy(database, tmp_path / "copy")
    assert asyncio.run(write(range(5))) == [f"f{n}" for n in range(5)]
    shutil.copy(tmp_path / "copy", database)
    assert asyncio.run(write(range(10, 12))) == ["f10", "f11"]
