"""Append or compare: resumed runs continue, finished runs are only compared, and a difference is named."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from market.errors import DataInvalid, Drift, Misconfigured, StoreUnavailable
from market.types import Ack, OrderStatus
from storage import log as log_module
from storage.canonical import digest
from storage.chain import GENESIS, link
from storage.records import Record, StoredObject
from storage.store import RunLog
from tests.fakes import START
from tests.stores import open_store
from tests.unit.test_storage_values import MEMORY, RESOLUTION, begin, decision, fill, play, signed


def test_a_link_covers_every_field_of_the_record() -> None:
    async def scope() -> list[Record]:
        async with open_store(MEMORY) as store:
            log = store.log((await begin(store)).id)
            return [await log.decision(decision(0)), await log.decision(decision(1))]

    first, second = asyncio.run(scope())
    assert first.prev == GENESIS
    assert second.prev == first.hash
    whole = {"run": second.run_id, "seq": 1, "kind": "decision", "key": "d001", "at": second.at, "prev": second.prev}
    assert second.hash == digest(whole | {"body": second.body})


def test_link_takes_the_text_as_it_is() -> None:
    assert link("r", 0, "end", "end", START, '{"a":1}', GENESIS) != link(
        "r", 0, "end", "end", START, '{"a": 1}', GENESIS
    )


def test_an_unfinished_run_is_resumed() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            run = await begin(store)
            first = store.log(run.id)
            for number in range(3):
                await first.decision(decision(number))
            resumed = store.log((await begin(store)).id)
            for number in range(5):
                await resumed.decision(decision(number))
            assert (resumed.compared, resumed.appended) == (3, 2)
            assert [r.key for r in await store.records(run.id)] == [f"d{n:03d}" for n in range(5)]
            assert await store.verify() == []

    asyncio.run(scope())


def test_a_finished_run_is_compared_and_never_written_to() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            run = await begin(store)
            await play(store.log(run.id))
            before = await store.run(run.id), await store.ledger(run.id), await store.timings(run.id)
            again = store.log(run.id)
            await play(again)
            assert (again.appended, again.compared) == (0, 8)
            with pytest.raises(Drift, match=r"record 8 .* comes after the end of the recorded run"):
                await again.fill(fill(9))
            assert before == (await store.run(run.id), await store.ledger(run.id), await store.timings(run.id))

    asyncio.run(scope())


def test_durations_may_differ_when_a_run_is_recomputed() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            run = await begin(store)
            await store.log(run.id).decision(decision())
            rows = tuple(replace(r, milliseconds=r.milliseconds + 9.9) for r in decision().ledger)
            slower = replace(decision(), ledger=rows, timings={"think": 99.0})
            await store.log(run.id).decision(slower)
            assert (await store.timings(run.id))["d000"] == decision().timings
            assert (await store.ledger(run.id))["d000"] == decision().ledger

    asyncio.run(scope())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (replace(decision(), body={**decision().body, "thought": {"p": 0.5, "path": []}}), "path had 3 entries, has"),
        (replace(decision(), body={**decision().body, "more": 1}), r'body.more was "\(absent\)", is now 1'),
        (replace(decision(), body={**decision().body, "nodes": [1, 2, 3]}), r"body.nodes\[0\] was"),
        (decision(p=0.25), "body.thought.p was 0.5, is now 0.25"),
        (replace(decision(), action="take"), 'body.summary.action was "abstain", is now "take"'),
        (replace(decision(), at=START + timedelta(seconds=1)), "at was 2026-09-28 09:00:00"),
        (replace(decision(), id="other"), "key was d000, is now other"),
    ],
)  # fmt: skip
def test_drift_names_the_record_and_the_first_field_that_differs(changed: object, says: str) -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            run = await begin(store)
            await store.log(run.id).decision(decision())
            await store.log(run.id).decision(changed)  # type: ignore[arg-type]

    with pytest.raises(Drift, match=says) as drift:
        asyncio.run(scope())
    assert "record 0 of run" in str(drift.value)


def test_another_kind_of_record_is_drift() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            run = await begin(store)
            await store.log(run.id).decision(decision())
            with pytest.raises(Drift, match="kind was decision, is now fill"):
                await store.log(run.id).fill(fill())

    asyncio.run(scope())


def test_two_writers_of_one_run_do_not_mix() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            run = await begin(store)
            mine, theirs = store.log(run.id), store.log(run.id)
            await mine.decision(decision(0))
            await theirs.decision(decision(0))
            await theirs.decision(decision(1))
            with pytest.raises(Drift, match=r"record 1 .* was written by another program"):
                await mine.decision(decision(1))
            assert len(await store.records(run.id)) == 2
            assert await store.verify() == []

    asyncio.run(scope())


def test_a_record_cannot_be_there_twice_and_leaves_no_half() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            log = store.log((await begin(store)).id)
            await log.fill(fill())
            with pytest.raises(Drift, match="already holds this fill"):
                await log.fill(fill())
            assert (log.appended, len(await store.records(log.run_id))) == (1, 1)
            await log.fill(fill(1))
            assert await store.verify() == []

    asyncio.run(scope())


def test_a_wrong_object_is_refused_with_its_whole_decision() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            log = store.log((await begin(store)).id)
            with pytest.raises(DataInvalid, match="is not what its hash says"):
                await log.decision(replace(decision(), objects=(StoredObject("book", "{}", "0" * 64),)))
            with pytest.raises(DataInvalid, match="summary"):
                await log.decision(replace(decision(), body={"summary": 1}))
            assert await store.records(log.run_id) == []
            assert await store.decisions() == []
            await log.decision(decision())
            assert await store.verify() == []

    asyncio.run(scope())


def test_an_order_keeps_every_answer_and_shows_the_last() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            log = store.log((await begin(store)).id)
            await log.intent("d000", signed(), START, view="seen", why="test")
            assert [i.status for i in await store.intents(log.run_id)] == ["intended"]
            for status in (OrderStatus.DELAYED, OrderStatus.MATCHED):
                await log.ack(Ack(signed().id, status), START)
            assert [i.order_id for i in await store.intents(log.run_id, "matched")] == [signed().id]
            assert await store.verify() == []

    asyncio.run(scope())


def test_a_cancelled_caller_leaves_the_log_in_step() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            log = store.log((await begin(store)).id)
            task = asyncio.create_task(log.decision(decision(0)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await log.decision(decision(1))
            assert [r.key for r in await store.records(log.run_id)] == ["d000", "d001"]

    asyncio.run(scope())


def test_calls_made_together_are_written_in_their_order() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            log = store.log((await begin(store)).id)
            await asyncio.gather(*(log.fill(fill(n)) for n in range(20)))
            assert [f.id for f in await store.fills(log.run_id)] == [f"f{n}" for n in range(20)]

    asyncio.run(scope())


def test_runs_are_apart() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            one, two = await begin(store, "one"), await begin(store, "two")
            await store.log(one.id).outcome("0x01", RESOLUTION, START)
            assert await store.outcomes(two.id) == []
            assert [r.identity.label for r in await store.runs()] in (["one", "two"], ["two", "one"])
            with pytest.raises(Misconfigured, match="there is no run nowhere"):
                await store.log("nowhere").fill(fill())
            assert await store.run("nowhere") is None

    asyncio.run(scope())


def test_decisions_made_together_are_on_disk_with_the_next_order_or_at_the_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"

    async def scope() -> None:
        async with open_store(url) as store, open_store(url, read_only=True) as reader:
            run = await begin(store)
            log = store.log(run.id)

            async def there() -> list[str]:
                return [r.key for r in await reader.records(run.id)]

            async with log.together():
                await log.decision(decision(0))
                await log.decision(decision(1))
                assert await there() == []
                await log.intent("d001", signed(1), START, view={"seen": 1}, why="")
                assert await there() == ["d000", "d001", signed(1).id]
                await log.decision(decision(2))
                assert len(await there()) == 3
            assert await there() == ["d000", "d001", signed(1).id, "d002"]
            assert (log.appended, await store.verify()) == (4, [])
            alone = store.log((await begin(store, "alone")).id)
            for number in range(3):
                await alone.decision(decision(number))
                assert len(await reader.records(alone.run_id)) == number + 1

    asyncio.run(scope())


def test_what_was_decided_before_something_broke_is_kept(tmp_path: Path) -> None:
    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'log.db'}") as store:
            run = await begin(store)
            log = store.log(run.id)

            async def breaks() -> None:
                async with log.together():
                    await log.decision(decision(0))
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await breaks()
            assert [r.key for r in await store.records(run.id)] == ["d000"]
            again = store.log(run.id)
            async with again.together():
                await again.decision(decision(0))
            assert (again.compared, again.appended) == (1, 0)

    asyncio.run(scope())


def test_a_write_that_fails_takes_nothing_of_what_waits_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'log.db'}") as store:
            run = await begin(store)
            log, works = store.log(run.id), log_module._write_objects
            async with log.together():
                await log.decision(decision(0))
                monkeypatch.setattr(log_module, "_write_objects", _full)
                with pytest.raises(StoreUnavailable):
                    await log.intent("d000", signed(1), START, view={"seen": 1}, why="")
                assert await store.records(run.id) == []
                monkeypatch.setattr(log_module, "_write_objects", works)
                await log.intent("d000", signed(1), START, view={"seen": 1}, why="")
            assert [r.key for r in await store.records(run.id)] == ["d000", signed(1).id]
            assert await store.verify() == []

    asyncio.run(scope())


def _full(*_: object) -> None:
    raise StoreUnavailable("the disk is full.", next_step="Make room.")


def test_decisions_made_together_and_records_of_others_share_one_chain(tmp_path: Path) -> None:
    """Decisions take their places in the loop, all else in the store's thread: never the same place twice, and callers
    who give up in between leave no hole."""

    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}") as store:
            run = await begin(store)
            log = store.log(run.id)
            await play_all(log)
            records = await store.records(run.id)
            assert [r.seq for r in records] == list(range(log.appended))
            assert {r.key for r in records if r.key.startswith("d")} == {f"d{n:03d}" for n in range(60)}
            assert await store.verify() == []

    async def play_all(log: RunLog) -> None:
        await log.outcome("0x00", RESOLUTION, START)

        async def others() -> None:
            for number in range(40):
                given_up = asyncio.create_task(log.outcome(f"0x{number}", RESOLUTION, START))
                await asyncio.sleep(0)
                if number % 3 == 0:
                    given_up.cancel()
                await asyncio.gather(given_up, return_exceptions=True)

        async with log.together():
            beside = asyncio.create_task(others())
            for number in range(60):
                await log.decision(decision(number))
                await asyncio.sleep(0)
            await beside

    asyncio.run(scope())
