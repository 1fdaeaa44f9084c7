"""Small real objects shared by the tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from backtest.columns import Recording
from backtest.reference import ReferenceSeries
from backtest.replay import ReplayFeed
from market.feed import ReferenceTick
from market.types import UNIT, Book, Level, Market, PayoutSource, Resolution
from storage.analogs import BucketVocabulary, WindowHistory
from storage.records import Observation
from storage.schema import to_us
from storage.timeline import Timeline

START = datetime(2026, 9, 28, 9, 0, tzinfo=UTC)


def market(number: int = 0, *, seconds: int = 900, category: str = "crypto") -> Market:
    """Window that opens `number` windows after START."""
    opens = START + timedelta(seconds=seconds * number)
    return Market(
        id=f"0x{number:04x}",
        slug=f"btc-updown-{seconds // 60}m-{int(opens.timestamp())}",
        question=f"Bitcoin up or down, window {number}",
        yes_token=f"{number}-yes",
        no_token=f"{number}-no",
        opens_at=opens,
        closes_at=opens + timedelta(seconds=seconds),
        category=category,
    )


def levels(*pairs: tuple[str, int]) -> tuple[Level, ...]:
    """Build levels from (price, whole shares)."""
    return tuple(Level(Decimal(price), size * UNIT) for price, size in pairs)


def book(
    at: datetime = START,
    *,
    market_id: str = "0x0000",
    bids: tuple[Level, ...] = levels(("0.49", 100), ("0.48", 200)),
    asks: tuple[Level, ...] = levels(("0.51", 100), ("0.52", 200)),
) -> Book:
    return Book(market_id, at, at, bids, asks)


def recorded(*books: Book, number: int = 0, seconds: int = 900, payout: str | None = "1") -> Recording:
    """Recording of a window; its outcome becomes known two minutes after the close."""
    window = market(number, seconds=seconds)
    source = PayoutSource.UNRESOLVED if payout is None else PayoutSource.OFFICIAL
    worth = None if payout is None else Decimal(payout)
    known_at = window.closes_at + timedelta(minutes=2)
    return Recording.of(window, books, Resolution(window.id, worth, source, known_at))


def prices(*ticks: tuple[float, str], lag: float = 1.0) -> ReferenceSeries:
    """Reference ticks from (seconds after START, price), each received `lag` seconds later."""
    return ReferenceSeries.of([ReferenceTick(after(s), after(s + lag), Decimal(price)) for s, price in ticks])


def replay(*recordings: Recording) -> ReplayFeed:
    return ReplayFeed("test", recordings)


class Remembered:
    """A history made of rows, on the store's own timeline but without a database."""

    def __init__(self, rows: Sequence[Observation] = ()) -> None:
        self.rows = rows
        vocabulary = BucketVocabulary()
        pairs = sorted({pair for r in rows for pair in r.buckets.items()})
        for number, pair in enumerate(pairs, 1):
            vocabulary.learn(number, *pair)
        self._timeline = Timeline(rows[0].window if rows else 0, vocabulary)
        if rows:
            names = ("at", "seconds_left", "mid", "payout", "known_at", "official")
            columns = {n: np.array([_number(getattr(r, n)) for r in rows]) for n in names}
            codes = {f: np.zeros(len(rows), np.uint16) for f, _ in pairs}
            for i, r in enumerate(rows):
                for feature, bucket in r.buckets.items():
                    codes[feature][i] = vocabulary.code[feature, bucket]
            states = np.array([r.state for r in rows], np.float32)
            self._timeline.extend([r.market_id for r in rows], columns, codes, states)

    async def past(
        self, source: str, *, as_of: datetime, window: int, embargo: timedelta = timedelta(0)
    ) -> WindowHistory:
        return self._timeline.before(to_us(as_of - embargo))


def _number(value: datetime | int) -> int:
    return to_us(value) if isinstance(value, datetime) else value


def after(seconds: float) -> datetime:
    """Instant that many seconds after START."""
    return START + timedelta(seconds=seconds)
