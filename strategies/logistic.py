"""Logistic regression with a normal prior, by Newton's method; and the baseline that combines diffusion and market
price. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strategies.logit import sigmoid

Floats = NDArray[np.float64]

_STEPS = 50
_SETTLED = 1e-10
_FARTHEST = 30.0
_HALVINGS = 30
_ROUNDING = 1e-12


def regressed(x: Floats, y: Floats, *, prior: Sequence[float], precision: float) -> Floats:
    """Maximum a posteriori coefficients (d,) of the outcomes `y` (n,) in [0, 1] on the columns of `x` (n, d), given a
    normal prior around `prior` with `precision` for each; an outcome adds p (1 - p) times its squared column to
    that."""
    centre = np.asarray(prior, np.float64)
    w = centre.copy()
    reached = _likelihood(x, y, w, centre, precision)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -_FARTHEST, _FARTHEST)))
        slope = x.T @ (y - p) - precision * (w - centre)
        curve = (x * (p * (1 - p))[:, None]).T @ x + precision * np.eye(len(w))
        step = np.linalg.solve(curve, slope)
        # A whole step may land beyond the top, where the next one leads farther away: forecasts that are much too sure
        # once made a slope of 37 out of one of a third. It is halved until it does not lead down; where none does not,
        # this is the top.
        for _ in range(_HALVINGS):
            found = _likelihood(x, y, w + step, centre, precision)
            if found >= reached - _ROUNDING * abs(reached):
                break
            step /= 2
        else:
            return w
        w, reached = w + step, found
        if float(np.abs(step).max()) < _SETTLED:
            break
    return w


def _likelihood(x: Floats, y: Floats, w: Floats, centre: Floats, precision: float) -> float:
    """Log posterior up to a constant: concave, so that every ascent ends at the only maximum."""
    odds = x @ w
    return float((y * odds - np.logaddexp(0.0, odds)).sum() - precision / 2 * ((w - centre) ** 2).sum())


def learned(mids: Floats, gaps: Floats, payouts: Floats) -> Floats:
    """Coefficients (3,) for `logistic` from past windows. `mids` are the market's log-odds, `gaps` their excess over
    the diffusion's (0 without a reference), `payouts` what YES paid; arrays are (n,). The prior is that the mid is
    right, worth about a hundred windows."""
    x = np.column_stack([mids, gaps, np.ones(len(mids))])
    return regressed(x, payouts, prior=(1.0, 0.0, 0.0), precision=25.0)


def logistic(coefficients: Floats, *, mid: float, gap: float) -> float:
    """P(YES) of a window with the market at `mid` in log-odds, and `gap` above the diffusion."""
    return sigmoid(float(coefficients @ np.array([mid, gap, 1.0])))
