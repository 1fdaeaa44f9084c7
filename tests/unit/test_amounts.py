"""Orders in the venue's terms: as the official client would write them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import DataInvalid
from market.types import UNIT, Order, Outcome, Side, TimeInForce
from tests.fakes import START, market
from tools.polymarket.amounts import amounts, expiration, salt_of, venue_order

BUY = Order(market().id, Outcome.YES, Side.BUY, Decimal("0.51"), 1234 * 10_000, TimeInForce.GTC, START, "d/0")
TICKS = st.sampled_from(["0.1", "0.01", "0.005", "0.0025", "0.001", "0.0001"])


@given(tick=TICKS, steps=st.integers(1, 9_999), hundredths=st.integers(1, 10_000_000), side=st.sampled_from(list(Side)))
def test_resting_orders_are_written_as_the_official_client_writes_them(
    tick: str, steps: int, hundredths: int, side: Side
) -> None:
    from polymarket._internal.actions.orders.limit import _compute_limit_order_amounts

    grid = Decimal(tick)
    price = grid * (steps % int(1 / grid - 1) + 1)
    order = replace(BUY, price=price, size=hundredths * 10_000, side=side)
    theirs = _compute_limit_order_amounts(
        price=price, size=Decimal(hundredths) / 100, side="BUY" if side is Side.BUY else "SELL", tick_size=grid
    )
    assert amounts(order) == theirs


@given(cents=st.integers(1, 99), hundredths=st.integers(200, 10_000_000), tif=st.sampled_from(["fak", "fok"]))
def test_a_purchase_at_once_spends_whole_cents_and_keeps_its_limit(cents: int, hundredths: int, tif: str) -> None:
    price = Decimal(cents) / 100
    order = replace(BUY, price=price, size=hundredths * 10_000, tif=TimeInForce(tif))
    dollars, shares = amounts(order)
    assert dollars % 10_000 == 0 and shares % 100 == 0
    assert order.cost - 10_000 < dollars <= order.cost, "never more than the order may cost"
    steps = Fraction(dollars, shares) * 100
    assert steps.numerator // steps.denominator == cents, "the venue rounds it down to the limit's place on the grid"


def test_what_is_too_small_for_the_venue_is_refused() -> None:
    with pytest.raises(DataInvalid):
        amounts(replace(BUY, price=Decimal("0.01"), size=100_000, tif=TimeInForce.FAK))


def test_the_same_order_is_always_the_same_order_and_another_is_another() -> None:
    first = venue_order(BUY, market(), "0xm", "0xs", 3) if market().yes_token.isdigit() else None
    assert first is None or first == venue_order(BUY, market(), "0xm", "0xs", 3)
    assert salt_of(BUY) == salt_of(replace(BUY)) != salt_of(replace(BUY, key="d/1"))
    assert 0 <= salt_of(BUY) < 2**53 and salt_of(replace(BUY, size=BUY.size + UNIT)) != salt_of(BUY)


@given(seconds=st.integers(0, 100_000))
def test_an_end_is_named_a_minute_late_because_the_venue_ends_it_a_minute_early(seconds: int) -> None:
    named = expiration(replace(BUY, good_until=START + timedelta(seconds=seconds)))
    if seconds < 120:
        assert named == 0, "the venue would refuse it"
    else:
        assert named == int(START.timestamp()) + seconds + 60
    assert expiration(BUY) == 0
