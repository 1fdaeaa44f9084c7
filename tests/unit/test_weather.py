"""Luck by rate: as often as told, the same for the same order, and none in calm weather."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from backtest.exchange import PaperExchange
from backtest.weather import CALM, REFUSED, Weather
from market.clock import ManualClock
from market.types import UNIT, Order, OrderStatus, Outcome, Side, TimeInForce
from tests.fakes import START, after, book, recorded, replay

USUAL = timedelta(milliseconds=100)


def order(number: int) -> Order:
    price = Decimal("0.51")
    return Order("0x0000", Outcome.YES, Side.BUY, price, 10 * UNIT, TimeInForce.FAK, after(number), f"{number}")


def test_delays_spread_around_the_usual_one() -> None:
    found = np.array([Weather(0.5).delay(order(n), USUAL) / USUAL for n in range(4_000)])
    assert np.median(found) == pytest.approx(1.0, abs=0.03)
    assert np.log(found).std() == pytest.approx(0.5, abs=0.02)
    assert Weather(3.0).delay(order(1), timedelta(0)) == timedelta(0)
    assert {CALM.delay(order(n), USUAL) for n in range(50)} == {USUAL}


def test_refusals_come_as_often_as_told_and_to_the_same_orders_in_every_run() -> None:
    weather = Weather(refuses=0.1)
    refused = [weather.refused(order(n)) for n in range(4_000)]
    assert np.mean(refused) == pytest.approx(0.1, abs=0.015)
    assert refused == [weather.refused(replace(order(n), key="another run's")) for n in range(4_000)]
    assert not any(CALM.refused(order(n)) for n in range(50))


def test_a_refused_order_is_rejected_and_costs_nothing() -> None:
    async def scenario() -> None:
        clock = ManualClock(START)
        venue = PaperExchange(
            replay(recorded(book())), clock, cash=100 * UNIT, run="w", weather=Weather(refuses=0.999999)
        )
        ack = await venue.send(await venue.sign(order(0)))
        assert (ack.status, ack.reason) == (OrderStatus.REJECTED, REFUSED)
        clock.advance_to(after(10))
        assert (await venue.account()).free == 100 * UNIT

    asyncio.run(scenario())
