"""Attribution of fills: every sum adds up, and luck is called luck."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evaluation.judgement import JudgedTrade, days_of, earned, judge, market_sharpe
from market.types import UNIT, Fill, FillEvidence, Outcome, PayoutSource, Resolution, Side
from strategies.score import deflated_sharpe, sharpe
from tests.fakes import after, market


def trade(number: int, *, price: str = "0.5", won: bool = True, mid: str | None = "0.5", fee: int = 0) -> JudgedTrade:
    """Ten YES shares bought in the window of that number."""
    window = market(number)
    fill = Fill(
        id=f"{number}-1", order_id=str(number), market_id=window.id, outcome=Outcome.YES, side=Side.BUY,
        price=Decimal(price), size=10 * UNIT, fee=fee, at=window.closes_at - timedelta(seconds=60),
        evidence=FillEvidence.BOOK_CROSS, maker=False,
    )  # fmt: skip
    ended = Resolution(window.id, Decimal(won), PayoutSource.OFFICIAL, window.closes_at)
    return JudgedTrade(fill, window.closes_at, earned(fill, ended), None if mid is None else Decimal(mid))


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["0.2", "0.5", "0.81"]), st.booleans(), st.integers(0, 99)),
        min_size=1,
        max_size=30,
    )
)
def test_every_view_adds_up_to_the_whole(rows: list[tuple[int, str, bool, int]]) -> None:
    trades = [trade(n, price=p, won=w, fee=fee) for n, p, w, fee in rows]
    found = judge(trades, days=1.0)
    assert found.pnl == sum(t.pnl or 0 for t in trades)
    for groups in found.by.values():
        assert sum(g.pnl for g in groups) == found.pnl
        assert sum(g.fills for g in groups) == found.fills == len(rows)
        assert sum(g.fees for g in groups) == found.fees
    totals = [0, *(p.total for p in found.equity)]
    assert totals[-1] == found.pnl
    assert found.drawdown == max(max(totals[: n + 1]) - at for n, at in enumerate(totals))
    assert [p.at for p in found.equity] == sorted(p.at for p in found.equity)
    assert found.markets == len({n for n, *_ in rows})


def test_rebates_are_told_apart_and_days_under_a_dollar_are_not_paid() -> None:
    small, large = (replace(trade(n), rebate=amount) for n, amount in ((0, 600_000), (1, 500_000)))
    assert judge([small], days=1.0).rebates == 0
    both = judge([small, large], days=1.0)
    assert both.rebates == 1_100_000 and both.pnl == judge([trade(0), trade(1)], days=1.0).pnl


def test_what_has_no_outcome_is_counted_and_not_judged() -> None:
    unknown = replace(trade(1), pnl=None)
    found = judge([trade(0), unknown], days=1.0)
    assert (found.fills, found.open, found.markets, found.pnl) == (2, 1, 1, 5 * UNIT)
    assert judge([unknown], days=1.0).per_market is None
    assert judge([], days=0.0).by_chance is None


def test_a_fill_at_the_ask_is_overstated_by_half_the_spread_and_the_fee() -> None:
    assert judge([trade(0, price="0.52", mid="0.50", fee=170_000)], days=1.0).overstated == 200_000 + 170_000
    assert judge([trade(0, mid=None)], days=1.0).overstated is None


def test_few_favourites_that_all_won_are_no_skill() -> None:
    found = judge([trade(n, price="0.78", mid="0.78") for n in range(5)], days=1.0)
    assert found.per_market is not None
    assert found.per_market.low > 0  # what an interval alone would say
    assert found.by_chance == pytest.approx(0.78**5, abs=0.02)
    varied = judge([trade(n, price=f"0.{70 + n}", mid="0.78") for n in range(5)], days=1.0)
    assert (varied.deflated, varied.days) == (None, None)


def test_many_winners_at_even_odds_are_not_chance_and_a_loser_is() -> None:
    won = judge([trade(n) for n in range(20)], days=1.0)
    assert won.by_chance is not None and won.by_chance < 0.001
    lost = judge([trade(n, won=False) for n in range(20)], days=1.0)
    assert lost.by_chance == 1.0
    assert lost.days is None


def test_luck_grows_with_what_was_tried() -> None:
    values = np.random.default_rng(3).normal(0.2, 1.0, 200)
    ratio = sharpe(values)
    assert ratio is not None
    alone = deflated_sharpe(values, [ratio])
    skew, kurtosis = (float((((values - values.mean()) / values.std()) ** n).mean()) for n in (3, 4))
    z = ratio * math.sqrt(199 / (1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2))
    assert alone == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)))
    among = [deflated_sharpe(values, [ratio, *np.random.default_rng(4).normal(0, 0.1, n)]) for n in (3, 30, 300)]
    chances = [alone, *among]
    assert all(a is not None and b is not None and a > b for a, b in pairwise(chances))


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_what_does_not_vary_has_no_ratio(values: list[float]) -> None:
    assert sharpe(np.array(values)) is None
    assert deflated_sharpe(np.array(values), [0.1]) is None


def test_a_ratio_is_of_markets_not_of_fills() -> None:
    assert market_sharpe([trade(0), trade(0), trade(1, won=False)]) == pytest.approx(2.5 / (15 / math.sqrt(2)))


def test_time_that_several_markets_share_counts_once() -> None:
    windows = [market(0), market(1), replace(market(1), opens_at=after(600))]
    assert days_of(windows) == pytest.approx(1800 / 86_400)
    assert days_of([market(0), market(9)]) == pytest.approx(1800 / 86_400)
