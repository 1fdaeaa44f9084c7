"""Bands hold what they promise: exactly by rank, on average by weight, and in the long run against any opponent."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.conformal import Adaptive, Band, band, decayed, quantile
from tests.profiles import examples

SCORES = st.lists(st.floats(0, 1e9), min_size=1, max_size=40)
PERCENT = st.integers(1, 99)


@given(SCORES, PERCENT)
def test_equal_weights_give_the_finite_sample_rank(scores: list[float], percent: int) -> None:
    rank = math.ceil((len(scores) + 1) * (1 - Fraction(percent, 100)))
    expected = sorted(scores)[rank - 1] if rank <= len(scores) else math.inf
    assert quantile(scores, percent / 100) == expected
    assert quantile(scores, percent / 100, [1.0] * len(scores)) == expected


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=40, unique=True), PERCENT)
def test_of_equally_likely_values_at_most_the_promised_share_is_missed(scores: list[float], percent: int) -> None:
    """Leave each out in turn: the average over who is the new one is the chance that the theorem bounds."""
    missed = sum(score > quantile([*scores[:i], *scores[i + 1 :]], percent / 100) for i, score in enumerate(scores))
    assert Fraction(missed, len(scores)) <= Fraction(percent, 100)
    assert Fraction(missed, len(scores)) > Fraction(percent, 100) - Fraction(1, len(scores))


@given(SCORES, PERCENT, st.data())
def test_the_weighted_quantile_is_the_first_to_reach_its_share(
    scores: list[float], percent: int, data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.integers(0, 8), min_size=len(scores), max_size=len(scores)))
    wanted = (1 - Fraction(percent, 100)) * (Fraction(sum(weights), 8) + 1)
    below = [
        s for s in set(scores) if Fraction(sum(w for x, w in zip(scores, weights, strict=True) if x <= s), 8) >= wanted
    ]
    assert quantile(scores, percent / 100, [w / 8 for w in weights]) == min(below, default=math.inf)


@given(SCORES)
def test_a_level_beyond_its_range_is_all_or_nothing(scores: list[float]) -> None:
    assert quantile(scores, 0.0) == quantile(scores, -0.5) == math.inf
    assert quantile(scores, 1.0) == quantile(scores, 1.5) == -math.inf
    assert 0.0 not in band(0.0, scores, 1.2)
    assert band(0.0, scores, 0.0) == Band(-math.inf, math.inf)


def test_decayed_weights_follow_a_scale_that_drifts() -> None:
    """Noise that doubles every 200 steps: old residuals make a band too narrow, decayed ones do not."""
    source, alpha = random.Random(7), 0.1
    noise = [source.gauss(0, 2 ** (t / 200)) for t in range(2000)]
    weights = decayed(400, 30)
    plain = aged = 0
    for t in range(400, 2000):
        plain += noise[t] not in band(0.0, noise[:t], alpha)
        aged += noise[t] not in band(0.0, noise[t - 400 : t], alpha, weights)
    assert plain / 1600 > 0.25
    assert aged / 1600 < 0.13


@examples(50)
@given(st.integers(1, 99), st.sampled_from([0.005, 0.05, 0.3]), st.integers(0, 2**32), st.integers(1, 400))
def test_the_adaptive_level_holds_against_any_opponent(percent: int, rate: float, seed: int, steps: int) -> None:
    """The opponent sees the band and hits or misses as it likes, except where the band is all or nothing."""
    source, target = random.Random(seed), percent / 100
    level, missed = Adaptive.beginning(target, rate), 0
    bias = source.random()
    for _ in range(steps):
        miss = level.alpha >= 1 or (level.alpha > 0 and source.random() < bias)
        missed += miss
        level = level.after(miss)
    assert abs(missed / steps - target) <= (max(target, 1 - target) + rate) / (rate * steps) + 1e-9


def test_an_adaptive_band_finds_back_after_the_world_has_changed() -> None:
    source = random.Random(3)
    level, missed = Adaptive.beginning(0.1, 0.02), []
    values = [source.gauss(0, 1 if t < 500 else 4) for t in range(3000)]
    for t in range(300, 3000):
        missed.append(values[t] not in band(0.0, values[t - 300 : t], level.alpha))
        level = level.after(missed[-1])
    assert abs(sum(missed[1000:]) / len(missed[1000:]) - 0.1) < 0.015


@pytest.mark.parametrize(
    ("scores", "weights", "says"),
    [([1.0], [1.5], "within"), ([1.0], [-0.1], "within"), ([math.nan], None, "not a number"), ([1.0], [], "zip")],
)
def test_what_cannot_be_ranked_is_refused(scores: list[float], weights: list[float] | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        quantile(scores, 0.1, weights)
