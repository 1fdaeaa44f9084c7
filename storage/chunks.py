"""Columns of bars and their packed form: 288 steps of one market per chunk. Pure; knows no database.

A chunk is four bytes (layout, zero, first slot) and its bars as fixed rows, 14 bytes each where every value fits:
instants are the grid, prices are steps of 100 micro-dollars, depths are hundredths of a share. A column with a value
that does not fit is stored as 64-bit integers, so that reading returns exactly the written values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market.clock import instants
from market.errors import DataInvalid
from market.feed import Bar
from market.types import Micro
from storage.schema import to_us

SLOTS = 288
"""Steps in a chunk: a day of five-minute bars."""
EMPTY = -100
"""Price of an empty side in a column; no price is below zero."""
PRICE, SHARES = 100, 10_000
"""Micro-units in a packed step of price and of depth."""

Ints = NDArray[np.int64]
_HEAD = np.dtype([("layout", "u1"), ("zero", "u1"), ("first", "<u2")])
_SPARSE, _OFF_GRID, _WIDE_PRICES, _WIDE_DEPTHS, _WIDE_UPDATES = 1, 2, 4, 8, 16
_KNOWN = 31
_SECOND = 1_000_000
_ONE, _PRICE, _SHARES = np.int64(1), np.int64(PRICE), np.int64(SHARES)


@dataclass(frozen=True, slots=True, eq=False)
class BarColumns:
    """Bars of one market, oldest first, one array of 64-bit integers a field.

    `at` is in microseconds since 1970 and strictly increasing; prices and depths are in micro-units, `EMPTY` where a
    side had no price.
    """

    at: Ints
    bid: Ints
    ask: Ints
    bid_depth: Ints
    ask_depth: Ints
    updates: Ints

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def of(cls, bars: Iterable[Bar]) -> BarColumns:
        """Build from bars of one market in any order; of two bars of an instant, the first stays."""
        rows = [(to_us(b.at), _price(b.bid), _price(b.ask), b.bid_depth, b.ask_depth, b.updates) for b in bars]
        return cls(*np.array(rows, np.int64).reshape(-1, 6).T)._in_order()

    def merged(self, later: BarColumns) -> BarColumns:
        """Union of both; where both have a bar of an instant, this one's stays."""
        if not len(self) or not len(later):
            return self if len(self) else later
        both = joined((self, later))
        return both if self.at[-1] < later.at[0] else both._in_order()

    def part(self, rows: slice) -> BarColumns:
        return BarColumns(*(column[rows] for column in self.columns))

    @property
    def columns(self) -> tuple[Ints, ...]:
        return self.at, self.bid, self.ask, self.bid_depth, self.ask_depth, self.updates

    def bars(self, market_id: str) -> list[Bar]:
        prices = ([None if price == EMPTY else price for price in side.tolist()] for side in (self.bid, self.ask))
        rest = (column.tolist() for column in (self.bid_depth, self.ask_depth, self.updates))
        return list(map(Bar, repeat(market_id), instants(self.at, "us"), *prices, *rest))

    def _in_order(self) -> BarColumns:
        if (np.diff(self.at) > 0).all():
            return self
        # `return_index` gives the first of equal instants, which is the one that has to stay.
        rows = np.unique(self.at, return_index=True)[1]
        return BarColumns(*(column[rows] for column in self.columns))


def joined(parts: Sequence[BarColumns]) -> BarColumns:
    """Concatenate parts."""
    return BarColumns(*(np.concatenate(columns) for columns in zip(*(p.columns for p in parts), strict=True)))


NOTHING = BarColumns.of(())


def _price(price: Micro | None) -> int:
    if price is None:
        return EMPTY
    if price < 0:
        raise ValueError(f"{price} is a price below zero")
    return price


def width(step: int) -> int:
    """Microseconds covered by a chunk of bars of `step` seconds."""
    return SLOTS * step * _SECOND


def by_chunk(bars: BarColumns, step: int) -> Iterator[tuple[int, BarColumns]]:
    """Split bars by chunk: (chunk number, bars), ascending."""
    numbers = bars.at // width(step)
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(bars)]
    for low, high in pairwise(starts):
        if high > low:
            yield int(numbers[low]), bars.part(slice(low, high))


@cache
def _row(layout: int) -> np.dtype[Any]:
    fields: list[tuple[Any, ...]] = []
    if layout & _OFF_GRID:
        fields.append(("at", "<i8"))
    elif layout & _SPARSE:
        fields.append(("slot", "<u2"))
    fields.append(("price", "<i8" if layout & _WIDE_PRICES else "<i2", (2,)))
    fields.append(("depth", "<i8" if layout & _WIDE_DEPTHS else "<u4", (2,)))
    fields.append(("updates", "<i8" if layout & _WIDE_UPDATES else "<u2"))
    return np.dtype(fields)


