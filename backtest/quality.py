"""Quality of a recording: missing, repeated and crossed books, and clock skew. Pure, over columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from backtest.columns import Recording
from backtest.recorded import Gap
from market.clock import to_ms
from market.columns import Int64

FRESH_MS = 15_000
"""Largest age of a book in milliseconds that counts as coverage."""


@dataclass(frozen=True, slots=True)
class MarketQuality:
    """Quality of one market. `covered` is the share of its window in which a book stood that was at most 15 s old;
    `longest_gap` seconds without one; `repeated` rows equal the row before; `crossed` have a bid at or above an offer;
    `early` were received before the venue's own time; `skew` is received less venue's time, milliseconds."""

    market_id: str
    slug: str
    rows: int
    covered: float
    longest_gap: float
    repeated: int
    crossed: int
    one_sided: int
    early: int
    skew_p50: float
    skew_p99: float
    has_outcome: bool


@dataclass(frozen=True, slots=True)
class Quality:
    """All markets, and the gaps that the recorder marked, by channel."""

    markets: tuple[MarketQuality, ...]
    gaps: tuple[Gap, ...]

    @property
    def rows(self) -> int:
        return sum(m.rows for m in self.markets)

    @property
    def covered(self) -> float:
        return float(np.mean([m.covered for m in self.markets])) if self.markets else 0.0

    def findings(self) -> tuple[str, ...]:
        """Warnings for users of the recording, in sentences."""
        findings = []
        poor = [m for m in self.markets if m.covered < 0.95]
        if poor:
            worst = min(poor, key=lambda m: m.covered)
            findings.append(
                f"{len(poor)} of {len(self.markets)} windows are covered for less than 95 %, the worst "
                f"({worst.slug}) for {worst.covered:.0%}."
            )
        for what, count in (
            ("are crossed", sum(m.crossed for m in self.markets)),
            ("were received before the venue's own time: a clock was off", sum(m.early for m in self.markets)),
        ):
            if count:
                findings.append(f"{count} of {self.rows} books {what}.")
        silent = sum(1 for m in self.markets if not m.has_outcome)
        if silent:
            findings.append(f"{silent} of {len(self.markets)} markets have no outcome.")
        if self.gaps:
            findings.append(f"The recorder marked {len(self.gaps)} gaps, the last because {self.gaps[-1].why}.")
        return tuple(findings)


def quality(recordings: Iterable[Recording], gaps: Sequence[Gap] = ()) -> Quality:
    """Measure recordings."""
    return Quality(tuple(_market(one) for one in recordings), tuple(gaps))


def _market(one: Recording) -> MarketQuality:
    opens, closes = to_ms(one.market.opens_at), to_ms(one.market.closes_at)
    covered, longest = _coverage(one.received, opens, closes)
    both = (one.bids.count > 0) & (one.asks.count > 0)
    crossed = both.copy()
    if len(one) and one.bids.price.shape[1] and one.asks.price.shape[1]:
        crossed &= one.bids.price[:, 0] >= one.asks.price[:, 0]
    skew = one.received - one.at
    p50, p99 = np.percentile(skew, (50, 99)).tolist() if len(skew) else (0.0, 0.0)
    return MarketQuality(
        market_id=one.market.id,
        slug=one.market.slug,
        rows=len(one),
        covered=covered,
        longest_gap=longest / 1000,
        repeated=_repeated(one),
        crossed=int(np.sum(crossed)),
        one_sided=int(np.sum(~both)),
        early=int(np.sum(skew < 0)),
        skew_p50=p50,
        skew_p99=p99,
        has_outcome=one.resolution is not None and one.resolution.payout is not None,
    )


def _coverage(received: Int64, opens: int, closes: int) -> tuple[float, float]:
    """Share of [opens, closes) in which a fresh book stood, and the longest time without any, in milliseconds."""
    inside = received[(received > opens - FRESH_MS) & (received < closes)]
    edges = np.concatenate([inside, [closes]])
    starts = np.concatenate([[opens], np.maximum(inside, opens)])
    waits = np.maximum(np.concatenate([np.maximum(inside, opens), [closes]]) - starts, 0)
    stood = np.minimum(np.diff(edges), FRESH_MS) if len(inside) else np.zeros(0)
    stood = np.maximum(np.minimum(stood, edges[1:] - np.maximum(edges[:-1], opens)), 0)
    return float(min(1.0, stood.sum() / max(closes - opens, 1))), float(waits.max(initial=0))


def _repeated(one: Recording) -> int:
    if len(one) < 2:
        return 0
    same = np.ones(len(one) - 1, np.bool_)
    for side in (one.bids, one.asks):
        same &= (side.price[1:] == side.price[:-1]).all(axis=1) & (side.size[1:] == side.size[:-1]).all(axis=1)
        same &= side.count[1:] == side.count[:-1]
    return int(same.sum())
