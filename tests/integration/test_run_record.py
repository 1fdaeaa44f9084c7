"""The life of a run, on a real store and the paper exchange: it goes on where it stopped and ends on agreement."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent.app.run_record import RunRecord, recorded_cash
from agent.trading.bus import LocalBus
from agent.trading.execution import Execution
from agent.trading.loop import Schedule
from backtest.exchange import PaperExchange
from market.clock import ManualClock
from market.errors import LedgerMismatch
from market.types import UNIT
from storage.records import DecisionRecord, RecordKind, RunIdentity, RunManifest
from storage.store import Store, open_store
from tests.fakes import START, book, recorded, replay

MANIFEST = RunManifest(data="books", notes=("a note",), has_reference=False, config={}, cash=1000 * UNIT)
CADENCE = timedelta(minutes=5)


def identity(number: int) -> RunIdentity:
    return RunIdentity(data="live|mine", config="c", code="d", model="m", label=f"live:agent/{number}")


def schedule(begins: datetime) -> Schedule:
    return Schedule(begins, None, cadence=CADENCE)


@asynccontextmanager
async def resumed(place: Path) -> AsyncIterator[tuple[Store, RunRecord]]:
    """The account's run in a process of its own, as far as the store can tell."""
    async with open_store(f"sqlite:///{place / 'e.db'}") as store, store.leased("mine", START) as lease:
        yield store, await RunRecord.resume(store, identity, MANIFEST, START, lease)


def execution(record: RunRecord, clock: ManualClock, cash: int = MANIFEST.initial_cash) -> Execution:
    feed = replay(recorded(book(START)))
    zero = timedelta(0)
    exchange = PaperExchange(feed, clock, cash=cash, venue_delay=zero, network_delay=zero, run=record.run.id)
    return Execution(exchange, record.log, LocalBus())


async def decide(record: RunRecord, at: datetime) -> None:
    number = record.log.length
    await record.log.decision(
        DecisionRecord(id=f"d{number}", market_id="m", slug="s", at=at, action="abstain", reason="", body={})
    )


def test_a_run_goes_on_and_the_slots_between_are_a_gap(tmp_path: Path) -> None:
    async def scope() -> None:
        async with resumed(tmp_path) as (_, first):
            await first.close_gap(schedule, START)
            assert (first.log.length, await first.begins(START)) == (0, START)  # nothing to go on from
            await decide(first, START)
        async with resumed(tmp_path) as (store, again):
            assert again.run.id == first.run.id
            assert await again.begins(START) == START + timedelta(microseconds=1)  # the clock was set back
            await again.close_gap(schedule, START + 3 * CADENCE)
            await again.log.stop("it was ended", START + 3 * CADENCE)
        async with resumed(tmp_path) as (store, third):
            await third.close_gap(schedule, START + 5 * CADENCE)
            gaps = await store.records(third.run.id, RecordKind.GAP)
            assert [(g.body["slots"], g.body["reason"]) for g in gaps] == [(2, "interrupted"), (4, "stopped")]

    asyncio.run(scope())


def test_an_ended_run_is_followed_by_one_with_the_next_number(tmp_path: Path) -> None:
    async def scope() -> None:
        async with resumed(tmp_path) as (_, first):
            clock = ManualClock(START)
            ended = await first.end(execution(first, clock), clock, runs=[first.run], unknown=())
            assert ended.finished
        async with resumed(tmp_path) as (_, second):
            assert second.run.identity == identity(2)

    asyncio.run(scope())


def test_the_last_record_says_what_is_left(tmp_path: Path) -> None:
    async def scope() -> None:
        async with resumed(tmp_path) as (store, record):
            clock = ManualClock(START)
            await record.end(execution(record, clock), clock, runs=[record.run], unknown={"b", "a"})
            (end,) = await store.records(record.run.id, RecordKind.END)
            assert end.body == {"cash": 1000 * UNIT, "holdings": {}, "unknown": ["a", "b"], "halted": ""}
            assert await recorded_cash(store, [record.run]) == 1000 * UNIT

    asyncio.run(scope())


@pytest.mark.parametrize(
    ("cash", "differs", "said"),
    [
        (999 * UNIT, "", "the account holds 999000000 micro-dollars where the records say 1000000000"),
        (1000 * UNIT, "the venue holds a share more", "the venue holds a share more"),
    ],
)
def test_a_run_whose_account_differs_does_not_end(tmp_path: Path, cash: int, differs: str, said: str) -> None:
    async def scope() -> None:
        async with resumed(tmp_path) as (store, record):
            clock = ManualClock(START)
            with pytest.raises(LedgerMismatch, match=said):
                await record.end(execution(record, clock, cash), clock, runs=[record.run], unknown=(), differs=differs)
            assert await store.records(record.run.id, RecordKind.END) == []

    asyncio.run(scope())


def test_a_live_process_loads_nothing_of_the_simulated_worlds() -> None:
    """The paper exchange is loaded when a paper account is opened, the rest never."""
    code = (
        "import sys, agent.app.live, agent.live.account, agent.service.maintenance;"
        "print([m for m in sys.modules if m.partition('.')[0] == 'backtest'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
