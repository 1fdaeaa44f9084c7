"""Cost and result of positions: what is realised is the cash flow, to the micro-dollar, in any order."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from market.types import UNIT, Fill, FillEvidence, Micro, Outcome, PayoutSource, Settlement, Side
from tests.fakes import START
from tools.ledger import REVERSED, PositionLedger

Told = Fill | Settlement


def fill(
    number: int, side: Side, size: Micro, cents: int = 50, fee: Micro = 0, market: str = "m", at: int = -1
) -> Fill:
    """At second `at`; at that of its number without one."""
    instant = START + timedelta(seconds=number if at < 0 else at)
    price = Decimal(cents) / 100
    return Fill(
        f"f{number}", f"o{number}", market, Outcome.YES, side, price, size, fee, instant, FillEvidence.VENUE
    )  # fmt: skip


def settled(size: Micro, payout: str = "1", market: str = "m", at: int = 10**6) -> Settlement:
    instant = START + timedelta(seconds=at)
    return Settlement(market, Outcome.YES, size, Decimal(payout), PayoutSource.OFFICIAL, instant)


def tell(ledger: PositionLedger, told: Iterable[Told]) -> PositionLedger:
    for one in told:
        if isinstance(one, Fill):
            ledger.fill(one)
        else:
            ledger.settle(one)
    return ledger


def state(ledger: PositionLedger) -> object:
    return dict(ledger.costs), ledger.holdings, list(ledger.results)


def apart(told: Sequence[Told]) -> tuple[list[Fill], list[Settlement]]:
    return [t for t in told if isinstance(t, Fill)], [t for t in told if isinstance(t, Settlement)]


@st.composite
def histories(draw: st.DrawFn) -> list[Told]:
    """Fills of three markets, sales of more than is held among them, some reversed later; then some markets settle."""
    told: list[Told] = []
    held: dict[str, Micro] = {}
    for number in range(draw(st.integers(1, 14))):
        side = draw(st.sampled_from(list(Side)))
        one = fill(
            number, side, draw(st.integers(1, 40 * UNIT)), draw(st.integers(1, 99)), draw(st.integers(0, UNIT)),
            market=draw(st.sampled_from("abc")), at=draw(st.integers(0, 8)),
        )  # fmt: skip
        told.append(one)
        if draw(st.integers(0, 4)) == 0:
            told.append(replace(one, id=one.id + REVERSED, size=-one.size, fee=-one.fee))
        else:
            held[one.market_id] = held.get(one.market_id, 0) + (one.size if side is Side.BUY else -one.size)
    payouts = st.sampled_from(["0", "0.333333", "0.5", "1"])
    told += [settled(size, draw(payouts), m) for m, size in held.items() if size > 0 and draw(st.booleans())]
    return told


@given(histories())
def test_results_are_the_cash_flow_and_the_remaining_cost(told: list[Told]) -> None:
    ledger = tell(PositionLedger(), told)
    assert ledger.earned == sum(t.cash for t in told) + sum(ledger.costs.values())
    for market in "abc":
        own = [t for t in told if t.market_id == market]
        if not ledger.held(market, Outcome.YES):
            assert ledger.cost(market) == 0
            assert sum(r.earned for r in ledger.results if r.market_id == market) == sum(t.cash for t in own)


@given(histories(), st.randoms(), st.lists(st.integers(0, 20), max_size=3))
def test_late_and_unordered_news_and_restarts_change_nothing(
    told: list[Told], chance: random.Random, restarts: list[int]
) -> None:
    """At each restart the ledger is made anew from what is on record."""
    whole = state(tell(PositionLedger(), told))
    mixed = list(told)
    chance.shuffle(mixed)
    ledger, known = PositionLedger(), list[Told]()
    for number, one in enumerate(mixed):
        if number in restarts:
            ledger = PositionLedger(*apart(known))
        tell(ledger, [one, one])
        known.append(one)
        assert state(ledger) == state(PositionLedger(*apart(known)))
    assert state(ledger) == whole
    assert list(ledger.results) == sorted(ledger.results)


@given(histories())
def test_a_fill_that_failed_is_as_if_it_had_never_been(told: list[Told]) -> None:
    gone = {t.id.removesuffix(REVERSED) for t in told if isinstance(t, Fill) and t.id.endswith(REVERSED)}
    left = [t for t in told if not (isinstance(t, Fill) and t.id.removesuffix(REVERSED) in gone)]
    assert state(tell(PositionLedger(), told)) == state(tell(PositionLedger(), left))


@given(
    st.lists(st.tuples(st.integers(1, 30 * UNIT), st.integers(1, 99), st.integers(0, 10**6)), min_size=1, max_size=12),
    st.data(),
)
def test_a_sale_realises_its_proceeds_less_the_average_cost(
    rows: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    """Against the same in rational numbers: rounding is at most a micro-dollar a sale, and is carried, not lost."""
    ledger, size, cost, exact, sales = PositionLedger(), 0, Fraction(0), Fraction(0), 0
    for number, (shares, cents, fee) in enumerate(rows):
        if size and data.draw(st.booleans()):
            one = fill(number, Side.SELL, min(shares, size), cents, fee)
            part = cost * one.size / size
            size, cost, exact, sales = size - one.size, cost - part, exact + one.cash - part, sales + 1
        else:
            one = fill(number, Side.BUY, shares, cents, fee)
            size, cost = size + shares, cost - one.cash
        ledger.fill(one)
        assert ledger.held("m", Outcome.YES) == size
        assert abs(ledger.earned - exact) <= sales and abs(ledger.cost("m") - cost) <= sales
    assert len(ledger.results) == sales


def test_exposure_is_what_the_remaining_shares_cost() -> None:
    """Half of what cost 10 dollars is sold at a profit: the rest has still cost five."""
    ledger = tell(PositionLedger(), [fill(0, Side.BUY, 20 * UNIT), fill(1, Side.SELL, 10 * UNIT, 90, UNIT)])
    assert (ledger.cost("m"), ledger.total_cost, ledger.earned) == (5 * UNIT, 5 * UNIT, 3 * UNIT)
    ledger.settle(settled(10 * UNIT, "0"))
    assert (ledger.costs, ledger.earned) == ({}, -2 * UNIT)


def test_thirds_of_a_micro_dollar_stay_with_the_shares_that_are_left() -> None:
    ledger = tell(PositionLedger(), [fill(0, Side.BUY, 3, 33, 9)])
    assert ledger.cost("m") == 10
    earned = []
    for number in (1, 2, 3):
        ledger.fill(fill(number, Side.SELL, 1, 1))
        earned.append(ledger.results[-1].earned)
    assert earned == [-3, -3, -4] and ledger.costs == {}
