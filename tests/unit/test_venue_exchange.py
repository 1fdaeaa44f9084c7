"""The loopback venue's exchange without its sockets: delays of takers by date, and rows of redemptions by date."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.venue.activity import LoopbackActivityKind
from backtest.venue.balances import CASH, Balances
from backtest.venue.exchange import (
    Exchange,
    OrderChanged,
    Pace,
    Submission,
    TradeChanged,
    VenueEvent,
    VenueRefusal,
)
from backtest.venue.scenarios import Scenario
from market.rules import taker_delay
from market.types import UNIT, Order, Outcome, Side, TimeInForce, notional
from tests.venue import Flat

ADDRESS, OTHER = "0x" + "ab" * 20, "0x" + "cd" * 20


class Floor:
    """An exchange with one window that has been open for a minute, and everything that it told."""

    def __init__(
        self, opens_at: datetime, pace: Pace, change: Callable[[Scenario], Scenario] = lambda tape: tape
    ) -> None:
        self.heard: list[VenueEvent] = []
        self.exchange = Exchange(self.heard.append, pace)
        tape = change(Flat(seconds=300).tape(opens_at))
        self.market = tape.market
        self.exchange.open(tape)
        self.exchange.purses[ADDRESS] = Balances({CASH: 100 * UNIT})
        self.exchange.advance(opens_at + timedelta(seconds=60))

    def buy(self, size: int = 10, outcome: Outcome = Outcome.YES) -> str:
        """Status of a purchase of whole shares at the displayed offer."""
        return self.send(outcome, Decimal("0.51"), size, TimeInForce.GTC, ADDRESS)

    def send(self, outcome: Outcome, price: Decimal, size: int, tif: TimeInForce, address: str) -> str:
        number = str(len(self.exchange.orders))
        order = Order(
            market_id=self.market.id,
            outcome=outcome,
            side=Side.BUY,
            price=price,
            size=size * UNIT,
            tif=tif,
            placed_at=self.exchange.now,
            key=number,
        )
        submission = Submission(id=number, owner=address, address=address, order=order, kind=tif.upper())
        return self.exchange.place(submission).status


@pytest.mark.parametrize(
    ("day", "milliseconds"),
    [("2026-08-16", 250), ("2026-08-17", 50), ("2026-09-03", 50), ("2026-09-04", 150), ("2026-11-29", 150)],
)
def test_takers_of_crypto_markets_are_delayed_as_of_the_date(day: str, milliseconds: int) -> None:
    opens_at = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
    floor, delay = Floor(opens_at, Pace()), timedelta(milliseconds=milliseconds)
    assert floor.buy() == "DELAYED"
    placed_at = floor.exchange.now
    floor.exchange.advance(placed_at + delay - timedelta(microseconds=1))
    assert not floor.exchange.trades
    floor.exchange.advance(placed_at + delay)
    (trade,) = floor.exchange.trades.values()
    assert trade.matched_at == placed_at + delay
    assert [e.at for e in floor.heard if isinstance(e, OrderChanged)] == [placed_at + delay] * 2


def test_a_pace_with_a_delay_of_its_own_overrides_the_date() -> None:
    opens_at = datetime(2026, 9, 28, 12, tzinfo=UTC)
    assert Floor(opens_at, Pace(taker_delay=timedelta(0))).buy() == "MATCHED"
    slow = Floor(opens_at, Pace(taker_delay=timedelta(seconds=3)))
    assert slow.buy() == "DELAYED"
    slow.exchange.advance(slow.exchange.now + timedelta(seconds=2.9))
    assert not slow.exchange.trades


def test_only_crypto_markets_delay_their_takers() -> None:
    def politics(tape: Scenario) -> Scenario:
        return replace(tape, market=replace(tape.market, category="politics"))

    opens_at = datetime(2026, 9, 28, 12, tzinfo=UTC)
    floor = Floor(opens_at, Pace(), politics)
    assert floor.buy() == "MATCHED" and taker_delay(floor.market, opens_at) == timedelta(0)


@pytest.mark.parametrize(("day", "rows"), [("2026-08-09", [(None, 10)]), ("2026-08-10", [("yes", 10), ("no", 0)])])
def test_a_redemption_has_a_row_for_each_token_since_the_tenth_of_august(
    day: str, rows: list[tuple[str | None, int]]
) -> None:
    opens_at = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
    floor = Floor(opens_at, Pace(taker_delay=timedelta(0), paying=timedelta(0)))
    floor.buy(10)
    floor.buy(6, Outcome.NO)
    floor.exchange.advance(opens_at + timedelta(seconds=600))
    found = [r for r in floor.exchange.activity.rows if r.kind is LoopbackActivityKind.REDEEM]
    assert [(r.outcome, r.dollars // UNIT) for r in found] == rows
    assert len({r.transaction for r in found}) == 1


SIZES = st.lists(st.integers(5, 60), min_size=0, max_size=5)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(5, 900), st.sampled_from(list(TimeInForce)), st.booleans())
def test_a_match_is_one_trade_whatever_it_meets_and_moves_what_its_parts_say(
    resting: list[int], size: int, tif: TimeInForce, fails: bool
) -> None:
    floor = Floor(datetime(2026, 9, 28, 12, tzinfo=UTC), Pace(taker_delay=timedelta(0)))
    exchange, market = floor.exchange, floor.market
    exchange.purses[OTHER] = Balances({CASH: 1_000 * UNIT})
    exchange.purses[ADDRESS].put(CASH, 900 * UNIT)
    for n, shares in enumerate(resting):
        price = Decimal("0.50") if n % 2 else Decimal("0.49")
        floor.send(Outcome.NO, price, shares, TimeInForce.GTC, OTHER)
    before = len(floor.heard)
    with suppress(VenueRefusal):
        floor.send(Outcome.YES, Decimal("0.52"), size, tif, ADDRESS)
    placed = list(exchange.orders.values())[-1]
    trades = list(exchange.trades.values())
    assert len(trades) == (1 if placed.matched else 0)
    told = [e for e in floor.heard[before:] if isinstance(e, TradeChanged)]
    assert [e.trade for e in told] == trades, "it is told once, when the match is over"
    for trade in trades:
        assert trade.size == placed.matched == sum(f.size for f in trade.fills)
        assert trade.dollars == placed.spent == sum(notional(f.price, f.size) for f in trade.fills)
        assert min(f.price for f in trade.fills) <= trade.price <= max(f.price for f in trade.fills)
        ids = [f.maker.submission.id for f in trade.fills if f.maker]
        assert len(set(ids)) == len(ids) and all(exchange.orders[one].trades == [trade.id] for one in ids)
        assert placed.trades == [trade.id]
        cancels = [n for n, e in enumerate(floor.heard) if isinstance(e, OrderChanged) and e.kind == "CANCELLATION"]
        assert all(n > floor.heard.index(told[0]) for n in cancels), "before the rest of the order is cancelled"
    if fails:
        exchange._faults.order("settlement_fails", exchange.now)
    exchange.advance(exchange.now + timedelta(seconds=30))
    ours, theirs = exchange.purses[ADDRESS], exchange.purses[OTHER]
    assert not ours.bound and not ours.coming and not theirs.bound and not theirs.coming
    if fails or not trades:
        assert (ours.held, theirs.held) == ({CASH: 1_000 * UNIT}, {CASH: 1_000 * UNIT})
        return
    (trade,) = trades
    assert ours.has(CASH) == 1_000 * UNIT - trade.dollars - trade.fee
    assert ours.has(market.yes_token) == trade.size
    made = sum(f.size for f in trade.fills if f.maker)
    assert theirs.has(market.no_token) == made
    # Each share of a pair costs both sides one dollar together.
    paid = sum(notional(f.price, f.size) for f in trade.fills if f.maker)
    assert 1_000 * UNIT - theirs.has(CASH) == made - paid
