"""Losses and intervals against values worked out by hand and against simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.score import block_interval, brier, days_for_verdict, log_score

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
