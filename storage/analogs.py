"""Point-in-time history of finished windows as arrays, with nearest-neighbour and bucket queries.

A `WindowHistory` is the end of a prefix of rows in the order in which they became known, so that no answer can depend
on a later row. Knows no database, no feature's meaning and no effect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from storage.canonical import canonical
from storage.neighbours import Floats, Points, Rows, distances, nearest, state_of
from storage.records import Observation
from storage.schema import from_us

Ints = NDArray[np.int64]
Codes = NDArray[np.uint16]
Band = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BucketVocabulary:
    """Numbers of (feature, bucket) pairs; append-only: a number never changes its meaning."""

    code: dict[tuple[str, str], int] = field(default_factory=dict)
    word: dict[int, tuple[str, str]] = field(default_factory=dict)

    def learn(self, number: int, feature: str, bucket: str) -> None:
        self.code[feature, bucket] = number
        self.word[number] = (feature, bucket)


@dataclass(frozen=True, slots=True, eq=False)
class WindowHistory:
    """Rows of finished windows, all known before one instant, in the order in which they became known.

    Arrays hold one entry a row and cannot be written: `market` is a number that stands for a market, `at` and
    `known_at` are microseconds since 1970, `mid` and `payout` micro-dollars, `states` n x d numbers.
    Indices are into these arrays.
    """

    market: NDArray[np.int32]
    at: Ints
    known_at: Ints
    seconds_left: NDArray[np.int32]
    window: int
    mid: Ints
    payout: Ints
    official: NDArray[np.bool_]
    _points: Points
    _codes: Mapping[str, Codes]
    _names: Sequence[str]
    _vocabulary: BucketVocabulary
    _made: dict[Hashable, Any] = field(init=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self.at)

    @property
    def nbytes(self) -> int:
        """Memory of these rows in bytes."""
        columns: list[NDArray[Any]] = [self.market, self.at, self.known_at, self.seconds_left, self.mid, self.payout]
        return sum(values.nbytes for values in (*columns, self.official, self._points, *self._codes.values()))

    @property
    def states(self) -> NDArray[np.float32]:
        return self._points[:-1].T

    def code(self, feature: str) -> Codes:
        """(n,): each row's bucket of a feature as a number; 0 where it was not computed."""
        found = self._codes.get(feature)
        return np.zeros(len(self), np.uint16) if found is None else found

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Memoize a value that depends on these rows alone: many decisions look at the same history."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def around(self, seconds_left: Band, *, per_market: bool = True) -> Rows:
        """Rows seen between two times to close, both included, ascending; of each market the one nearest in time to the
        middle, the earlier of two as near."""
        inside = self._inside(seconds_left)
        if not per_market:
            return inside
        return self.once(("around", seconds_left), lambda: _sealed(self._one_each(inside, seconds_left)))

    def like(self, feature: str, bucket: str, seconds_left: Band, *, per_market: bool = True) -> Rows:
        """Rows `around` those times with the feature in the given bucket."""

        def find() -> Rows:
            number = self._vocabulary.code.get((feature, bucket))
            if number is None:
                return _sealed(np.empty(0, np.int64))
            inside = self._inside(seconds_left)
            alike = inside[self.code(feature)[inside] == number]
            return _sealed(self._one_each(alike, seconds_left) if per_market else alike)

        return self.once(("like", feature, bucket, seconds_left, per_market), find)

    def _inside(self, band: Band) -> Rows:
        low, high = band
        seen = self.seconds_left
        return self.once(("inside", band), lambda: _sealed(np.flatnonzero((seen >= low) & (seen <= high))))

    def distances(self, state: Sequence[float], rows: Rows) -> Floats:
        """(len(rows),): squared Euclidean distances of some rows from a state. Errors: as `nearest`."""
        return distances(self._points, self._query(state), rows)

    def _query(self, state: Sequence[float]) -> NDArray[np.float32]:
        query = state_of(state)
        if len(self) and len(query) != len(self._points) - 1:
            raise ValueError(f"a state of {len(query)} numbers cannot be compared with {len(self._points) - 1}")
        return query

    def nearest(
        self, state: Sequence[float], k: int, *, among: Rows | None = None, per_market: bool = True
    ) -> tuple[Rows, Floats]:
        """The `k` rows nearest in state with their squared Euclidean distances, nearest first; of each market the
        nearest row only. Of equally near rows the earlier comes first. Fewer than `k` if there are not as many.

        States are in units of scales that the caller fixes beforehand, so the distance depends on no other row. Errors:
        ValueError for a state of another length than the rows', or with a value that is not a number.
        """
        query = self._query(state)
        family = self.market if per_market else None
        if among is None:
            return nearest(self._points, query, k, family)
        # Sorted and unique: ties are broken by the position of a column, which has to follow the order of the rows.
        rows = np.unique(among)
        family = None if family is None else family[rows]
        found, squares = nearest(self._points.take(rows, axis=1), query, k, family)
        return rows[found], squares

    def digest(self, indices: Rows) -> str:
        """SHA-256 of the content of some rows, independent of their order and of all other rows."""
        rows = self._by_content(indices)
        found = hashlib.sha256()
        texts = {"markets": self._markets(rows), "buckets": self._buckets(rows), "window": self.window}
        found.update(canonical({**texts, "state": len(self._points) - 1}).encode())
        # Fixed widths and byte order, so that the digest is the same on every machine.
        for column in (self.at, self.known_at, self.seconds_left, self.mid, self.payout, self.official):
            found.update(column[rows].astype("<i8").tobytes())
        found.update(self.states[rows].astype("<f4").tobytes())
        return found.hexdigest()

    def rows(self, indices: Rows) -> list[Observation]:
        """Some rows as observations, in the order given."""
        columns = (self.at, self.seconds_left, self.mid, self.payout, self.known_at, self.official)
        values = zip(*(c[indices].tolist() for c in columns), strict=True)
        buckets = self._buckets(indices)
        states = self.states[indices].tolist()
        return [
            Observation(
                market_id=market,
                at=from_us(at),
                seconds_left=left,
                window=self.window,
                mid=mid,
                buckets={f: words[i] for f, words in buckets.items() if words[i] is not None},
                payout=payout,
                known_at=from_us(known_at),
                official=official,
                state=tuple(states[i]),
            )
            for i, (market, (at, left, mid, payout, known_at, official)) in enumerate(
                zip(self._markets(indices), values, strict=True)
            )
        ]

    def _one_each(self, rows: Rows, band: Band) -> Rows:
        """Keep one row per market: the nearest in time to the middle of the band."""
        if not len(rows):
            return rows
        # Twice the distance to the middle, which stays an integer when the middle is a half.
        away = np.abs(2 * self.seconds_left[rows].astype(np.int64) - sum(band))
        market = self.market[rows]
        best = np.full(int(market.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(best, market, away)
        # Reversed, so that the write that stays below is of the earliest row.
        rows = rows[away == best[market]][::-1]
        earliest = np.full(len(best), -1)
        earliest[self.market[rows]] = rows  # of several writes the last one stays
        return np.sort(earliest[earliest >= 0])

    def _by_content(self, indices: Rows) -> Rows:
        names = self._markets(indices)
        at = self.at[indices].tolist()
        return np.asarray(indices)[sorted(range(len(names)), key=lambda i: (names[i], at[i]))]

    def _markets(self, indices: Rows) -> list[str]:
        return [self._names[number] for number in self.market[indices].tolist()]

    def _buckets(self, indices: Rows) -> dict[str, list[Any]]:
        """Bucket of each row by feature, None where it was not computed; without features that none of the rows has,
        which a later row may have introduced."""
        found = {feature: codes[indices].tolist() for feature, codes in sorted(self._codes.items())}
        word = self._vocabulary.word
        return {
            feature: [word[number][1] if number else None for number in numbers]
            for feature, numbers in found.items()
            if any(numbers)
        }


def _sealed(rows: Rows) -> Rows:
    rows.setflags(write=False)
    return rows
