"""Probabilities and log-odds; independent of markets."""

from __future__ import annotations

import math

_EDGE = 1e-4


def logit(p: float) -> float:
    """Log-odds of `p`, clipped to [1e-4, 1 - 1e-4]."""
    p = min(max(p, _EDGE), 1 - _EDGE)
    return math.log(p / (1 - p))


def sigmoid(x: float) -> float:
    # The two forms are equal; each is used where its exponential cannot overflow.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
