"""Features of a book's recent past, in closed buckets. Pure functions of bars, without state.

Every feature is computed from bars of `STEP` seconds that closed at or before the instant, and if there is a reference
price, from ticks received by then; so that the row stored for a past window and the view of the present one are the
same function of the same kind of data. Thresholds are in dollars of probability, set by the venue's tick of 0.01 (a
move of less than two ticks is no move), and in standard deviations of the reference price. A feature that cannot be
computed is absent: book-only recordings have no reference features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from market.feed import Bar
from market.types import UNIT, Micro
from strategies.logit import logit

STEP = 5
"""Seconds per bar."""
LOOKBACK = 60
"""Bars per computation: five minutes."""

BUCKETS: Mapping[str, tuple[str, ...]] = {
    "trend": ("trending", "reverting", "noisy"),
    "volatility": ("calm", "active", "wild"),
    "range": ("bottom", "middle", "top"),
    "level": ("low", "even", "high"),
    "time": ("early", "half", "late"),
    "drift": ("down", "flat", "up"),
    "momentum": ("falling", "steady", "rising"),
    "imbalance": ("sellers", "balanced", "buyers"),
    "pressure": ("fading", "stable", "building"),
    "spread": ("tight", "wide"),
    "bias": ("below", "near", "above"),
    "activity": ("quiet", "busy"),
    "distance": ("under", "at", "over"),
    "lead": ("falling", "steady", "rising"),
    "gap": ("cheap", "fair", "dear"),
}
"""Every feature that a claim may name, with its buckets from low to high."""

SPLITS: Mapping[str, tuple[float, float]] = {
    "volatility": (1_500, 6_000),
    "range": (1 / 3, 2 / 3),
    "level": (350_000, 650_000),
    "time": (1 / 3, 2 / 3),
    "drift": (-20_000, 20_000),
    "momentum": (-20_000, 20_000),
    "imbalance": (-0.25, 0.25),
    "pressure": (-0.25, 0.25),
    "bias": (-15_000, 15_000),
    "distance": (-0.5, 0.5),
    "lead": (-1.0, 1.0),
    "gap": (-0.1, 0.1),
}
"""Boundaries between the buckets of a number; features that are not here have rules of their own."""

SCALES: Mapping[str, float] = {
    "level": 500_000,
    "time": 0.5,
    "drift": 60_000,
    "momentum": 40_000,
    "volatility": 5_000,
    "range": 0.5,
    "trend": 0.5,
    "imbalance": 0.5,
    "pressure": 0.5,
    "spread": 10_000,
    "bias": 40_000,
    "activity": 1.0,
    "distance": 1.0,
    "lead": 1.0,
    "gap": 0.5,
}
"""Units of distance of the numbers behind the buckets, in the order in which history stores them. Fixed, so that no
later row affects what was near."""


@dataclass(frozen=True, slots=True)
class ReferenceView:
    """Reference price as of an instant, in standard deviations: `probability` is the diffusion's P(YES), `distance` the
    price's lead over the price to beat for the time that is left, `lead` its last minute's move."""

    probability: float
    distance: float
    lead: float


@dataclass(frozen=True, slots=True)
class Features:
    """`buckets` holds each feature that could be computed, `state` the numbers behind them in the order of `SCALES` (0
    for a missing one); `mid` is the YES mid in micro-dollars, `diffusion` the reference price's P(YES)."""

    mid: Micro
    seconds_left: int
    buckets: Mapping[str, str]
    state: tuple[float, ...] = ()
    diffusion: float | None = None


def features(
    bars: Sequence[Bar], seconds_left: int, window: int, reference: ReferenceView | None = None
) -> Features | None:
    """Features at the close of the last bar, or None if the last bar has no two-sided book.

    `bars` are consecutive, oldest first; `window` is the market's length in seconds.
    """
    recent = list(bars[-LOOKBACK:])
    if not recent or (mid := _mid(recent[-1])) is None:
        return None
    mids = [m for b in recent if (m := _mid(b)) is not None]
    numbers = {"level": float(mid), "time": 1 - seconds_left / window, **_book_numbers(recent)}
    # A minute of quotes: shorter paths give ratios of a few ticks.
    if len(mids) >= 12:
        numbers |= _path_numbers(mids)
    if reference is not None:
        numbers |= _reference_numbers(reference, mid)
    buckets = {name: _bucket(name, number) for name, number in sorted(numbers.items())}
    if "trend" in buckets:
        buckets["trend"] = _trend(mids)
    state = tuple(numbers.get(name, 0.0) for name in SCALES)
    return Features(mid, seconds_left, buckets, state, reference.probability if reference else None)


def _bucket(name: str, number: float) -> str:
    names = BUCKETS[name]
    if name in SPLITS:
        low, high = SPLITS[name]
        return names[0] if number < low else names[2] if number > high else names[1]
    edge = 10_000 if name == "spread" else 0
    return names[-1] if number > edge else names[0]


def _mid(bar: Bar) -> Micro | None:
    if bar.bid is None or bar.ask is None or bar.bid >= bar.ask:
        return None
    return (bar.bid + bar.ask) // 2


def _book_numbers(bars: Sequence[Bar]) -> dict[str, float]:
    last = bars[-1]
    # 13 bars back is one minute: 12 steps of five seconds.
    now, before = _imbalance(last), _imbalance(bars[max(0, len(bars) - 13)])
    lately, all_along = sum(b.updates for b in bars[-12:]), sum(b.updates for b in bars) / len(bars) * 12
    return {
        "spread": float((last.ask or UNIT) - (last.bid or 0)),
        "imbalance": now,
        "pressure": now - before,
        "activity": math.log((lately + 1) / (all_along + 1)),
    }


def _imbalance(bar: Bar) -> float:
    both = bar.bid_depth + bar.ask_depth
    return (bar.bid_depth - bar.ask_depth) / both if both else 0.0


def _path_numbers(mids: Sequence[Micro]) -> dict[str, float]:
    walked = sum(abs(b - a) for a, b in pairwise(mids))
    net, low, high = mids[-1] - mids[0], min(mids), max(mids)
    return {
        "trend": net / walked if walked else 0.0,
        "volatility": walked / (len(mids) - 1),
        "range": (mids[-1] - low) / (high - low) if high > low else 0.5,
        "drift": float(net),
        "momentum": float(mids[-1] - mids[max(0, len(mids) - 13)]),
        "bias": mids[-1] - sum(mids) / len(mids),
    }


def _trend(mids: Sequence[Micro]) -> str:
    moves = [b - a for a, b in pairwise(mids)]
    walked = sum(abs(m) for m in moves)
    if walked == 0:
        return "noisy"
    if abs(mids[-1] - mids[0]) / walked > 0.4:
        return "trending"
    turns = sum(1 for a, b in pairwise(moves) if a * b < 0)
    pairs = sum(1 for a, b in pairwise(moves) if a * b != 0)
    return "reverting" if pairs and turns / pairs > 0.6 else "noisy"


def _reference_numbers(reference: ReferenceView, mid: Micro) -> dict[str, float]:
    """`gap` is the market's log-odds less the diffusion's: positive if YES is dear."""
    gap = logit(mid / UNIT) - logit(reference.probability)
    return {"distance": reference.distance, "lead": reference.lead, "gap": gap}
