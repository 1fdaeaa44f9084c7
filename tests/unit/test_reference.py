"""Reference prices as arrays give back the ticks they were made of, exactly and no earlier than received."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.reference import ReferenceSeries
from market.clock import from_ms, to_ms
from market.feed import ReferenceTick
from tests.fakes import START, after

prices = st.builds(lambda units: Decimal(units).scaleb(-18), st.integers(1, 10**25))


@st.composite
def ticks(draw: st.DrawFn) -> list[ReferenceTick]:
    """Ticks in order of receipt, of any precision, some late and some in the same instant."""
    made, received = [], to_ms(START)
    for step in draw(st.lists(st.integers(0, 3_000), max_size=20)):
        received += step
        made.append(ReferenceTick(from_ms(received - draw(st.integers(0, 5_000))), from_ms(received), draw(prices)))
    return made


@given(ticks(), st.integers(-10, 70_000), st.integers(-10, 70_000))
def test_arrays_give_back_the_ticks_they_were_made_of(made: list[ReferenceTick], a: int, b: int) -> None:
    series, base = ReferenceSeries.of(made), to_ms(START)
    first, last = base + min(a, b), base + max(a, b)
    assert series.between(base - 1, base + 10**6) == made
    assert series.between(first, last) == [t for t in made if first < to_ms(t.received_at) <= last]
    assert series.until(last).between(base - 1, base + 10**6) == series.between(base - 1, last)


def test_eighteen_decimals_survive() -> None:
    price = Decimal("63304.200301195075123456")
    (tick,) = ReferenceSeries.of([ReferenceTick(START, START, price)]).between(to_ms(START) - 1, to_ms(START))
    assert tick.price == price


@pytest.mark.parametrize("price", ["0", "-1", "NaN", "Infinity", "1e18", "1.0000000000000000001"])
def test_what_cannot_be_kept_exactly_is_refused(price: str) -> None:
    with pytest.raises(ValueError, match=r"price|finer"):
        ReferenceSeries.of([ReferenceTick(START, START, Decimal(price))])


def test_ticks_come_in_order_of_receipt() -> None:
    def tick(at: datetime) -> ReferenceTick:
        return ReferenceTick(at - timedelta(seconds=9), at, Decimal(1))

    with pytest.raises(ValueError, match="order of receipt"):
        ReferenceSeries.of([tick(after(2)), tick(after(1))])
