"""Calibration of forecasts: maps fitted on past decisions and their outcomes, including decisions that abstained, since
their outcomes cost nothing. Pure; the caller passes only outcomes known at the time.

Few outcomes get a map with few parameters, and every map is drawn towards the identity by `PATIENCE` outcomes' worth:
Platt's two parameters first, beta calibration's three from `BETA_FROM` outcomes (it contains the identity), isotonic
regression from `ISOTONIC_FROM`, where it does better than beta on the last fifth.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from strategies.logistic import regressed
from strategies.logit import logit, sigmoid
from strategies.score import log_score

Floats = NDArray[np.float64]

PLATT_FROM, BETA_FROM, ISOTONIC_FROM = 50, 500, 1000
PATIENCE = 200.0
_KNOTS = 64


class CalibrationKind(StrEnum):
    IDENTITY = "identity"
    PLATT = "platt"
    BETA = "beta"
    ISOTONIC = "isotonic"


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted map of probabilities, stored with every decision that used it.

    Platt: log-odds = a x + b with x the input log-odds, `numbers` (a, b). Beta: a ln p - b ln(1 - p) + c, `numbers` (a,
    b, c). Isotonic: log-odds interpolated between knots, `numbers` the knots' places, then their heights. `n` is the
    number of independent outcomes in the fit.
    """

    kind: CalibrationKind = CalibrationKind.IDENTITY
    numbers: tuple[float, ...] = ()
    n: int = 0

    def applied(self, p: float) -> float:
        """The calibrated probability."""
        if self.kind is CalibrationKind.IDENTITY:
            return p
        if self.kind is CalibrationKind.ISOTONIC:
            half = len(self.numbers) // 2
            return sigmoid(_between(logit(p), self.numbers[:half], self.numbers[half:]))
        if self.kind is CalibrationKind.PLATT:
            a, b = self.numbers
            return sigmoid(a * logit(p) + b)
        a, b, c = self.numbers
        # `logit` keeps away from 0 and 1, so that the logarithms are finite.
        q = sigmoid(logit(p))
        return sigmoid(a * math.log(q) - b * math.log(1 - q) + c)


IDENTITY = Calibration()


def fitted(p: Sequence[float], y: Sequence[float], *, outcomes: int | None = None) -> Calibration:
    """Fit the map that the number of outcomes allows. `p` are forecasts of P(YES), `y` what YES paid, in order of time;
    `outcomes` is the number of independent ones (forecasts about one window share its outcome), by default all."""
    n = len(p) if outcomes is None else outcomes
    if n < PLATT_FROM or len(set(y)) < 2:
        return IDENTITY
    if n < BETA_FROM:
        return _platt(p, y, n)
    if n < ISOTONIC_FROM:
        return _beta(p, y, n)
    return _better(p, y, n)


def prepare(outcomes: int) -> None:
    """Import the dependencies of the map for that many outcomes, or twice as many: the first import takes a second,
    which would block an event loop."""
    if 2 * outcomes >= ISOTONIC_FROM:
        import sklearn.isotonic  # noqa: F401


def _better(p: Sequence[float], y: Sequence[float], n: int) -> Calibration:
    """Beta, or isotonic if it does better on the last fifth of the outcomes than beta fitted without them."""
    cut = len(p) * 4 // 5
    if len(set(y[:cut])) < 2:
        return _beta(p, y, n)
    losses = [
        float(log_score([made.applied(q) for q in p[cut:]], y[cut:]).mean())
        for made in (_isotonic(p[:cut], y[:cut], n), _beta(p[:cut], y[:cut], n))
    ]
    return _isotonic(p, y, n) if losses[0] < losses[1] else _beta(p, y, n)


def _platt(p: Sequence[float], y: Sequence[float], n: int) -> Calibration:
    x = np.array([[logit(q), 1.0] for q in p])
    return Calibration(CalibrationKind.PLATT, _coefficients(x, y, (1.0, 0.0), n), n)


def _beta(p: Sequence[float], y: Sequence[float], n: int) -> Calibration:
    inside = [sigmoid(logit(q)) for q in p]
    x = np.array([[math.log(q), -math.log(1 - q), 1.0] for q in inside])
    numbers = _coefficients(x, y, (1.0, 1.0, 0.0), n)
    # A calibration must not reverse the order of forecasts.
    if min(numbers[:2]) < 0:  # not rising everywhere: two numbers have to do
        return _platt(p, y, n)
    return Calibration(CalibrationKind.BETA, numbers, n)


def _coefficients(x: Floats, y: Sequence[float], identity: Sequence[float], n: int) -> tuple[float, ...]:
    """Regression coefficients, drawn to the identity with the weight of `PATIENCE` independent outcomes at even odds.
    Rows that share an outcome carry less information than their number, so the prior is scaled by the same factor."""
    # An outcome at even odds adds p (1 - p) = 1/4 to the curvature.
    precision = PATIENCE / 4 * len(y) / n
    return tuple(map(float, regressed(x, np.asarray(y, np.float64), prior=identity, precision=precision)))


def _isotonic(p: Sequence[float], y: Sequence[float], n: int) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    x = np.array([logit(q) for q in p])
    steps = IsotonicRegression(y_min=1e-3, y_max=1 - 1e-3, out_of_bounds="clip").fit(x, np.asarray(y, np.float64))
    places = np.unique(np.quantile(x, np.linspace(0, 1, _KNOTS)))
    own = np.array([logit(float(q)) for q in steps.predict(places)])
    weight = n / (n + PATIENCE)
    heights = weight * own + (1 - weight) * places
    return Calibration(CalibrationKind.ISOTONIC, (*map(float, places), *map(float, heights)), n)


def _between(x: float, places: Sequence[float], heights: Sequence[float]) -> float:
    """Interpolate linearly between knots, and parallel to the identity outside them."""
    if x <= places[0]:
        return heights[0] + x - places[0]
    if x >= places[-1]:
        return heights[-1] + x - places[-1]
    at = bisect_left(places, x)
    share = (x - places[at - 1]) / (places[at] - places[at - 1])
    return heights[at - 1] + share * (heights[at] - heights[at - 1])


def learned_weight(
    windows: Sequence[int],
    mids: Sequence[float],
    leans: Sequence[float],
    y: Sequence[float],
    *,
    start: float,
    most: float = 0.3,
) -> float:
    """Learned weight of the verified lean: the weight in [0, `most`] that would have scored best on past decisions,
    drawn towards `start` by `PATIENCE` windows that leaned. `leans` are log-odds before shrinking; the decisions of one
    of the `windows` share its outcome and count as one."""
    leaned = [(w, logit(m), s, o) for w, m, s, o in zip(windows, mids, leans, y, strict=True) if s]
    if not leaned:
        return start
    numbers, x, s, o = np.array(leaned).T
    _, window, decisions = np.unique(numbers, return_inverse=True, return_counts=True)
    grid = np.linspace(0.0, most, 61)
    at = x + np.outer(grid, s)
    losses = (np.logaddexp(0.0, at) - at * o) @ (1 / decisions[window])
    best = float(grid[int(losses.argmin())])
    trust = len(decisions) / (len(decisions) + PATIENCE)
    return trust * best + (1 - trust) * start
