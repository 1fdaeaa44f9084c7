"""Reference price of a window in the units of features. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import NormalDist

from market.feed import ReferenceTick
from market.types import Market
from strategies.baselines import p_up, realised_volatility
from strategies.features import ReferenceView

LEAD = timedelta(seconds=60)
"""Span of the reference price's own momentum."""
_FARTHEST = 4.0
_NORMAL = NormalDist()


def reference_view(market: Market, ticks: Sequence[ReferenceTick], at: datetime) -> ReferenceView | None:
    """The view as of `at` from ticks received by then; None if no diffusion can be computed from them."""
    probability = p_up(market, ticks, at)
    sigma = realised_volatility(ticks)
    if probability is None or sigma is None:
        return None
    # The probability of four standard deviations, so that the inverse below stays finite and within them.
    edge = 0.5 * math.erfc(_FARTHEST / math.sqrt(2))
    distance = _NORMAL.inv_cdf(min(max(probability, edge), 1 - edge))
    return ReferenceView(probability, distance, _lead(ticks, sigma))


def _lead(ticks: Sequence[ReferenceTick], sigma: float) -> float:
    """Move of the last minute over its standard deviation, clipped to four either way."""
    ordered = sorted(ticks, key=lambda t: t.at)
    last = ordered[-1]
    # The whole series if it is shorter than a minute.
    before = next((t for t in reversed(ordered) if last.at - t.at >= LEAD), ordered[0])
    seconds = (last.at - before.at).total_seconds()
    if seconds <= 0:
        return 0.0
    moved = math.log(last.price / before.price) / (sigma * math.sqrt(seconds))
    return min(max(moved, -_FARTHEST), _FARTHEST)
