"""In-memory rows of finished windows, one array per column, in the order in which they became known.

Published rows are never overwritten: later rows go behind them, and a row that comes late moves everything to new
arrays. A read returns the newest rows before an instant, so that memory stays bounded over years of running. Knows no
database.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.analogs import BucketVocabulary, WindowHistory
from storage.neighbours import points

_INTS: dict[str, type[np.generic]] = {
    "seen": np.int64,
    "market": np.int32,
    "at": np.int64,
    "known_at": np.int64,
    "seconds_left": np.int32,
    "mid": np.int64,
    "payout": np.int64,
    "official": np.bool_,
}
NEWEST = 1_000_000
"""Largest number of rows in a history: those of about a hundred thousand windows."""
_GROWTH = 1.5

Array = NDArray[Any]


class Timeline:
    """Rows of one source and window length. `seen` is the instant from which a row may be read. One that `forgets`
    holds half as many rows again as a history may have; older ones have to be read again from the database."""

    def __init__(self, window: int, vocabulary: BucketVocabulary, *, forgets: bool = True) -> None:
        self._window = window
        self._vocabulary = vocabulary
        self._forgets = forgets
        self._forgot: int | None = None
        self._length = 0
        self._columns: dict[str, Array] = {name: np.empty(0, kind) for name, kind in _INTS.items()}
        self._codes: dict[str, Array] = {}
        self._points: Array = np.empty((1, 0), np.float32)
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return self._length

    def reaches(self, cut: int) -> bool:
        """True if all rows that `before` needs are in memory."""
        return self._forgot is None or self._count(cut) >= NEWEST

    def before(self, cut: int) -> WindowHistory:
        """The newest rows, `NEWEST` at most, that were made, and had a known outcome, strictly before `cut`
        (microseconds)."""
        count = self._count(cut)
        these = slice(max(0, count - NEWEST), count)
        seen = {name: _sealed(column[these]) for name, column in self._columns.items()}
        return WindowHistory(
            market=seen["market"],
            at=seen["at"],
            known_at=seen["known_at"],
            seconds_left=seen["seconds_left"],
            window=self._window,
            mid=seen["mid"],
            payout=seen["payout"],
            official=seen["official"],
            _points=_sealed(self._points[:, these] if count else np.empty((1, 0), np.float32)),
            _codes={feature: _sealed(codes[these]) for feature, codes in self._codes.items()},
            _names=self._names,
            _vocabulary=self._vocabulary,
        )

    def extend(self, markets: list[str], columns: dict[str, Array], codes: dict[str, Array], states: Array) -> None:
        """Add rows, one entry each, in the order in which they were stored; `states` is n x d.

        Rows that became known in the same instant stay in that order.
        """
        # A row is known once both its state and its outcome are.
        seen = np.maximum(columns["at"], columns["known_at"])
        if self._forgot is not None and seen.min() <= self._forgot:
            new = np.flatnonzero(seen > self._forgot)
            columns, codes = ({name: c[new] for name, c in of.items()} for of in (columns, codes))
            markets, seen, states = [markets[n] for n in new.tolist()], seen[new], states[new]
            if not markets:
                return
        added = columns | {"market": np.array([self._number(m) for m in markets], np.int32), "seen": seen}
        self._widen(codes, states.shape[1])
        known = self._columns["seen"][: self._length]
        start = int(known.searchsorted(added["seen"].min(), "right"))
        late = slice(start, self._length)
        # Stable, so that equal instants keep the order of storage, on which digests and ties depend.
        order = np.argsort(np.concatenate((known[late], added["seen"])), kind="stable")
        columns_of = {n: np.concatenate((self._columns[n][late], added[n]))[order] for n in _INTS}
        none = np.zeros(len(markets), np.uint16)
        codes_of = {f: np.concatenate((c[late], codes.get(f, none)))[order] for f, c in self._codes.items()}
        points_of = np.concatenate((self._points[:, late], points(states)), axis=1)[:, order]
        end = start + len(order)
        self._make_room(start, end)
        for into, block in ((self._columns, columns_of), (self._codes, codes_of)):
            for name, values in block.items():
                into[name][start:end] = values
        self._points[:, start:end] = points_of
        self._length = end
        if self._forgets and end > NEWEST + NEWEST // 2:
            self._forget(end - NEWEST - NEWEST // 4)

    def _count(self, cut: int) -> int:
        return int(self._columns["seen"][: self._length].searchsorted(cut, "left"))

    def _forget(self, start: int) -> None:
        """Drop rows before `start`, but for those that became known in the same instant as that one."""
        seen = self._columns["seen"][: self._length]
        start = int(seen.searchsorted(seen[start], "left"))
        if not start:
            return
        self._forgot, kept = int(seen[start - 1]), slice(start, self._length)
        self._length -= start
        self._columns = {name: column[kept].copy() for name, column in self._columns.items()}
        self._codes = {feature: codes[kept].copy() for feature, codes in self._codes.items()}
        self._points = self._points[:, kept].copy()
        numbers, self._columns["market"] = _numbered(self._columns["market"])
        self._names = [self._names[number] for number in numbers]
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def _number(self, market_id: str) -> int:
        number = self._numbers.setdefault(market_id, len(self._names))
        if number == len(self._names):
            self._names.append(market_id)
        return number

    def _widen(self, codes: dict[str, Array], dimensions: int) -> None:
        """Add columns for new features. Errors: ValueError for states of another length."""
        if not self._length and len(self._points) != dimensions + 1:
            self._points = np.empty((dimensions + 1, 0), np.float32)
        if len(self._points) != dimensions + 1:
            raise ValueError(f"states of {dimensions} numbers among states of {len(self._points) - 1}")
        for feature in codes:
            if feature not in self._codes:
                self._codes[feature] = np.zeros(len(self._columns["seen"]), np.uint16)

    def _make_room(self, start: int, end: int) -> None:
        """Ensure arrays that hold `end` rows and of which no row from `start` on was published."""
        room = len(self._columns["seen"])
        # In place only behind the last row: histories that were handed out are views of these arrays.
        if start == self._length and end <= room:
            return
        room = room if end <= room else max(end, int(room * _GROWTH))
        for columns in (self._columns, self._codes):
            for name, column in columns.items():
                columns[name] = _moved(column, start, room)
        self._points = _moved(self._points, start, room)


def _numbered(market: Array) -> tuple[list[int], Array]:
    """Distinct numbers, ascending, and each row's index among them."""
    numbers, places = np.unique(market, return_inverse=True)
    return numbers.tolist(), places.astype(np.int32)


def _sealed(view: Array) -> Array:
    view.flags.writeable = False
    return view


def _moved(array: Array, keep: int, room: int) -> Array:
    """Copy of the first `keep` entries along the last axis, in an array with room for more."""
    moved = np.zeros((*array.shape[:-1], room), array.dtype)
    moved[..., :keep] = array[..., :keep]
    return moved
