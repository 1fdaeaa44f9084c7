"""What a search leaves behind: a small value that says how far to lean away from the market, re-read on every tick.

A belief is a shift in log-odds with a standard deviation, never a probability that a model wrote. It is re-evaluated
against a new mid in microseconds and without the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from strategies.logit import logit, sigmoid
from strategies.verification import Checked


@dataclass(frozen=True, slots=True)
class Belief:
    """`shift` and `sd` are log-odds added to the market's own, already shrunk; `support` is the thinnest evidence used.

    `verified_share` is the share of the path's claims that history supports.
    """

    market_id: str
    as_of: datetime
    expires_at: datetime
    shift: float
    sd: float
    verified_share: float
    support: int

    def probability(self, mid: float) -> float:
        """P(YES) where the market's mid is `mid`."""
        return sigmoid(logit(mid) + self.shift) if self.shift else mid

    def spread_at(self, mid: float) -> float:
        """Standard deviation of that probability, by the slope of the logistic curve."""
        p = self.probability(mid)
        return self.sd * p * (1 - p)

    def alive(self, at: datetime) -> bool:
        return self.as_of <= at < self.expires_at


def believe(
    path: Sequence[Checked],
    *,
    market_id: str,
    as_of: datetime,
    expires_at: datetime,
    shrink: float,
    cap: float,
) -> Belief:
    """Combine the supported claims of a path: precision-weighted mean of their shifts, capped, times `shrink`.

    The claims look at the same past windows, so they are averaged and not added up.
    """
    claims = [c for c in path if not c.claim.decides]
    good = [c for c in claims if c.verified and c.claim.effect.sign]
    share = sum(c.verified for c in claims) / len(claims) if claims else 0.0
    if not good:
        return Belief(market_id, as_of, expires_at, 0.0, 0.0, share, 0)
    weights = [1 / c.evidence.shift_sd**2 for c in good]
    mean = sum(w * c.evidence.shift for w, c in zip(weights, good, strict=True)) / sum(weights)
    sd = 1 / math.sqrt(max(weights))
    return Belief(
        market_id,
        as_of,
        expires_at,
        shrink * min(max(mean, -cap), cap),
        shrink * sd,
        share,
        min(c.evidence.support for c in good),
    )
