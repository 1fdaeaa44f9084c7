"""The loopback venue's exchange without its sockets: delays of takers by date, and rows of redemptions by date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from backtest.venue.activity import LoopbackActivityKind
from backtest.venue.balances import CASH, Balances
from backtest.venue.exchange import Exchange, OrderChanged, Pace, Submission, VenueEvent
from backtest.venue.scenarios import Scenario
from market.rules import taker_delay
from market.types import UNIT, Order, Outcome, Side, TimeInForce
from tests.venue import Flat

OWNER, ADDRESS = "owner", "0x" + "ab" * 20


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
        now = self.exchange.now
        number = str(len(self.exchange.orders))
        order = Order(
            market_id=self.market.id,
            outcome=outcome,
            side=Side.BUY,
            price=Decimal("0.51"),
            size=size * UNIT,
            tif=TimeInForce.GTC,
            placed_at=now,
            key=number,
        )
        return self.exchange.place(Submission(number, OWNER, ADDRESS, order, "GTC")).status


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
