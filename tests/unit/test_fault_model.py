"""Luck by rate: as often as told, the same for the same order, and none in calm weather."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from backtest.exchange import PaperExchange
from backtest.fault_model import CALM, FAILED, REFUSED, FaultModel
from market.clock import ManualClock
from market.types import UNIT, Order, OrderStatus, Outcome, PayoutSource, Resolution, Side, TimeInForce
from tests.fakes import START, after, book, recorded, replay

USUAL = timedelta(milliseconds=100)


def order(number: int) -> Order:
    price = Decimal("0.51")
    return Order("0x0000", Outcome.YES, Side.BUY, price, 10 * UNIT, TimeInForce.FAK, after(number), f"{number}")


def test_delays_spread_around_the_usual_one() -> None:
    found = np.array([FaultModel(0.5).delay(order(n), USUAL) / USUAL for n in range(4_000)])
    assert np.median(found) == pytest.approx(1.0, abs=0.03)
    assert np.log(found).std() == pytest.approx(0.5, abs=0.02)
    assert FaultModel(3.0).delay(order(1), timedelta(0)) == timedelta(0)
    assert {CALM.delay(order(n), USUAL) for n in range(50)} == {USUAL}


def test_refusals_come_as_often_as_told_and_to_the_same_orders_in_every_run() -> None:
    faults = FaultModel(refuses=0.1)
    refused = [faults.refused(order(n)) for n in range(4_000)]
    assert np.mean(refused) == pytest.approx(0.1, abs=0.015)
    assert refused == [faults.refused(replace(order(n), key="another run's")) for n in range(4_000)]
    assert not any(CALM.refused(order(n)) for n in range(50))


def test_failures_and_late_payouts_come_as_told() -> None:
    failed = [FaultModel(fails=0.2).failed(order(n)) for n in range(4_000)]
    assert np.mean(failed) == pytest.approx(0.2, abs=0.02)
    late = [FaultModel(late=60).lateness(f"0x{n}").total_seconds() for n in range(4_000)]
    assert np.mean(late) == pytest.approx(60, rel=0.06)
    assert max(late) <= 1800 and min(late) >= 0
    assert CALM.lateness("0x1") == timedelta(0) and not CALM.failed(order(1))


def test_a_tick_that_grew_coarser_refuses_fine_prices_alone() -> None:
    faults = FaultModel(changes=0.3)
    fine = [replace(order(n), price=Decimal("0.971")) for n in range(4_000)]
    assert np.mean([faults.off_tick(o) for o in fine]) == pytest.approx(0.3, abs=0.02)
    assert not any(faults.off_tick(order(n)) for n in range(200)) and not any(map(CALM.off_tick, fine[:200]))

    async def scenario() -> None:
        venue = PaperExchange(
            replay(recorded(book())), ManualClock(START), cash=100 * UNIT, run="w", faults=FaultModel(changes=0.999999)
        )
        signed = await venue.sign(fine[0])
        ack = await venue.send(signed)
        assert ack.status is OrderStatus.REJECTED
        assert ack.reason == f"order {signed.id} is invalid. Price (0.971) breaks minimum tick size rule: 0.01"
        assert (await venue.account()).free == 100 * UNIT

    asyncio.run(scenario())


def test_a_trade_that_fails_leaves_neither_shares_nor_a_bill() -> None:
    async def scenario() -> None:
        clock = ManualClock(START)
        venue = PaperExchange(
            replay(recorded(book())), clock, cash=100 * UNIT, run="w", faults=FaultModel(fails=0.999999)
        )
        ack = await venue.send(await venue.sign(order(0)))
        clock.advance_to(after(10))
        word = await venue.status(ack.order_id)
        assert word is not None and (word.status, word.reason) == (OrderStatus.MATCHED, FAILED)
        account = await venue.account()
        assert (account.free, dict(account.holdings), list(await venue.fills())) == (100 * UNIT, {}, [])

    asyncio.run(scenario())


def test_what_is_held_is_paid_late_and_once() -> None:
    async def scenario() -> None:
        clock, faults = ManualClock(START), FaultModel(late=60)
        venue = PaperExchange(replay(recorded(book())), clock, cash=100 * UNIT, run="w", faults=faults)
        await venue.send(await venue.sign(order(0)))
        known = after(600)
        clock.advance_to(known)
        ended = Resolution("0x0000", Decimal(1), PayoutSource.OFFICIAL, known)
        assert await venue.settle(ended) is None
        assert (await venue.account()).held("0x0000", Outcome.YES) == 10 * UNIT
        clock.advance_to(known + faults.lateness("0x0000"))
        paid = await venue.settle(ended)
        assert paid is not None and [s.size for s in paid] == [10 * UNIT]
        assert list(await venue.settle(ended) or ()) == []

    asyncio.run(scenario())


def test_a_refused_order_is_rejected_and_costs_nothing() -> None:
    async def scenario() -> None:
        clock = ManualClock(START)
        venue = PaperExchange(
            replay(recorded(book())), clock, cash=100 * UNIT, run="w", faults=FaultModel(refuses=0.999999)
        )
        ack = await venue.send(await venue.sign(order(0)))
        assert (ack.status, ack.reason) == (OrderStatus.REJECTED, REFUSED)
        clock.advance_to(after(10))
        assert (await venue.account()).free == 100 * UNIT

    asyncio.run(scenario())
