"""Orders that waited: what the log says became of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from agent.evaluation.maker_fills import resting
from market.fees import charged
from market.types import (
    UNIT,
    Ack,
    Fill,
    FillEvidence,
    Order,
    OrderStatus,
    Outcome,
    Side,
    SignedOrder,
    TimeInForce,
)
from storage.records import RunIdentity
from storage.store import RunLog
from strategies.base import View
from tests.fakes import START, after, book, levels, market
from tests.stores import open_store

BID = Order(market().id, Outcome.YES, Side.BUY, Decimal("0.49"), 10 * UNIT, TimeInForce.GTC, START, "k", post_only=True)


def view(at: datetime, bid: str, ask: str) -> View:
    seen = book(at, bids=levels((bid, 70)), asks=levels((ask, 30)))
    return View(market(), seen, charged(market(), at), at, 100 * UNIT, 0, 0, 0)


async def wanted(log: RunLog, number: int, seconds: float, bid: str, ask: str, order: Order = BID) -> str:
    at = after(seconds)
    signed = SignedOrder(f"0x{number}", replace(order, placed_at=at, key=str(number)))
    await log.intent("d", signed, at, view=view(at, bid, ask), why="test")
    await log.ack(Ack(signed.id, OrderStatus.LIVE), at)
    return signed.id


def filled(order_id: str, seconds: float, outcome: Outcome = Outcome.YES, price: str = "0.49") -> Fill:
    return Fill(
        f"{order_id}-{seconds}", order_id, market().id, outcome, Side.BUY, Decimal(price), 5 * UNIT, 0, after(seconds),
        FillEvidence.TRADE_THROUGH, True,
    )  # fmt: skip


def test_waits_queues_and_the_price_afterwards_are_counted_from_the_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}") as store:
            run = await store.begin_run(RunIdentity("a", "b", "c", "d", "e"), {}, START)
            log = store.log(run.id)
            assert await resting(store, run.id) is None
            first = await wanted(log, 1, 0, "0.49", "0.51")
            await log.fill(filled(first, 4))
            await log.fill(filled(first, 6))
            await wanted(log, 2, 15, "0.44", "0.46")
            no = replace(BID, outcome=Outcome.NO, price=Decimal("0.54"))
            third = await wanted(log, 3, 40, "0.44", "0.46", no)
            await log.fill(filled(third, 42, Outcome.NO, "0.54"))
            await wanted(log, 4, 60, "0.30", "0.32")
            last = await wanted(log, 5, 100, "0.30", "0.32")
            await log.fill(filled(last, 101, price="0.30"))
            found = await resting(store, run.id)
            assert found is not None
            assert (found.orders, found.filled, found.looked_at) == (5, 3, 3), "nothing was seen after the last"
            assert found.waited == 2.0
            assert found.ahead == 30 * UNIT
            assert found.markout is not None
            # 0.45 after buying at 0.49, twice; 0.69 for the other outcome after buying it at 0.54
            assert found.markout.mean == pytest.approx((-0.04 - 0.04 + 0.15) / 3)

    asyncio.run(scenario())


def test_a_fill_whose_market_was_not_seen_again_in_time_is_not_judged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}") as store:
            run = await store.begin_run(RunIdentity("a", "b", "c", "d", "e"), {}, START)
            log = store.log(run.id)
            first = await wanted(log, 1, 0, "0.49", "0.51")
            await log.fill(filled(first, 4))
            await wanted(log, 2, 4 + timedelta(minutes=2).total_seconds(), "0.44", "0.46")
            found = await resting(store, run.id)
            assert found is not None
            assert (found.filled, found.looked_at, found.markout) == (1, 0, None)

    asyncio.run(scenario())
