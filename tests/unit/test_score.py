"""Losses and intervals against values worked out by hand and against simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.score import (
    block_interval,
    brier,
    clark_west,
    days_for_verdict,
    log_score,
    reliability,
    risk_by_coverage,
)

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=50)


def test_by_hand() -> None:
    assert brier([0.8, 0.3], [1, 0]).tolist() == pytest.approx([0.04, 0.09])
    assert log_score([0.8, 0.3], [1, 0]).tolist() == pytest.approx([-math.log(0.8), -math.log(0.7)])


@given(probabilities)
def test_log_score_is_finite_and_the_truth_beats_every_other_forecast(p: list[float]) -> None:
    y = [float(x > 0.5) for x in p]
    assert np.isfinite(log_score(p, y)).all()
    assert (log_score(y, y) <= log_score(p, y) + 1e-12).all()


def test_an_interval_covers_the_mean_of_correlated_series() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(60):
        noise = np.repeat(rng.normal(size=60), 5)
        made = block_interval(noise, block=5, draws=400)
        assert made is not None and made.low <= made.mean <= made.high
        hits += made.low <= 0 <= made.high
    assert hits >= 48


def test_blocks_widen_the_interval_of_correlated_losses() -> None:
    series = np.repeat(np.random.default_rng(3).normal(size=40), 10)
    alone, blocked = block_interval(series, block=1), block_interval(series, block=10)
    assert alone and blocked and blocked.high - blocked.low > 1.5 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_interval_and_nothing_gives_none() -> None:
    series = np.arange(20.0)
    assert block_interval(series, block=3, seed=4) == block_interval(series, block=3, seed=4)
    assert block_interval(np.array([]), block=3) is None


def test_days_to_a_verdict() -> None:
    gains = np.array([0.01, -0.008, 0.012, -0.002] * 50)
    days = days_for_verdict(gains, per_day=288)
    assert days is not None and days > 0
    assert days_for_verdict(-gains, per_day=288) is None
    assert days_for_verdict(np.zeros(10), per_day=288) is None


def test_a_forecast_with_information_is_told_from_one_with_noise() -> None:
    """Under the null the p-value is as good as uniform; with information it is small."""
    chance = np.random.default_rng(5)
    null, real = [], []
    names = [str(n) for n in range(300)]
    for _ in range(200):
        truth = chance.uniform(0.2, 0.8, 300)
        y = (chance.random(300) < truth).astype(float)
        mid = np.clip(truth - 0.1, 0, 1)
        null.append(clark_west((truth + chance.normal(0, 0.1, 300)).tolist(), truth.tolist(), y.tolist(), names))
        real.append(clark_west(truth.tolist(), mid.tolist(), y.tolist(), names))
    assert 0.02 < np.mean([p is not None and p < 0.05 for p in null]) < 0.10
    assert np.mean([p is not None and p < 0.05 for p in real]) > 0.6
    assert clark_west([0.5] * 19, [0.4] * 19, [1.0] * 19, names[:19]) is None
    assert clark_west([0.5] * 30, [0.5] * 30, [1.0] * 30, names[:30]) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_reliability_counts_every_forecast_once_and_its_interval_holds_the_share(
    rows: list[tuple[float, bool]],
) -> None:
    p, y = [p for p, _ in rows], [float(t) for _, t in rows]
    bins = reliability(p, y)
    assert sum(b.n for b in bins) == len(rows)
    assert sum(b.n * b.share for b in bins) == pytest.approx(sum(y))
    assert sum(b.n * b.forecast for b in bins) == pytest.approx(sum(p))
    for b in bins:
        assert -1e-12 <= b.low <= b.share + 1e-12 and b.share - 1e-12 <= b.high <= 1 + 1e-12


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5)), min_size=1, max_size=60))
def test_risk_ends_at_the_mean_loss_and_begins_with_the_surest(rows: list[tuple[float, float]]) -> None:
    losses, sure = np.array([loss for loss, _ in rows]), [s for _, s in rows]
    curve = risk_by_coverage(losses, sure)
    assert curve[-1][0] == 1.0 and curve[-1][1] == pytest.approx(float(losses.mean()))
    surest = losses[np.array(sure) == max(sure)]
    assert list(curve[0]) == pytest.approx([len(surest) / len(rows), float(surest.mean())])
    assert [c for c, _ in curve] == sorted({c for c, _ in curve})
