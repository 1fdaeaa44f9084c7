"""Real money is earned on paper: enough days, and a profit that is more than luck."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.live.promotion import PromotionRule, daily, judge
from market.types import UNIT, Fill, FillEvidence, Outcome, PayoutSource, Settlement, Side

DAY = date(2026, 11, 1)
RULE = PromotionRule(days=5, level=0.95)


def days(*dollars: float) -> dict[date, int]:
    return {DAY + timedelta(days=n): round(d * UNIT) for n, d in enumerate(dollars)}


@pytest.mark.parametrize(
    ("results", "passed", "said"),
    [
        ((), False, "no paper day"),
        ((3, 4, 3), False, "2 days are still missing"),
        ((3, 4, 3, 5, 4), True, "a day over 5 paper days"),
        ((9, -8, 9, -8, 3), False, "may be nothing"),
        ((-1, -1, -1, -1, -1), False, "may be nothing"),
    ],
)
def test_the_verdict(results: tuple[float, ...], passed: bool, said: str) -> None:
    verdict = judge(days(*results), RULE)
    assert verdict.passed is passed
    assert said in verdict.sentence
    assert verdict.days == len(results)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30))
def test_nobody_is_promoted_on_a_loss_or_on_too_few_days(results: list[float]) -> None:
    verdict = judge(days(*results), RULE)
    if sum(results) <= 0 or len(results) < RULE.days:
        assert not verdict.passed


def test_a_day_is_what_its_markets_earned_after_what_they_cost() -> None:
    at = datetime(2026, 11, 1, 23, 59, tzinfo=UTC)

    def fill(market: str) -> Fill:
        return Fill(market, "o", market, Outcome.YES, Side.BUY, Decimal("0.5"), UNIT, 0, at, FillEvidence.BOOK_CROSS)

    def paid(market: str, when: datetime, size: int) -> Settlement:
        return Settlement(market, Outcome.YES, size, Decimal(1), PayoutSource.OFFICIAL, when)

    fills = [fill("a"), fill("b"), fill("open")]
    settled = [paid("a", at, 3 * UNIT), paid("b", at + timedelta(minutes=2), 0), paid("a", at, UNIT)]
    costs = {f.market_id: f.cash for f in fills}
    assert daily(fills, settled) == {
        DAY: 4 * UNIT + costs["a"],
        DAY + timedelta(days=1): costs["b"],
    }
