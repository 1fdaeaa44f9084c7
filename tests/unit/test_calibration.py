"""Calibration: mends what is bent, leaves alone what is straight, and moves little on little evidence."""

import itertools
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strategies.belief import Belief
from strategies.calibration import (
    BETA_FROM,
    IDENTITY,
    ISOTONIC_FROM,
    PLATT_FROM,
    Calibration,
    CalibrationKind,
    fitted,
    learned_weight,
)
from strategies.logistic import learned, logistic, regressed
from strategies.logit import logit, sigmoid
from strategies.score import log_score
from tests.fakes import START
from tests.profiles import examples

GRID = [0.02 + 0.02 * i for i in range(49)]


def world(n: int, bend: float, seed: int = 3) -> tuple[list[float], list[float]]:
    """Forecasts whose log-odds are `bend` times the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1.2, n)
    return [sigmoid(float(bend * x)) for x in true], [float(rng.random() < sigmoid(float(x))) for x in true]


@pytest.mark.parametrize(
    ("n", "kind"),
    [
        (PLATT_FROM - 1, CalibrationKind.IDENTITY),
        (PLATT_FROM, CalibrationKind.PLATT),
        (BETA_FROM, CalibrationKind.BETA),
        (ISOTONIC_FROM - 1, CalibrationKind.BETA),
    ],
)
def test_few_outcomes_get_a_map_of_few_numbers(n: int, kind: CalibrationKind) -> None:
    made = fitted(*world(n, 2.0))
    assert made.kind is kind and (made.n == n or kind is CalibrationKind.IDENTITY)


@pytest.mark.parametrize("n", [400, 900, 6000])
def test_overconfidence_is_mended_out_of_sample(n: int) -> None:
    made = fitted(*world(n, 2.5))
    p, y = world(4000, 2.5, seed=9)
    before, after = log_score(p, y).mean(), log_score([made.applied(q) for q in p], y).mean()
    assert after < before - 0.02


def test_a_bend_that_two_numbers_cannot_mend_takes_isotonic() -> None:
    rng = np.random.default_rng(1)
    p = [float(q) for q in rng.uniform(0.05, 0.95, 8000)]
    y = [float(rng.random() < (0.3 if q < 0.5 else 0.7)) for q in p]
    made = fitted(p, y)
    assert made.kind is CalibrationKind.ISOTONIC
    assert made.applied(0.4) == pytest.approx(0.3, abs=0.06) and made.applied(0.6) == pytest.approx(0.7, abs=0.06)


@pytest.mark.parametrize("n", [60, 700, 3000])
def test_honest_forecasts_are_hardly_touched(n: int) -> None:
    made = fitted(*world(n, 1.0))
    inside = [q for q in GRID if 0.1 <= q <= 0.9]
    assert max(abs(made.applied(q) - q) for q in inside) < 0.06


@examples(60)
@given(st.integers(50, 1200), st.floats(0.2, 3.0), st.integers(0, 99))
@example(846, 3.0, 0)
def test_a_map_rises_and_stays_inside(n: int, bend: float, seed: int) -> None:
    made = fitted(*world(n, bend, seed))
    found = [made.applied(q) for q in (0.0001, *GRID, 0.9999)]
    assert all(0 < q < 1 for q in found)
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(found))


@examples(60)
@given(st.integers(50, 1200), st.floats(0.2, 6.0), st.integers(0, 99), st.floats(0.01, 100))
@example(846, 3.0, 0, 50.0)
def test_the_likeliest_coefficients_are_found_however_far_off_the_forecasts_are(
    n: int, bend: float, seed: int, precision: float
) -> None:
    p, y = world(n, bend, seed)
    x = np.array([[logit(q), 1.0] for q in p])
    found, prior = regressed(x, np.array(y), prior=(1.0, 0.0), precision=precision), np.array([1.0, 0.0])
    slope = x.T @ (np.array(y) - [sigmoid(z) for z in x @ found]) - precision * (found - prior)
    assert np.abs(slope).max() < 1e-6 * n


def test_decisions_that_share_an_outcome_count_once() -> None:
    p, y = world(100, 2.5)
    once, seven = fitted(p, y), fitted(p * 7, y * 7, outcomes=100)
    assert once.kind is seven.kind is CalibrationKind.PLATT
    assert seven.numbers == pytest.approx(once.numbers)


def test_what_the_larger_maps_need_is_loaded_before_they_are_fitted() -> None:
    """In an interpreter of its own: few outcomes load nothing, and half as many as isotonic needs load it."""
    asks = (
        "import sys; from strategies.calibration import prepare; prepare({}); print('sklearn.isotonic' in sys.modules)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", asks.format(n)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for n in (ISOTONIC_FROM // 2 - 1, ISOTONIC_FROM // 2)
    ]
    assert said == ["False", "True"]


def test_outcomes_that_are_all_alike_teach_nothing() -> None:
    assert fitted([0.6] * 100, [1.0] * 100) is IDENTITY


def test_the_weight_starts_where_it_was_put_and_moves_towards_what_was_right() -> None:
    rng = np.random.default_rng(5)
    mids, leans = [0.5] * 4000, [float(s) for s in rng.choice([-1.0, 1.0], 4000)]
    right = [float(rng.random() < sigmoid(0.3 * s)) for s in leans]
    wrong = [float(rng.random() < sigmoid(-0.3 * s)) for s in leans]
    each = range(4000)
    assert learned_weight([], [], [], [], start=0.1) == learned_weight([0], [0.5], [0.0], [1.0], start=0.1) == 0.1
    assert learned_weight(each, mids, leans, right, start=0.1) > 0.2
    assert learned_weight(each, mids, leans, wrong, start=0.1) < 0.01
    assert abs(learned_weight(each[:9], mids[:9], leans[:9], wrong[:9], start=0.1) - 0.1) < 0.01


@given(st.floats(0.05, 0.95), st.floats(-0.5, 0.5), st.floats(0.3, 2.0), st.floats(-1, 1))
def test_calibration_may_take_an_edge_away_and_never_makes_one(mid: float, shift: float, a: float, b: float) -> None:
    made = Calibration(CalibrationKind.PLATT, (a, b), 500)
    held = Belief("m", START, START + timedelta(seconds=60), shift, 0.1, 1.0, 100, made)
    p, raw = held.probability(mid), held.raw(mid)
    assert min(mid, raw) - 1e-12 <= p <= max(mid, raw) + 1e-12
    assert held.calibrated(mid) == pytest.approx(sigmoid(a * logit(raw) + b))


def test_regression_agrees_with_the_one_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(2)
    x = np.column_stack([rng.normal(size=500), rng.normal(size=500)])
    y = (rng.random(500) < 1 / (1 + np.exp(-(0.7 * x[:, 0] - 0.2 * x[:, 1])))).astype(float)
    theirs = LogisticRegression(C=1 / 3.0, fit_intercept=False, tol=1e-10).fit(x, y).coef_[0]
    assert regressed(x, y, prior=(0.0, 0.0), precision=3.0) == pytest.approx(theirs, abs=1e-5)


def test_the_logistic_baseline_believes_the_mid_until_history_says_otherwise() -> None:
    none = np.empty(0)
    assert logistic(learned(none, none, none), mid=0.4, gap=0.3) == pytest.approx(sigmoid(0.4))
    rng = np.random.default_rng(4)
    mids, gaps = rng.normal(size=5000), rng.normal(size=5000)
    paid = (rng.random(5000) < 1 / (1 + np.exp(-(mids - gaps)))).astype(float)
    assert logistic(learned(mids, gaps, paid), mid=0.4, gap=0.3) == pytest.approx(sigmoid(0.1), abs=0.02)
