from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.rules import PriceKind, on_grid, resolution_rule, size_allowed, tick_at
from market.types import (
    UNIT,
    Fill,
    FillEvidence,
    Level,
    Order,
    Outcome,
    PayoutSource,
    Resolution,
    Settlement,
    Side,
    TimeInForce,
    complement,
    micro,
    notional,
    units,
)
from storage.canonical import canonical, digest, plain
from tests.fakes import START, book, levels, market

_prices = st.integers(0, 10_000).map(lambda n: Decimal(n) / 10_000)


@given(st.integers(-(10**15), 10**15))
def test_units_and_micro_are_inverse(amount: int) -> None:
    assert micro(units(amount)) == amount


@pytest.mark.parametrize("amount", ["0.0000001", "1.2345678"])
def test_finer_than_a_millionth_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="finer"):
        micro(amount)


@given(_prices, st.integers(0, 10**9))
def test_hundredths_of_a_share_cost_exactly(price: Decimal, hundredths: int) -> None:
    size = hundredths * 10_000
    assert notional(price, size) == price * size
    assert notional(price, size) + notional(complement(price), size) == size


def test_notional_rounds_half_up() -> None:
    assert notional(Decimal("0.5"), 1) == 1
    assert notional(Decimal("0.4"), 1) == 0


def test_mirroring_twice_is_the_same_book() -> None:
    one = book(bids=levels(("0.499", 3), ("0.4", 1)), asks=())
    assert one.mirrored().mirrored() == one
    assert one.of(Outcome.NO).of(Outcome.YES) == one
    assert one.of(Outcome.YES) is one
    assert one.mirrored().asks == (Level(Decimal("0.501"), 3 * UNIT), Level(Decimal("0.6"), UNIT))


def test_what_a_book_says_of_itself() -> None:
    one = book()
    assert (one.mid, one.spread, one.crossed) == (Decimal("0.50"), Decimal("0.02"), False)
    assert one.depth(1) == (100 * UNIT, 100 * UNIT)
    assert one.top(1).depth(9) == (100 * UNIT, 100 * UNIT)
    lonely = book(asks=())
    assert (lonely.best_ask, lonely.mid, lonely.spread, lonely.crossed) == (None, None, None, False)
    assert book(bids=levels(("0.51", 1))).crossed


def _fill(side: Side) -> Fill:
    return Fill("f", "o", "m", Outcome.YES, side, Decimal("0.5"), 10 * UNIT, 175_000, START, FillEvidence.BOOK_CROSS)


def test_fees_are_paid_on_top_when_buying_and_taken_out_when_selling() -> None:
    assert _fill(Side.BUY).cash == -5_175_000
    assert _fill(Side.SELL).cash == 4_825_000


def test_an_order_may_spend_its_limit_and_a_sale_nothing() -> None:
    order = Order("m", Outcome.YES, Side.BUY, Decimal("0.5"), 10 * UNIT, TimeInForce.FAK, START, "k")
    assert order.cost == 5 * UNIT
    assert replace(order, side=Side.SELL).cost == 0


def test_a_market_names_its_tokens_and_outcomes() -> None:
    one = market()
    assert (one.seconds, one.token(Outcome.YES), one.token(Outcome.NO)) == (900, "0-yes", "0-no")
    assert [one.label(o) for o in Outcome] == ["Up", "Down"]


def test_the_two_tokens_share_one_dollar() -> None:
    resolution = Resolution("m", Decimal("0.3"), PayoutSource.OFFICIAL, START)
    assert (resolution.pays(Outcome.YES), resolution.pays(Outcome.NO)) == (Decimal("0.3"), Decimal("0.7"))
    assert replace(resolution, payout=None).pays(Outcome.NO) is None
    assert Settlement("m", Outcome.NO, 10 * UNIT, Decimal("0.7"), PayoutSource.OFFICIAL, START).cash == 7 * UNIT


@dataclass(frozen=True)
class _Pair:
    first: Decimal
    second: tuple[int, ...]


def test_equal_values_have_one_text() -> None:
    assert canonical(_Pair(Decimal("0.50"), (1, 2))) == '{"first":"0.5","second":[1,2]}'
    assert digest(_Pair(Decimal("0.5"), (1,))) == digest(_Pair(Decimal("0.500"), (1,)))
    assert canonical({"b": 1, "a": Side.BUY}) == '{"a":"buy","b":1}'
    assert canonical(START) == '"2026-09-28T09:00:00+00:00"'


def test_a_digest_is_the_same_on_every_machine() -> None:
    assert digest({"a": Decimal("1.0")}) == "9afeb0f2b203f254312ec8ded441d0318b7c34c57f8695ede42d2215a30c0960"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_has_no_fixed_text_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no place"):
        plain(value)
    with pytest.raises(TypeError, match="no canonical form"):
        plain(object())


def _day(month: int, day: int) -> datetime:
    return datetime(2026, month, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("opens", "seconds", "kind", "average"),
    [
        (_day(8, 7) - timedelta(minutes=5), 300, PriceKind.INSTANT, 0),
        (_day(8, 7), 300, PriceKind.TWAP, 30),
        (_day(8, 7), 900, PriceKind.TWAP, 60),
        (_day(8, 14) - timedelta(minutes=5), 300, PriceKind.TWAP, 30),
        (_day(8, 14), 300, PriceKind.TWAP, 60),
        (_day(9, 28), 900, PriceKind.TWAP, 60),
    ],
)
def test_the_resolution_rule_is_the_one_of_the_day(
    opens: datetime, seconds: int, kind: PriceKind, average: int
) -> None:
    rule = resolution_rule(opens, seconds)
    assert (rule.kind, rule.average_seconds, rule.tie) == (kind, average, "up")


@pytest.mark.parametrize(
    ("price", "legal"),
    [
        ("0.5", True), ("0.505", False), ("0.039", True), ("0.0395", False), ("0.04", True), ("0.041", False),
        ("0.96", True), ("0.961", True), ("0.999", True), ("0.9995", False), ("0.001", True), ("0", False),
        ("1", False),
    ],
)  # fmt: skip
def test_prices_are_on_a_grid_that_is_finer_near_the_ends(price: str, legal: bool) -> None:
    assert on_grid(Decimal(price), Decimal("0.01")) is legal


def test_the_tick_never_gets_coarser() -> None:
    assert tick_at(Decimal("0.5"), Decimal("0.001")) == Decimal("0.001")
    assert tick_at(Decimal("0.02"), Decimal("0.0001")) == Decimal("0.0001")


@pytest.mark.parametrize(
    ("size", "legal"), [(5 * UNIT, True), (5_010_000, True), (5_005_000, False), (4_990_000, False)]
)
def test_sizes_have_a_minimum_and_a_step(size: int, legal: bool) -> None:
    assert size_allowed(size, 5 * UNIT) is legal
