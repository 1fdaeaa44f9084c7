"""Every venue adapter keeps these promises; `VENUES` names the ones they are tried on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

import pytest

from backtest.exchange import PaperExchange
from market.clock import ManualClock
from market.types import (
    UNIT,
    Book,
    Order,
    OrderStatus,
    Outcome,
    PayoutSource,
    Resolution,
    Side,
    TimeInForce,
)
from tests.fakes import START, after, book, levels, market, recorded, replay
from tools.orders import OrderTool

CASH = 1_000 * UNIT
CLOSE = market().closes_at


class Venue(Protocol):
    """A venue with CASH dollars and one market whose books are as given, at the instant START."""

    def __call__(self, *books: Book) -> tuple[OrderTool, Callable[[datetime], Awaitable[None]]]:
        """The tool, and how to let time pass there."""
        ...


def paper(*books: Book) -> tuple[OrderTool, Callable[[datetime], Awaitable[None]]]:
    clock = ManualClock(START)
    return PaperExchange(replay(recorded(*books)), clock, cash=CASH, run="contract"), clock.wait_until


VENUES = [pytest.param(paper, id="paper")]


@pytest.fixture(params=VENUES)
def venue(request: pytest.FixtureRequest) -> Venue:
    made: Venue = request.param
    return made


BUY = Order(market().id, Outcome.YES, Side.BUY, Decimal("0.51"), 10 * UNIT, TimeInForce.FAK, START, "d/0")
BID = replace(BUY, price=Decimal("0.45"), tif=TimeInForce.GTC)


@dataclass(frozen=True)
class Case:
    """An order the venue must refuse, and a word of its reason."""

    order: Order
    word: str


REFUSED = [
    Case(replace(BUY, market_id="0xnone"), "market"),
    Case(replace(BUY, price=Decimal("0.505")), "tick"),
    Case(replace(BUY, price=Decimal(1)), "tick"),
    Case(replace(BID, size=4 * UNIT), "minimum"),
    Case(replace(BUY, side=Side.SELL, size=5_005_000), "hundredths"),
    Case(replace(BUY, side=Side.SELL, size=0), "minimum"),
    Case(replace(BUY, size=0), "min size: $1"),
    Case(replace(BUY, size=UNIT), "min size: $1"),
    Case(replace(BUY, post_only=True), "post-only"),
    Case(replace(BUY, size=2_000 * UNIT), "balance"),
    Case(replace(BUY, side=Side.SELL), "balance"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: c.word)
def test_an_order_the_rules_forbid_is_rejected_with_a_reason(venue: Venue, case: Case) -> None:
    async def run() -> None:
        tool, wait = venue(book())
        ack = await tool.send(await tool.sign(case.order))
        assert ack.status is OrderStatus.REJECTED
        assert case.word in ack.reason
        await wait(after(60))
        assert await tool.fills() == []
        account = await tool.account()
        assert (account.cash, account.reserved, account.open_orders) == (CASH, 0, ())

    asyncio.run(run())


def test_a_market_that_has_closed_takes_no_orders(venue: Venue) -> None:
    async def run() -> None:
        tool, wait = venue(book())
        early = await tool.sign(BID)
        await tool.send(early)
        await wait(CLOSE)
        late = await tool.send(await tool.sign(replace(BUY, placed_at=CLOSE)))
        assert late.status is OrderStatus.REJECTED
        assert "closed" in late.reason
        assert (await tool.account()).open_orders == ()

    asyncio.run(run())


def test_signing_is_repeatable_and_sends_nothing(venue: Venue) -> None:
    async def run() -> None:
        tool, wait = venue(book())
        first, again = await tool.sign(BUY), await tool.sign(replace(BUY, price=Decimal("0.510")))
        assert first.id == again.id
        assert (await tool.sign(replace(BUY, key="d/1"))).id != first.id
        await wait(after(60))
        assert await tool.fills() == []

    asyncio.run(run())


def test_an_order_sent_twice_is_one_order(venue: Venue) -> None:
    async def run() -> None:
        tool, wait = venue(book())
        signed = await tool.sign(BUY)
        first = await tool.send(signed)
        assert await tool.send(signed) == first
        await wait(after(60))
        assert await tool.send(signed) == first
        await wait(after(120))
        assert sum(f.size for f in await tool.fills()) == BUY.size
        assert await tool.fills() == []

    asyncio.run(run())


def test_a_purchase_pays_the_resting_price_and_the_fee(venue: Venue) -> None:
    async def run() -> None:
        tool, wait = venue(book())
        await tool.send(await tool.sign(replace(BUY, price=Decimal("0.55"))))
        await wait(after(60))
        (fill,) = await tool.fills()
        # A purchase that does not rest spends the dollars of its limit.
        assert (fill.price, fill.size, fill.maker) == (Decimal("0.51"), 10_784_313, False)
        assert fill.fee == 188_650
        account = await tool.account()
        assert account.cash == CASH - 5_500_000 - 188_650
        assert account.held(market().id, Outcome.YES) == 10_784_313

    asyncio.run(run())


def test_open_orders_reserve_what_they_may_spend_until_cancelled(venue: Venue) -> None:
    async def run() -> None:
        tool, wait = venue(book())
        signed = await tool.sign(BID)
        await tool.send(signed)
        await wait(after(1))
        account = await tool.account()
        assert account.open_orders == (signed,)
        assert account.reserved == 4_500_000
        assert account.free == CASH - 4_500_000
        assert await tool.cancel(signed.id)
        assert not await tool.cancel(signed.id)
        account = await tool.account()
        assert (account.reserved, account.open_orders) == (0, ())

    asyncio.run(run())


def test_there_is_nothing_to_cancel_in_an_unknown_order(venue: Venue) -> None:
    tool, _ = venue(book())
    assert asyncio.run(tool.cancel("0xnone")) is False


def test_shares_promised_to_one_sale_cannot_be_sold_again(venue: Venue) -> None:
    async def run() -> None:
        tool, wait = venue(book())
        await tool.send(await tool.sign(BUY))
        await wait(after(1))
        ask = replace(
            BUY, side=Side.SELL, price=Decimal("0.60"), size=8 * UNIT, tif=TimeInForce.GTC, placed_at=after(1)
        )
        assert (await tool.send(await tool.sign(ask))).status is not OrderStatus.REJECTED
        second = await tool.send(await tool.sign(replace(ask, key="d/2")))
        assert (second.status, "balance" in second.reason) == (OrderStatus.REJECTED, True)

    asyncio.run(run())


def test_settlement_pays_the_winning_shares_once(venue: Venue) -> None:
    async def run() -> None:
        tool, wait = venue(book())
        await tool.send(await tool.sign(BUY))
        await tool.send(await tool.sign(replace(BUY, outcome=Outcome.NO)))
        await wait(after(60))
        before = (await tool.account()).cash
        known_at = CLOSE + timedelta(minutes=2)
        await wait(known_at)
        unresolved = Resolution(market().id, None, PayoutSource.UNRESOLVED, known_at)
        assert await tool.settle(unresolved) == []
        official = Resolution(market().id, Decimal(1), PayoutSource.OFFICIAL, known_at)
        paid = await tool.settle(official)
        assert paid is not None
        assert [(s.outcome, s.size, s.cash, s.source) for s in paid] == [
            (Outcome.YES, 10 * UNIT, 10 * UNIT, PayoutSource.OFFICIAL),
            (Outcome.NO, 10 * UNIT, 0, PayoutSource.OFFICIAL),
        ]
        assert await tool.settle(official) == []
        account = await tool.account()
        assert (account.cash, dict(account.holdings)) == (before + 10 * UNIT, {})

    asyncio.run(run())


def test_the_two_tokens_are_one_book(venue: Venue) -> None:
    async def run() -> None:
        tool, wait = venue(book(bids=levels(("0.40", 6), ("0.39", 10)), asks=levels(("0.45", 9))))
        await tool.send(await tool.sign(replace(BUY, outcome=Outcome.NO, price=Decimal("0.61"))))
        await wait(after(1))
        fills = await tool.fills()
        assert [(f.outcome, f.price, f.size) for f in fills] == [
            (Outcome.NO, Decimal("0.60"), 6 * UNIT),
            (Outcome.NO, Decimal("0.61"), 4_098_360),
        ]

    asyncio.run(run())
