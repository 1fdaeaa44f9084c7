"""The paper exchange and the loopback venue give the same trades for the same order, each by its own way: here by the
order as it is decided on, there by the amounts that are signed and sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("Crypto", reason="the extra `live` is not installed")
pytest.importorskip("msgspec", reason="the extra `live` is not installed")

from backtest.admission import budget_of
from backtest.columns import Recording
from backtest.exchange import PaperExchange
from backtest.replay import ReplayFeed
from backtest.venue.auth import _Posted
from backtest.venue.balances import CASH, Balances
from backtest.venue.exchange import Exchange, Pace, Submission, VenueRefusal
from backtest.venue.scenarios import Scenario
from market.clock import ManualClock
from market.types import (
    UNIT,
    Book,
    Fill,
    FillEvidence,
    Level,
    Micro,
    Order,
    Outcome,
    PayoutSource,
    Resolution,
    Side,
    TimeInForce,
)
from tests.fakes import START, after, book, levels, market
from tests.profiles import examples
from tools.polymarket.amounts import amounts, venue_order

MARKET = replace(market(), yes_token="11", no_token="22")
OWNER = "0x00000000000000000000000000000000000000aa"
HELD: Micro = 500 * UNIT
_NOW = timedelta(0)


@dataclass(frozen=True)
class Traded:
    """(price, size, fee) of each trade; what is left of an account's dollars."""

    trades: tuple[tuple[Decimal, Micro, Micro], ...]
    cash: Micro


def on_paper(displayed: Book, orders: Sequence[Order], cash: Micro) -> Traded:
    async def scope() -> Traded:
        worth = Resolution(MARKET.id, Decimal(1), PayoutSource.OFFICIAL, MARKET.closes_at)
        feed, clock = ReplayFeed("test", [Recording.of(MARKET, [displayed], worth)]), ManualClock(START)
        bought = [
            Fill(f"b{o.value}", "b", MARKET.id, o, Side.BUY, Decimal(0), HELD, 0, START, FillEvidence.BOOK_CROSS)
            for o in Outcome
        ]
        paper = PaperExchange(
            feed, clock, cash=cash, run="w", venue_delay=_NOW, network_delay=_NOW, restored=bought
        )  # fmt: skip
        fills: list[Fill] = []
        for order in orders:
            clock.advance_to(order.placed_at)
            await paper.send(await paper.sign(order))
            fills += await paper.fills()
        return Traded(tuple((f.price, f.size, f.fee) for f in fills), (await paper.account()).cash)

    return asyncio.run(scope())


def at_the_venue(displayed: Book, orders: Sequence[Order], cash: Micro) -> Traded:
    venue = Exchange(lambda _: None, Pace(taker_delay=_NOW))
    venue.open(Scenario(MARKET, START, [displayed], (), Decimal(1)))
    purse = venue.purses[OWNER] = Balances()
    purse.put(CASH, cash)
    for outcome in Outcome:
        purse.put(MARKET.token(outcome), HELD)
    for order in orders:
        venue.advance(order.placed_at)
        sent = _Posted(
            order=venue_order(order, MARKET, OWNER, OWNER, 0),
            signature=order.key.encode() * 8,
            owner="key",
            kind=order.tif.name,
            expiration=0,
            post_only=order.post_only,
        )
        known_as = sent.as_order(MARKET, order.outcome, order.placed_at)
        try:
            venue.place(
                Submission(id=order.key, owner="key", address=OWNER, order=known_as, kind=sent.kind, budget=sent.budget)
            )
        except VenueRefusal:
            continue
    trades = tuple((f.price, f.size, f.fee) for t in venue.trades.values() for f in t.fills)
    spent = sum(leg.gives[1] for t in venue.trades.values() for _, leg in t.legs if leg.gives[0] == CASH)
    earned = sum(leg.takes[1] for t in venue.trades.values() for _, leg in t.legs if leg.takes[0] == CASH)
    return Traded(trades, cash - spent + earned)


def ordered(number: int, outcome: Outcome, side: Side, cents: int, hundredths: int, tif: TimeInForce) -> Order:
    price = Decimal(cents) / 100
    return Order(MARKET.id, outcome, side, price, hundredths * 10_000, tif, after(number), f"k{number}")


cents, sizes = st.integers(1, 99), st.integers(1, 5_000)


@st.composite
def displays(draw: st.DrawFn) -> Book:
    """Up to four levels a side."""
    middle, wide = draw(st.integers(6, 94)), draw(st.integers(1, 4))
    depth = st.lists(st.integers(1, 8_000).map(lambda n: n * 10_000), max_size=4)
    bids = tuple(Level(Decimal(middle - n) / 100, size) for n, size in enumerate(draw(depth)))
    asks = tuple(Level(Decimal(middle + wide + n) / 100, size) for n, size in enumerate(draw(depth)))
    return book(bids=bids, asks=asks)


orders = st.lists(
    st.tuples(st.sampled_from(list(Outcome)), st.sampled_from(list(Side)), cents, sizes, st.sampled_from(TimeInForce)),
    min_size=1,
    max_size=4,
)


def _writable(order: Order) -> bool:
    """An order that the account can send at all: its amounts are more than nothing, and at least the smallest size."""
    budget = budget_of(order)
    small = order.size < MARKET.min_size if order.tif is TimeInForce.GTC else budget == 0
    return not small


@examples(200)
@given(displays(), orders)
def test_the_same_order_trades_alike(displayed: Book, rows: list[tuple[Outcome, Side, int, int, TimeInForce]]) -> None:
    made = [o for n, row in enumerate(rows, 1) if _writable(o := ordered(n, *row))]
    paper, venue = on_paper(displayed, made, 10_000 * UNIT), at_the_venue(displayed, made, 10_000 * UNIT)
    assert paper == venue


@given(st.sampled_from(list(Outcome)), cents, sizes, st.sampled_from([TimeInForce.FAK, TimeInForce.FOK]))
def test_a_purchase_by_dollars_is_the_one_that_is_signed(
    outcome: Outcome, price: int, size: int, tif: TimeInForce
) -> None:
    order = ordered(1, outcome, Side.BUY, price, size, tif)
    if budget_of(order):
        assert budget_of(order) == amounts(order)[0] <= order.cost


@pytest.mark.parametrize("cash", [549, 550, 569, 570, 589, 600])
def test_where_the_cash_is_short_both_refuse(cash: int) -> None:
    """5.50 dollars at the limit, and up to 38 cents of fees."""
    order = ordered(1, Outcome.YES, Side.BUY, 55, 1_000, TimeInForce.FAK)
    displayed = book(asks=levels(("0.51", 100)))
    paper, venue = (play(displayed, [order], cash * 10_000) for play in (on_paper, at_the_venue))
    assert paper == venue and bool(paper.trades) == (cash >= 589)


def test_ten_shares_at_55_cents_are_more_at_51() -> None:
    order = ordered(1, Outcome.YES, Side.BUY, 55, 1_000, TimeInForce.FAK)
    ((price, size, fee),) = on_paper(book(asks=levels(("0.51", 100))), [order], 100 * UNIT).trades
    assert (price, size, fee) == (Decimal("0.51"), 10_784_313, 188_650)
