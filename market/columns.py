"""Order books as arrays: one row per book, best level first.

Knows no file, no feed and no clock; `market.types.Book` is the same thing one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from market.types import Level, micro

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

HUNDREDTH = 10_000
"""Micro-shares in a hundredth of a share, the venue's smallest step."""

FINEST_TICK = 100
"""Micro-dollars in the venue's smallest price step."""

NOBODY = -1
"""Best price of an empty side."""


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """One side of n books, best level first, padded with zeros to k levels.

    `price` is (n, k) micro-dollars in whole steps of the finest tick, `size` is (n, k) micro-shares in whole hundredths
    of a share, `count` is (n,) levels present. `top` is the cached value of `best`, where it has been computed.
    """

    price: Int32
    size: Int64
    count: Int32
    top: Int32 | None = None

    @property
    def present(self) -> Mask:
        """(n, k): true for levels, false for padding."""
        return np.arange(self.price.shape[1]) < self.count[:, None]

    @property
    def best(self) -> Int32:
        """(n,): price of the best level in micro-dollars, NOBODY for an empty side."""
        if self.top is not None:
            return self.top
        if not self.price.shape[1]:
            return np.full(len(self.count), NOBODY, np.int32)
        return np.where(self.count > 0, self.price[:, 0], np.int32(NOBODY))

    def at(self, price: int) -> Int64:
        """(n,): micro-shares displayed at a price in micro-dollars."""
        found: Int64 = np.where(self.present & (self.price == price), self.size, 0).sum(axis=1)
        return found

    def mirrored(self) -> Ladder:
        """The same orders in the other token's book: price p becomes 1 - p."""
        # Bids become asks, so best-first order holds without a sort: the highest bid p is the lowest ask 1 - p. Padding
        # stays zero.
        price = np.where(self.present, 1_000_000 - self.price, 0).astype(np.int32)
        return Ladder(price, self.size, self.count)

    def rows(self, keep: slice | npt.NDArray[np.intp]) -> Ladder:
        top = None if self.top is None else self.top[keep]
        return Ladder(self.price[keep], self.size[keep], self.count[keep], top)

    def topped(self) -> Ladder:
        """Copy with `best` computed in advance; worth it before taking many slices."""
        return Ladder(self.price, self.size, self.count, self.best)

    @classmethod
    def stacked(cls, ladders: Sequence[Ladder]) -> Ladder:
        """Concatenate ladders along the rows; all must have the same width."""
        return cls(
            np.concatenate([side.price for side in ladders]),
            np.concatenate([side.size for side in ladders]),
            np.concatenate([side.count for side in ladders]),
        )

    @classmethod
    def of(cls, sides: Sequence[tuple[Level, ...]]) -> Ladder:
        """Build from tuples of levels. Raises ValueError for a level off the grid of prices or of hundredths of a
        share."""
        width = max((len(s) for s in sides), default=0)
        price = np.zeros((len(sides), width), np.int32)
        size = np.zeros((len(sides), width), np.int64)
        for row, levels in enumerate(sides):
            for column, level in enumerate(levels):
                price[row, column], size[row, column] = micro(level.price), level.size
        if np.any(price % FINEST_TICK) or np.any(size % HUNDREDTH):
            raise ValueError("a level is off the grid of prices or of hundredths of a share")
        return cls(price, size, np.array([len(s) for s in sides], np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """n YES books of one market in order of receipt; `received` is (n,) milliseconds since 1970."""

    received: Int64
    bids: Ladder
    asks: Ladder

    def __len__(self) -> int:
        return len(self.received)

    def before(self, at: datetime) -> Int64:
        """(n,): milliseconds from receipt to an instant in UTC."""
        return np.datetime64(at.replace(tzinfo=None), "ms").astype(np.int64) - self.received
