from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import DataInvalid
from market.fees import FeeSchedule, maker_rebate, schedule
from market.types import UNIT, micro

SUMMER = datetime(2026, 7, 1, tzinfo=UTC)
CRYPTO = schedule("crypto", SUMMER)


@pytest.mark.parametrize(
    ("price", "dollars"),
    [
        ("0.01", "0.0693"), ("0.05", "0.3325"), ("0.1", "0.63"), ("0.2", "1.12"), ("0.3", "1.47"), ("0.4", "1.68"),
        ("0.5", "1.75"), ("0.6", "1.68"), ("0.9", "0.63"), ("0.99", "0.0693"),
    ],
)  # fmt: skip
def test_the_venues_own_table_for_a_hundred_shares(price: str, dollars: str) -> None:
    assert CRYPTO.taker(Decimal(price), 100 * UNIT) == micro(dollars)


def test_the_smallest_charge_is_a_thousandth_of_a_cent() -> None:
    assert CRYPTO.taker(Decimal("0.001"), 10_000) == 10


def test_fees_round_half_up_to_five_decimals() -> None:
    # 0.07 * 0.25 * 1.01 = 0.017675 exactly, half way between two steps.
    assert CRYPTO.taker(Decimal("0.5"), 1_010_000) == micro("0.01768")


@pytest.mark.parametrize("size", [0, -UNIT])
def test_nothing_traded_costs_nothing(size: int) -> None:
    assert CRYPTO.taker(Decimal("0.5"), size) == 0


def test_a_market_without_a_fee_has_no_smallest_charge() -> None:
    assert schedule("zero_fees", SUMMER).taker(Decimal("0.5"), 10_000) == 0


@pytest.mark.parametrize("price", [Decimal(0), Decimal(1)])
def test_certain_shares_trade_free(price: Decimal) -> None:
    assert CRYPTO.taker(price, 100 * UNIT) == 0


def test_a_maker_gets_a_fifth_of_the_fee_it_was_taken_for() -> None:
    assert maker_rebate(CRYPTO, Decimal("0.5"), 100 * UNIT) == micro("0.35")
    assert maker_rebate(schedule("zero_fees", SUMMER), Decimal("0.5"), 100 * UNIT) == 0


def test_the_exponent_is_applied_to_the_odds() -> None:
    old = FeeSchedule(Decimal("0.25"), exponent=2)
    assert old.taker(Decimal("0.5"), 100 * UNIT) == micro("1.5625")


@pytest.mark.parametrize(
    ("day", "rate"),
    [((2026, 3, 30), "0.072"), ((2026, 5, 31), "0.072"), ((2026, 6, 1), "0.07"), ((2026, 9, 28), "0.07")],
)
def test_the_rate_is_the_one_of_the_day(day: tuple[int, int, int], rate: str) -> None:
    assert schedule("crypto", datetime(*day, tzinfo=UTC)).rate == Decimal(rate)


@pytest.mark.parametrize(("category", "year"), [("crypto", 2025), ("cats", 2026)])
def test_an_unknown_fee_is_refused_not_guessed(category: str, year: int) -> None:
    with pytest.raises(DataInvalid, match="no fee schedule is known") as refused:
        schedule(category, datetime(year, 7, 1, tzinfo=UTC))
    assert refused.value.next_step


@given(st.integers(1, 999), st.integers(1, 10**9))
def test_both_tokens_pay_the_same_fee_within_a_step_of_the_exact_one(price: int, hundredths: int) -> None:
    p, size = Decimal(price) / 1000, hundredths * 10_000
    fee = CRYPTO.taker(p, size)
    assert fee == CRYPTO.taker(1 - p, size)
    assert fee % 10 == 0 and fee >= 10
    exact = CRYPTO.per_share(p) * size
    assert fee == 10 or abs(fee - exact) <= 5
