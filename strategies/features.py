"""What a book's recent past looks like, in closed buckets. Pure functions of bars; reads nothing and remembers nothing.

Only book features are here: recordings of books carry no reference price. Every feature is computed from bars of
`STEP` seconds that closed at or before the instant, so that the row kept for a past window and the view of the present
one are the same function of the same kind of data. Thresholds are in dollars of probability, set by the venue's tick
of 0.01: a move of less than two ticks is no move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from market.feed import Bar
from market.types import UNIT, Micro

STEP = 5
"""Seconds per bar."""
LOOKBACK = 60
"""Bars looked at: five minutes."""

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
}
"""Every feature that a claim may name, with its buckets from low to high."""


@dataclass(frozen=True, slots=True)
class Features:
    """`buckets` holds each feature that could be computed; `mid` is the YES mid in micro-dollars."""

    mid: Micro
    seconds_left: int
    buckets: Mapping[str, str]


def features(bars: Sequence[Bar], seconds_left: int, window: int) -> Features | None:
    """Features at the close of the last bar, or None where the last bar has no two-sided book.

    `bars` are consecutive, oldest first; `window` is the market's length in seconds.
    """
    recent = list(bars[-LOOKBACK:])
    if not recent or (mid := _mid(recent[-1])) is None:
        return None
    mids = [m for b in recent if (m := _mid(b)) is not None]
    names = {
        "level": _split(mid, 350_000, 650_000, BUCKETS["level"]),
        "time": _split(1 - seconds_left / window, 1 / 3, 2 / 3, BUCKETS["time"]),
        **_book_features(recent),
    }
    if len(mids) >= 12:
        names |= _path_features(mids)
    return Features(mid, seconds_left, dict(sorted(names.items())))


def _mid(bar: Bar) -> Micro | None:
    if bar.bid is None or bar.ask is None or bar.bid >= bar.ask:
        return None
    return (bar.bid + bar.ask) // 2


def _split(x: float, low: float, high: float, names: Sequence[str]) -> str:
    return names[0] if x < low else names[2] if x > high else names[1]


def _book_features(bars: Sequence[Bar]) -> dict[str, str]:
    last = bars[-1]
    spread = (last.ask or UNIT) - (last.bid or 0)
    now, before = _imbalance(last), _imbalance(bars[max(0, len(bars) - 13)])
    busy = sum(b.updates for b in bars[-12:]) > sum(b.updates for b in bars) / len(bars) * 12
    return {
        "spread": "tight" if spread <= 10_000 else "wide",
        "imbalance": _split(now, -0.25, 0.25, BUCKETS["imbalance"]),
        "pressure": _split(now - before, -0.25, 0.25, BUCKETS["pressure"]),
        "activity": "busy" if busy else "quiet",
    }


def _imbalance(bar: Bar) -> float:
    both = bar.bid_depth + bar.ask_depth
    return (bar.bid_depth - bar.ask_depth) / both if both else 0.0


def _path_features(mids: Sequence[Micro]) -> dict[str, str]:
    moves = [b - a for a, b in pairwise(mids)]
    walked = sum(abs(m) for m in moves)
    net, low, high = mids[-1] - mids[0], min(mids), max(mids)
    return {
        "trend": _trend(net, walked, moves),
        "volatility": _split(walked / len(moves), 1_500, 6_000, BUCKETS["volatility"]),
        "range": _split((mids[-1] - low) / (high - low) if high > low else 0.5, 1 / 3, 2 / 3, BUCKETS["range"]),
        "drift": _split(net, -20_000, 20_000, BUCKETS["drift"]),
        "momentum": _split(mids[-1] - mids[max(0, len(mids) - 13)], -20_000, 20_000, BUCKETS["momentum"]),
        "bias": _split(mids[-1] - sum(mids) / len(mids), -15_000, 15_000, BUCKETS["bias"]),
    }


def _trend(net: Micro, walked: Micro, moves: Sequence[Micro]) -> str:
    if walked == 0:
        return "noisy"
    if abs(net) / walked > 0.4:
        return "trending"
    turns = sum(1 for a, b in pairwise(moves) if a * b < 0)
    pairs = sum(1 for a, b in pairwise(moves) if a * b != 0)
    return "reverting" if pairs and turns / pairs > 0.6 else "noisy"
