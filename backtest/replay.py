"""Replay feed: answers every query as of the instant named in it.

Independent of the clock and of the source of the recording.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from heapq import merge
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from backtest.columns import Bookshelf, Recording
from backtest.reference import ReferenceSeries
from market.clock import from_ms, instants, to_ms
from market.columns import Int64, Ladder
from market.feed import Bar, FeedInfo, ReferenceTick, Worth
from market.types import Book, Market, Resolution
from storage.canonical import canonical

_CACHED_RECORDINGS = 48
"""Recordings whose levels are cached as values; bounds memory, not answers."""
_BAR_LEVELS = 5
_NEAR, _FAR = 256, 16_384
"""Rows evaluated at once: few after a match, more while nothing matches."""


def _feed_bytes(digest: hashlib._Hash, values: npt.NDArray[np.int64] | npt.NDArray[np.int32]) -> None:
    digest.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())


def fingerprint(recordings: Sequence[Recording]) -> str:
    """SHA-256 over all recorded data, independent of the order of loading and the width of the padding."""
    digest = hashlib.sha256()
    # By identity: one series prices all markets of a recording, and its bytes are hashed once.
    series = {id(s): _series_digest(s) for r in recordings if (s := r.reference) is not None}
    for one in sorted(recordings, key=lambda r: r.market.id):
        digest.update(canonical([one.market, one.resolution, len(one)]).encode())
        for times in (one.received, one.at):
            _feed_bytes(digest, times)
        for side in (one.bids, one.asks):
            _feed_bytes(digest, side.count)
            _feed_bytes(digest, side.price[side.present])
            _feed_bytes(digest, side.size[side.present])
        if one.reference is not None:
            digest.update(series[id(one.reference)])
    return digest.hexdigest()


def _series_digest(series: ReferenceSeries) -> bytes:
    """Digest of a series, computed once however many markets share it."""
    digest = hashlib.sha256(b"reference")
    for column in (series.received, series.at, series.whole, series.fraction):
        _feed_bytes(digest, column)
    return digest.digest()


def _span(recordings: Sequence[Recording]) -> tuple[datetime | None, datetime | None]:
    """From the first book to the last instant with new data, outcomes included."""
    books = [r for r in recordings if len(r)]
    if not books:
        return None, None
    known = [to_ms(r.resolution.known_at) for r in recordings if r.resolution is not None]
    return from_ms(min(int(r.received[0]) for r in books)), from_ms(max([int(r.received[-1]) for r in books] + known))


class ReplayFeed:
    """Recorded markets, with their reference prices if the recording has them: a `Feed` and `ReferencePrices`.

    An unknown market has no books, no bars, no ticks and no resolution. `info.ends` is the last instant with new data
    on a market, outcomes included.
    """

    def __init__(
        self,
        name: str,
        recordings: Iterable[Recording],
        *,
        notes: Sequence[str] = (),
        has_trades: bool = False,
        instants: Sequence[datetime] = (),
    ) -> None:
        ordered = sorted(recordings, key=lambda r: (r.market.opens_at, r.market.id))
        # Best prices are computed once here: `worth` asks for them in many slices.
        self._recordings = {r.market.id: replace(r, bids=r.bids.topped(), asks=r.asks.topped()) for r in ordered}
        if len(self._recordings) != len(ordered):
            raise ValueError("two recordings of one market")
        self._bookshelves: OrderedDict[str, Bookshelf] = OrderedDict()
        begins, ends = _span(ordered)
        self._info = FeedInfo(
            name,
            fingerprint(ordered),
            begins,
            ends,
            has_reference=any(r.reference is not None for r in ordered),
            has_trades=has_trades,
            notes=tuple(notes),
            instants=tuple(instants),
        )

    @property
    def info(self) -> FeedInfo:
        return self._info

    @property
    def recordings(self) -> Sequence[Recording]:
        """All recordings, by opening time, then market id."""
        return tuple(self._recordings.values())

    def market(self, market_id: str) -> Market | None:
        """Recorded terms of a market, which never change."""
        one = self._recordings.get(market_id)
        return one.market if one else None

    def only(self, market_ids: Collection[str], note: str = "") -> ReplayFeed:
        """This feed restricted to some markets; the note gives the reason."""
        info = self._info
        kept = [r for r in self._recordings.values() if r.market.id in market_ids]
        notes = (*info.notes, note) if note else info.notes
        return ReplayFeed(info.name, kept, notes=notes, has_trades=info.has_trades, instants=info.instants)

    def truncated(self, at: datetime) -> ReplayFeed:
        """This feed as if the recording had stopped at `at`: for tests that no answer depends on later data."""
        info, stop = self._info, to_ms(at)
        series = {id(s): s.until(stop) for r in self._recordings.values() if (s := r.reference) is not None}
        return ReplayFeed(
            info.name,
            [replace(r.until(stop), reference=series.get(id(r.reference))) for r in self._recordings.values()],
            notes=info.notes,
            has_trades=info.has_trades,
            instants=[i for i in info.instants if i <= at],
        )

    async def markets(self, at: datetime) -> Sequence[Market]:
        every = (r.market for r in self._recordings.values())
        return [m for m in every if m.opens_at <= at < m.closes_at]

    async def book(self, market_id: str, at: datetime) -> Book | None:
        one = self._recordings.get(market_id)
        if one is None:
            return None
        row = int(one.received.searchsorted(to_ms(at), "right")) - 1
        return one.book(row) if row >= 0 else None

    async def changes(
        self, market_ids: Sequence[str], after: datetime, until: datetime, worth: Worth | None = None
    ) -> AsyncIterator[Book]:
        span = self._within(market_ids, to_ms(after), to_ms(until))
        for book in self._merged(span) if worth is None else _worthwhile(span, worth):
            yield book

    async def bars(self, market_id: str, after: datetime, until: datetime, step: int) -> Sequence[Bar]:
        if step <= 0:
            raise ValueError(f"a bar lasts at least a second, got {step}")
        one = self._recordings.get(market_id)
        if one is None or not len(one):
            return []
        width = step * 1000
        first = max(to_ms(after), int(one.received[0])) // width + 1
        closes = np.arange(first, to_ms(until) // width + 1, dtype=np.int64) * width
        return _bars(one, closes, width)

    async def resolution(self, market_id: str, at: datetime) -> Resolution | None:
        one = self._recordings.get(market_id)
        if one is None or one.resolution is None or one.resolution.known_at > at:
            return None
        return one.resolution

    async def reference(self, market_id: str, after: datetime, until: datetime) -> Sequence[ReferenceTick]:
        one = self._recordings.get(market_id)
        if one is None or one.reference is None:
            return []
        return one.reference.between(to_ms(after), to_ms(until))

    def _bookshelf(self, one: Recording) -> Bookshelf:
        key = one.market.id
        shelf = self._bookshelves.get(key)
        if shelf is None:
            shelf = self._bookshelves[key] = Bookshelf(one)
            if len(self._bookshelves) > _CACHED_RECORDINGS:
                self._bookshelves.popitem(last=False)
        else:
            self._bookshelves.move_to_end(key)
        return shelf

    def _stream(self, one: Recording, first: int, last: int) -> Iterator[Book]:
        # Opened at the first book, so that a merge over many markets holds no levels before their time.
        yield from self._bookshelf(one).books(first, last)

    def _within(self, market_ids: Sequence[str], after: int, until: int) -> list[_Rows]:
        """Rows received in (after, until] of these markets, by market id."""
        found = []
        for market_id in sorted(set(market_ids) & self._recordings.keys()):
            one = self._recordings[market_id]
            first, last = one.received.searchsorted((after, until), "right").tolist()
            if first < last:
                found.append(_Rows(one, first, last))
        return found

    def _merged(self, span: Sequence[_Rows]) -> Iterator[Book]:
        """Books by receipt, then market id."""
        streams = [self._stream(one, first, last) for one, first, last in span]
        if len(streams) < 2:
            yield from streams[0] if streams else ()
            return
        # One stable sort of all instants gives the order of the streams; no heap is touched per book.
        times = [one.received[first:last] for one, first, last in span]
        owner = np.repeat(np.arange(len(times)), [len(t) for t in times])
        for turn in owner[np.argsort(np.concatenate(times), kind="stable")].tolist():
            yield next(streams[turn])


class _Rows(NamedTuple):
    """Rows first..last-1 of a recording."""

    one: Recording
    first: int
    last: int


def _worthwhile(span: Sequence[_Rows], worth: Worth) -> Iterator[Book]:
    """Books accepted by the filter, by receipt, then market id."""
    if len(span) == 1:
        yield from map(span[0].one.book, _worth(span[0], worth))
        return
    turns = [_turns(number, rows, worth) for number, rows in enumerate(span)]
    for _, number, row in merge(*turns):
        yield span[number].one.book(row)


def _turns(number: int, rows: _Rows, worth: Worth) -> Iterator[tuple[int, int, int]]:
    for row in _worth(rows, worth):
        yield int(rows.one.received[row]), number, row


def _worth(rows: _Rows, worth: Worth) -> Iterator[int]:
    """Rows accepted by the filter; the next is searched for only after the caller is done with the one before it, whose
    outcome may change the filter."""
    one, row, last = rows
    reach = _NEAR
    while row < last:
        stop = min(row + reach, last)
        wanted = worth(one.market, one.columns(row, stop))
        found = int(wanted.argmax())
        if wanted[found]:
            yield row + found
            row, reach = row + found + 1, _NEAR
        else:
            row, reach = stop, min(2 * reach, _FAR)


def _best(side: Ladder, rows: npt.NDArray[np.intp]) -> list[int | None]:
    if not side.price.shape[1]:
        return [None] * len(rows)
    prices, counts = side.price[rows, 0].tolist(), side.count[rows].tolist()
    return [price if count else None for price, count in zip(prices, counts, strict=True)]


def _bars(one: Recording, closes: Int64, width: int) -> list[Bar]:
    """Bars closing at these instants, all after the first book, from data received strictly before."""
    seen = one.received.searchsorted(closes, "left")
    updates = seen - one.received.searchsorted(closes - width, "left")
    rows = seen - 1
    bid_depth, ask_depth = (s.size[rows, :_BAR_LEVELS].sum(axis=1).tolist() for s in (one.bids, one.asks))
    columns = (_best(one.bids, rows), _best(one.asks, rows), bid_depth, ask_depth, updates.tolist())
    return list(map(Bar, repeat(one.market.id), instants(closes, "ms"), *columns))
