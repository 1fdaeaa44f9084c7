"""Belief: the result of a search as a shift against the market price, re-evaluated on every tick.

A belief is a shift in log-odds with a standard deviation, never a probability written by a model. It is re-evaluated
against a new mid in microseconds and without the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from strategies.calibration import IDENTITY, Calibration
from strategies.logit import logit, sigmoid
from strategies.verification import HARD_FAILS, Checked


@dataclass(frozen=True, slots=True)
class Belief:
    """`shift` and `sd` are log-odds added to the market's own, already shrunk; `support` is the thinnest evidence used.

    `verified_share` is the share of claims that history supports, among informative ones: claims of an effect, and all
    that history has failed. `calibration` maps the forecast.
    """

    market_id: str
    as_of: datetime
    expires_at: datetime
    shift: float
    sd: float
    verified_share: float
    support: int
    calibration: Calibration = IDENTITY

    def raw(self, mid: float) -> float:
        """P(YES) before calibration at the market's mid `mid`."""
        return sigmoid(logit(mid) + self.shift) if self.shift else mid

    def calibrated(self, mid: float) -> float:
        """P(YES) after calibration: the forecast that is scored."""
        return self.calibration.applied(self.raw(mid))

    def probability(self, mid: float) -> float:
        """P(YES) for trading: of the forecasts before and after calibration the nearer to the market, and the mid
        itself if they lie on different sides of it. Calibration may remove an edge and never creates one."""
        raw, calibrated = self.raw(mid), self.calibrated(mid)
        if (raw - mid) * (calibrated - mid) <= 0:
            return mid
        return min(raw, calibrated, key=lambda p: abs(p - mid))

    def spread_at(self, mid: float) -> float:
        """Standard deviation of that probability, by the slope of the logistic curve."""
        p = self.probability(mid)
        return self.sd * p * (1 - p)

    def alive(self, at: datetime) -> bool:
        return self.as_of <= at < self.expires_at


def lean(path: Sequence[Checked]) -> tuple[float, float, int]:
    """Combine the supported claims of a path: precision-weighted mean of their shifts in log-odds, its standard
    deviation, and the thinnest support; zeros if none is supported.

    The claims look at the same past windows, so they are averaged and not added up, and their errors are taken to be
    the same error: a shared error does not average out.
    """
    good = [c.evidence for c in _supported(path)]
    if not good:
        return 0.0, 0.0, 0
    weights = [1 / e.shift_sd**2 for e in good]
    mean = sum(w * e.shift for w, e in zip(weights, good, strict=True)) / sum(weights)
    sd = sum(w * e.shift_sd for w, e in zip(weights, good, strict=True)) / sum(weights)
    return mean, sd, min(e.support for e in good)


def _supported(path: Sequence[Checked]) -> list[Checked]:
    """Claims that may move a belief: of an effect, and supported."""
    return [c for c in path if c.verified and c.claim.effect.sign]


def parts(path: Sequence[Checked]) -> list[tuple[Checked, float]]:
    """Contribution of each supported claim of a path to its `lean`, in log-odds; they sum to the lean's mean."""
    good = _supported(path)
    weights = [1 / c.evidence.shift_sd**2 for c in good]
    return [(c, w * c.evidence.shift / sum(weights)) for c, w in zip(good, weights, strict=True)]


def believe(
    path: Sequence[Checked],
    *,
    market_id: str,
    as_of: datetime,
    expires_at: datetime,
    shrink: float,
    max_shift: float,
    calibration: Calibration = IDENTITY,
) -> Belief:
    """Belief of a path: its lean times `shrink`, at most `max_shift` log-odds away from the market."""
    # A claim of no effect counts only once it has failed: otherwise a search could raise its verified share with claims
    # that risk nothing.
    claims = [c for c in path if not c.claim.decides and (c.claim.effect.sign or c.verdict in HARD_FAILS)]
    share = sum(c.verified for c in claims) / len(claims) if claims else 0.0
    mean, sd, support = lean(path)
    shift = min(max(shrink * mean, -max_shift), max_shift)
    return Belief(
        market_id=market_id,
        as_of=as_of,
        expires_at=expires_at,
        shift=shift,
        sd=shrink * sd,
        verified_share=share,
        support=support,
        calibration=calibration,
    )
