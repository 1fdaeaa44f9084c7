"""Distribution-free prediction bands with guaranteed coverage. Pure.

Split conformal: residuals of a forecast on values it was not fitted on, one more of which is as likely to have any rank
among them as any other. Weights let old residuals count less (Barber, Candes, Ramdas, Tibshirani 2023). Under drift,
`Adaptive` moves the level after each miss (Gibbs, Candes 2021), and needs no assumption at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Band:
    """All values from `low` to `high`, both included; empty if `low` is above `high`."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def quantile(scores: Sequence[float], alpha: float, weights: Sequence[float] | None = None) -> float:
    """Smallest score that a new one exceeds with a probability of at most `alpha`.

    With n equal weights this is the ceil((n + 1)(1 - alpha))-th smallest. The new score itself has the weight 1 and may
    be anything, so the answer is infinite if the others weigh too little. `alpha` of 1 or more gives minus infinity, of
    0 or less infinity. Errors: ValueError for a score that is not a number, a weight outside [0, 1], or another number
    of weights than of scores.
    """
    known = [1.0] * len(scores) if weights is None else list(weights)
    if any(not 0 <= w <= 1 for w in known):
        raise ValueError("a weight is not within [0, 1]")
    if any(math.isnan(score) for score in scores):
        raise ValueError("a score is not a number")
    rows = sorted(zip(scores, known, strict=True))
    if not 0 < alpha < 1:
        return math.inf if alpha <= 0 else -math.inf
    wanted = (1 - alpha) * (math.fsum(known) + 1)
    reached = 0.0
    for score, weight in rows:
        reached += weight
        # The tolerance keeps a sum of weights that should reach the target exactly from missing it by rounding.
        if weight and reached >= wanted * (1 - _ROUNDING):
            return score
    return math.inf


def decayed(count: int, half_life: float) -> list[float]:
    """Weights of `count` scores, oldest first, that halve with every `half_life` of them; the newest is of age one."""
    return [0.5 ** (age / half_life) for age in range(count, 0, -1)]


def band(forecast: float, residuals: Sequence[float], alpha: float, weights: Sequence[float] | None = None) -> Band:
    """Symmetric band around a forecast that holds the value with a probability of at least 1 - `alpha`.

    `residuals` are value minus forecast, of cases the forecast was not fitted on.
    """
    reach = quantile([abs(r) for r in residuals], alpha, weights)
    return Band(forecast - reach, forecast + reach)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Level for `band` that keeps the long-run share of missed values at `target`, for any sequence of values.

    `alpha` may leave [0, 1], where the band is all values or none: this is how it recovers. After T steps the missed
    share is within (max(alpha, 1 - alpha) + rate) / (rate T) of the target, with the first `alpha`.
    """

    target: float
    rate: float
    alpha: float

    @classmethod
    def beginning(cls, target: float, rate: float = 0.01) -> Adaptive:
        return cls(target, rate, target)

    def after(self, missed: bool) -> Adaptive:
        """Level for the next value: wider after a miss, a little narrower after a hit."""
        return replace(self, alpha=self.alpha + self.rate * (self.target - missed))