def pack(number: int, bars: BarColumns, step: int) -> bytes:
    """Encode the bars of chunk `number`; at least one, in order."""
    slots, off_grid = np.divmod(bars.at - number * width(step), step * _SECOND)
    prices, depths = np.stack((bars.bid, bars.ask), 1), np.stack((bars.bid_depth, bars.ask_depth), 1)
    # The smallest layout that loses nothing: off the grid needs instants, gaps need slot numbers, a run without gaps
    # needs the first slot alone.
    layout = _OFF_GRID if off_grid.any() else _SPARSE if slots[-1] - slots[0] >= len(slots) else 0
    layout |= 0 if _fits(prices, PRICE, EMPTY, 2**15) else _WIDE_PRICES
    layout |= 0 if _fits(depths, SHARES, 0, 2**32) else _WIDE_DEPTHS
    layout |= 0 if _fits(bars.updates, 1, 0, 2**16) else _WIDE_UPDATES
    rows = np.empty(len(bars), _row(layout))
    if layout & _OFF_GRID:
        rows["at"] = bars.at
    elif layout & _SPARSE:
        rows["slot"] = slots
    rows["price"] = prices if layout & _WIDE_PRICES else prices // PRICE
    rows["depth"] = depths if layout & _WIDE_DEPTHS else depths // SHARES
    rows["updates"] = bars.updates
    return np.array((layout, 0, slots[0]), _HEAD).tobytes() + rows.tobytes()


def _fits(values: Ints, unit: int, low: int, steps: int) -> bool:
    whole = unit == 1 or not (values % unit).any()
    return whole and bool(values.min() >= low) and bool(values.max() < unit * steps)


class Piece(NamedTuple):
    """Part of a chunk before decoding: the bytes of `length` rows, and their instants unless they are simply one every
    `unit` microseconds from `first` on."""

    layout: int
    first: int
    unit: int
    length: int
    rows: bytes
    at: Ints | None = None


def piece(number: int, body: bytes, step: int, as_of: int, limit: int) -> Piece:
    """The last `limit` bars of chunk `number` that closed at or before `as_of` (microseconds).

    Errors: DataInvalid for bytes that are not a chunk.
    """
    layout = body[0] if body else _KNOWN + 1
    if layout > _KNOWN or body[1]:
        raise _damaged(number, "is not in a form that this version knows")
    size = _row(layout).itemsize
    count, rest = divmod(len(body) - _HEAD.itemsize, size)
    if rest:
        raise _damaged(number, "ends in the middle of a bar")
    unit = step * _SECOND
    at = None
    first = (number * SLOTS + int.from_bytes(body[2:4], "little")) * unit
    if layout & (_SPARSE | _OFF_GRID):
        at = _instants(np.frombuffer(body, _row(layout), count, _HEAD.itemsize), number, step)
        end = int(at.searchsorted(as_of, "right"))
    else:
        end = min(count, max(0, (as_of - first) // unit + 1))
    begin = max(0, end - limit)
    rows = body[_HEAD.itemsize + begin * size : _HEAD.itemsize + end * size]
    return Piece(
        layout=layout,
        first=first + begin * unit,
        unit=unit,
        length=end - begin,
        rows=rows,
        at=None if at is None else at[begin:end],
    )


def _damaged(number: int, how: str) -> DataInvalid:
    return DataInvalid(f"chunk {number} of the price history {how}.", next_step="Restore a backup of the database.")


def _instants(rows: NDArray[np.void], number: int, step: int) -> Ints:
    names = rows.dtype.names or ()
    if "at" in names:
        return rows["at"].astype(np.int64)
    return number * width(step) + rows["slot"].astype(np.int64) * (step * _SECOND)


def unpack(pieces: Sequence[Piece]) -> BarColumns:
    """Decode pieces that follow each other in time."""
    if not pieces:
        return NOTHING
    layout = pieces[0].layout
    # Equal layouts, the usual case, are decoded in one go over the joined bytes.
    if len({p.layout for p in pieces}) > 1:
        return joined([unpack((p,)) for p in pieces])
    rows = np.frombuffer(b"".join([p.rows for p in pieces]), _row(layout))
    prices = rows["price"] * (_ONE if layout & _WIDE_PRICES else _PRICE)
    depths = rows["depth"] * (_ONE if layout & _WIDE_DEPTHS else _SHARES)
    updates = rows["updates"].astype(np.int64)
    return BarColumns(
        at=_at(pieces),
        bid=prices[:, 0],
        ask=prices[:, 1],
        bid_depth=depths[:, 0],
        ask_depth=depths[:, 1],
        updates=updates,
    )


def _at(pieces: Sequence[Piece]) -> Ints:
    head, tail = pieces[0], pieces[-1]
    end = tail.first + tail.length * tail.unit
    if head.at is None and end - head.first == head.unit * sum([p.length for p in pieces]):
        return np.arange(head.first, end, head.unit)
    return np.concatenate([np.arange(p.length) * p.unit + p.first if p.at is None else p.at for p in pieces])
