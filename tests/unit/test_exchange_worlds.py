"""Random worlds for the paper exchange: any books, any orders, any moments of asking."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from backtest.admission import budget_of
from backtest.exchange import PaperExchange
from backtest.fault_model import CALM, FaultModel
from backtest.replay import ReplayFeed
from market.clock import ManualClock
from market.feed import Worth
from market.fees import schedule
from market.types import (
    UNIT,
    Book,
    Fill,
    FillEvidence,
    Level,
    Micro,
    Order,
    Outcome,
    Side,
    TimeInForce,
    complement,
    notional,
)
from tests.fakes import START, after, market, recorded, replay
from tests.profiles import examples

ID = market().id

_TICKS = st.sampled_from(
    ["0.01", "0.02", "0.3", "0.39", "0.4", "0.41", "0.42", "0.45", "0.5", "0.58", "0.6", "0.61", "0.99"]
)
_PRICE = _TICKS.map(Decimal)
_SIZE = st.integers(500, 4_000).map(lambda n: n * 10_000)


@st.composite
def _book(draw: st.DrawFn, at: datetime) -> Book:
    middle = draw(st.integers(36, 64))
    width = draw(st.integers(-1, 3))
    bids = [Level(Decimal(middle - n) / 100, draw(_SIZE)) for n in range(draw(st.integers(0, 3)))]
    asks = [Level(Decimal(middle + width + n) / 100, draw(_SIZE)) for n in range(draw(st.integers(0, 3)))]
    if draw(st.integers(0, 9)) == 0:
        bids, asks = [Level(Decimal("0.01"), draw(_SIZE))], [Level(Decimal("0.99"), draw(_SIZE))]
    return Book(ID, at, at, tuple(bids), tuple(asks))


@st.composite
def _order(draw: st.DrawFn, number: int) -> Order:
    tif = draw(st.sampled_from(list(TimeInForce)))
    return Order(
        ID,
        draw(st.sampled_from(list(Outcome))),
        draw(st.sampled_from([Side.BUY, Side.BUY, Side.SELL])),
        draw(_PRICE),
        draw(_SIZE),
        tif,
        after(draw(st.integers(0, 90)) / 10),
        str(number),
        post_only=tif is TimeInForce.GTC and draw(st.integers(0, 3)) == 0,
    )


@dataclass(frozen=True)
class World:
    books: tuple[Book, ...]
    orders: tuple[Order, ...]
    cash: Micro
    cancels: frozenset[str]


@st.composite
def worlds(draw: st.DrawFn, *, one_book_an_instant: bool = False) -> World:
    times = sorted(draw(st.lists(st.integers(0, 100), min_size=1, max_size=14, unique=one_book_an_instant)))
    orders = sorted((draw(_order(n)) for n in range(draw(st.integers(1, 8)))), key=lambda o: (o.placed_at, o.key))
    return World(
        tuple(draw(_book(after(t / 10))) for t in times),
        tuple(orders),
        draw(st.sampled_from([10 * UNIT, 60 * UNIT, 1_000 * UNIT])),
        frozenset(draw(st.sets(st.sampled_from([o.key for o in orders]), max_size=2))),
    )


@dataclass(frozen=True)
class Played:
    fills: tuple[Fill, ...]
    orders: dict[str, Order]
    cash: Micro
    holdings: dict[tuple[str, Outcome], Micro]


class ShowsAll(ReplayFeed):
    """A recorded feed that leaves out nothing, as a live one may."""

    def changes(
        self, market_ids: Sequence[str], after: datetime, until: datetime, worth: Worth | None = None
    ) -> AsyncIterator[Book]:
        return super().changes(market_ids, after, until)


async def _play(
    world: World, ask_every: float | None, feed: type[ReplayFeed] = ReplayFeed, faults: FaultModel = CALM
) -> Played:
    """The world to its end, asking for fills now and then, and checking the account whenever it asks."""
    clock = ManualClock(START)
    venue = PaperExchange(feed("test", [recorded(*world.books)]), clock, cash=world.cash, run="w", faults=faults)
    fills: list[Fill] = []
    sent: dict[str, Order] = {}
    asks = [after(n * ask_every) for n in range(int(12 / ask_every))] if ask_every else []
    steps: list[tuple[datetime, int, Order | None]] = [(t, 1, None) for t in asks]
    steps += [(o.placed_at, 0, o) for o in world.orders]
    steps += [(o.placed_at + timedelta(seconds=2), 2, o) for o in world.orders if o.key in world.cancels]
    for at, kind, order in sorted(steps, key=lambda s: (s[0], s[1], s[2].key if s[2] else "")):
        clock.advance_to(at)
        if order is None:
            fills += await venue.fills()
            account = await venue.account()
            assert 0 <= account.reserved <= account.cash
            assert all(size > 0 for size in account.holdings.values())
            continue
        signed = await venue.sign(order)
        if kind == 2:
            await venue.cancel(signed.id)
            continue
        sent[signed.id] = order
        first = await venue.send(signed)
        assert await venue.send(signed) == first
    clock.advance_to(after(899))
    fills += await venue.fills()
    clock.advance_to(after(901))
    account = await venue.account()
    assert (account.reserved, account.open_orders) == (0, ())
    return Played(tuple(fills), sent, account.cash, dict(account.holdings))


@examples(150)
@given(
    worlds(), st.sampled_from([CALM, FaultModel(1.0), FaultModel(2.0, 0.4), FaultModel(0.5, fails=0.5, changes=0.5)])
)
def test_every_micro_dollar_and_share_is_accounted_for(world: World, faults: FaultModel) -> None:
    played = asyncio.run(_play(world, ask_every=0.7, faults=faults))
    cash, held = world.cash, defaultdict[tuple[str, Outcome], Micro](int)
    for fill in played.fills:
        sign = 1 if fill.side is Side.BUY else -1
        order = played.orders[fill.order_id]
        exact = fill.price * fill.size
        if budget_of(order) is None:
            assert exact == int(exact)
        cash -= sign * notional(fill.price, fill.size) + fill.fee
        held[fill.market_id, fill.outcome] += sign * fill.size
        assert cash >= 0 and held[fill.market_id, fill.outcome] >= 0
    assert played.cash == cash
    assert played.holdings == {token: size for token, size in held.items() if size}


@examples(150)
@given(worlds(one_book_an_instant=True))
def test_fills_stay_within_limit_size_and_displayed_depth(world: World) -> None:
    played = asyncio.run(_play(world, ask_every=None))
    filled, spent = defaultdict[str, Micro](int), defaultdict[str, Micro](int)
    drawn = defaultdict[tuple[datetime, bool, Decimal | None], Micro](int)
    for fill in played.fills:
        order = played.orders[fill.order_id]
        filled[fill.order_id] += fill.size
        spent[fill.order_id] += notional(fill.price, fill.size)
        budget = budget_of(order)
        within = filled[fill.order_id] <= order.size if budget is None else spent[fill.order_id] <= budget <= order.cost
        assert fill.size > 0 and within
        assert fill.price <= order.price if order.side is Side.BUY else fill.price >= order.price
        standing = [b for b in world.books if b.received_at <= fill.at][-1]
        own = standing.of(fill.outcome)
        shown = own.asks if fill.side is Side.BUY else own.bids
        assert not standing.crossed
        takes_asks = (fill.side is Side.BUY) is (fill.outcome is Outcome.YES)
        if fill.evidence is FillEvidence.BOOK_CROSS:
            assert fill.fee == schedule("crypto", fill.at).taker(fill.price, fill.size)
            key = fill.price if fill.outcome is Outcome.YES else complement(fill.price)
            drawn[standing.received_at, takes_asks, key] += fill.size
            assert drawn[standing.received_at, takes_asks, key] <= dict(shown)[fill.price]
        else:
            assert (fill.fee, fill.maker, fill.price) == (0, True, order.price)
            past = [s for p, s in shown if (p < order.price if fill.side is Side.BUY else p > order.price)]
            assert past and fill.at == standing.received_at
            assert fill.size <= sum(past)
        drawn[standing.received_at, takes_asks, None] += fill.size
        whole = standing.asks if takes_asks else standing.bids
        assert drawn[standing.received_at, takes_asks, None] <= sum(s for _, s in whole)


@examples(100)
@given(worlds(), st.sampled_from([0.1, 0.3, 1.1]))
def test_what_happens_does_not_depend_on_how_often_anyone_asks(world: World, ask_every: float) -> None:
    assert asyncio.run(_play(world, ask_every)) == asyncio.run(_play(world, ask_every=None))


@examples(300)
@given(worlds(), st.sampled_from([None, 0.3]))
def test_books_that_are_left_out_change_nothing(world: World, ask_every: float | None) -> None:
    assert asyncio.run(_play(world, ask_every)) == asyncio.run(_play(world, ask_every, ShowsAll))


def test_a_level_that_went_and_came_back_while_nobody_looked_is_a_new_one() -> None:
    offer, gone = (Level(Decimal("0.4"), 10 * UNIT),), (Level(Decimal("0.6"), 10 * UNIT),)
    shown = [(0.0, offer), (2.0, gone), (3.0, offer)]
    orders = [
        Order(ID, Outcome.YES, Side.BUY, Decimal("0.4"), 10 * UNIT, TimeInForce.FAK, after(s), str(s)) for s in (1, 5)
    ]
    world = World(
        tuple(Book(ID, after(t), after(t), (), asks) for t, asks in shown), tuple(orders), 60 * UNIT, frozenset()
    )
    played = asyncio.run(_play(world, ask_every=None))
    assert [f.size for f in played.fills] == [10 * UNIT, 10 * UNIT]
    assert played == asyncio.run(_play(world, None, ShowsAll))


@examples(60)
@given(worlds())
def test_a_restored_exchange_has_the_same_money(world: World) -> None:
    async def run() -> None:
        played = await _play(world, ask_every=None)
        clock = ManualClock(after(901))
        again = PaperExchange(replay(recorded(*world.books)), clock, cash=world.cash, run="w", restored=played.fills)
        account = await again.account()
        assert (account.cash, dict(account.holdings)) == (played.cash, played.holdings)

    asyncio.run(run())
