"""Recorded markets as arrays: a Book value is made only where one is read.

Knows nothing of files, feeds or clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import repeat

import numpy as np

from backtest.reference import ReferenceSeries
from market.clock import from_ms, instants, to_ms
from market.columns import FINEST_TICK, HUNDREDTH, Columns, Int64, Ladder
from market.types import Book, Level, Market, Resolution

_CHUNK = 512
_SIZE_BITS = 48
_KNOWN = [Decimal(step) / 10_000 for step in range(10_001)]
"""The Decimal of every possible price, by steps of the finest tick."""
_PRICES = np.array(_KNOWN, object)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Recorded data of one market, as YES books. `received` never decreases; both times are (n,) milliseconds since
    1970. `resolution` is the outcome, None if it is not recorded. `reference` is the price series of the underlying,
    one object for all markets of a recording; None without one."""

    market: Market
    received: Int64
    at: Int64
    bids: Ladder
    asks: Ladder
    resolution: Resolution | None = None
    reference: ReferenceSeries | None = None

    def __len__(self) -> int:
        return len(self.received)

    def columns(self, first: int, last: int) -> Columns:
        """Rows first..last-1 as views."""
        rows = slice(first, last)
        return Columns(self.received[rows], self.bids.rows(rows), self.asks.rows(rows))

    def book(self, row: int) -> Book:
        """One row as a value."""
        at, received = from_ms(int(self.at[row])), from_ms(int(self.received[row]))
        return Book(self.market.id, at, received, _levels(self.bids, row), _levels(self.asks, row))

    def until(self, milliseconds: int) -> Recording:
        """The recording as of an instant: nothing received or known later."""
        end = slice(0, int(np.searchsorted(self.received, milliseconds, "right")))
        known = self.resolution is not None and to_ms(self.resolution.known_at) <= milliseconds
        return replace(
            self,
            received=self.received[end],
            at=self.at[end],
            bids=self.bids.rows(end),
            asks=self.asks.rows(end),
            resolution=self.resolution if known else None,
            reference=None if self.reference is None else self.reference.until(milliseconds),
        )

    @classmethod
    def of(
        cls,
        market: Market,
        books: Sequence[Book],
        resolution: Resolution | None = None,
        reference: ReferenceSeries | None = None,
    ) -> Recording:
        """Build from YES books in order of receipt. Raises ValueError for another order."""
        received = np.array([to_ms(b.received_at) for b in books], np.int64)
        if np.any(np.diff(received) < 0):
            raise ValueError("books must be in order of receipt")
        return cls(
            market=market,
            received=received,
            at=np.array([to_ms(b.at) for b in books], np.int64),
            bids=Ladder.of([b.bids for b in books]),
            asks=Ladder.of([b.asks for b in books]),
            resolution=resolution,
            reference=reference,
        )


def _levels(side: Ladder, row: int) -> tuple[Level, ...]:
    count = side.count[row]
    prices = [_KNOWN[micro // FINEST_TICK] for micro in side.price[row, :count].tolist()]
    return tuple(map(Level, prices, side.size[row, :count].tolist()))


class _Side:
    """One side of a recording: each distinct level is made once and shared by all rows that show it."""

    def __init__(self, ladder: Ladder) -> None:
        same = np.zeros(len(ladder.count), np.bool_)
        same[1:] = (ladder.price[1:] == ladder.price[:-1]).all(axis=1) & (ladder.size[1:] == ladder.size[:-1]).all(
            axis=1
        )
        self._same, self._count = same, ladder.count
        # Price and size packed into one integer: `unique` over one column is far cheaper than over rows.
        keys = ((ladder.price.astype(np.int64) // FINEST_TICK) << _SIZE_BITS) | (ladder.size // HUNDREDTH)
        distinct, codes = np.unique(keys, return_inverse=True)
        self._codes = codes.reshape(keys.shape).astype(np.int32)
        prices = _PRICES[distinct >> _SIZE_BITS].tolist()
        sizes = ((distinct & ((1 << _SIZE_BITS) - 1)) * HUNDREDTH).tolist()
        self._levels = np.fromiter(map(Level, prices, sizes), object, len(sizes))

    def rows(self, first: int, last: int) -> list[tuple[Level, ...]]:
        """Levels of rows; an unchanged side is the same object again."""
        counts, same = self._count[first:last].tolist(), self._same[first:last].tolist()
        padded = self._levels[self._codes[first:last, : max(counts, default=0)]].tolist()
        found: list[tuple[Level, ...]] = []
        levels: tuple[Level, ...] = ()
        for row, (cells, count, unchanged) in enumerate(zip(padded, counts, same, strict=True)):
            # Always for the first row: `unchanged` compares it with a row outside the slice.
            if row == 0 or not unchanged:
                levels = tuple(cells[:count])
            found.append(levels)
        return found


class Bookshelf:
    """Bulk conversion of a recording's rows to Book values."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._bids, self._asks = _Side(recording.bids), _Side(recording.asks)

    def books(self, first: int, last: int) -> Iterator[Book]:
        """Rows first..last-1, in order."""
        one, market_id = self._recording, self._recording.market.id
        for start in range(first, last, _CHUNK):
            stop = min(start + _CHUNK, last)
            received = instants(one.received[start:stop], "ms")
            at = received if one.at is one.received else instants(one.at[start:stop], "ms")
            bids, asks = self._bids.rows(start, stop), self._asks.rows(start, stop)
            yield from map(Book, repeat(market_id), at, received, bids, asks)
