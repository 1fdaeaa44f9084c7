"""Rows of finished windows in memory, one array a column, in the order in which they became known.

Rows that were handed out are never written again: later rows go behind them, and a row that comes late moves everything
to new arrays. Knows no database.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.analogs import Past, Vocabulary
from storage.neighbours import points

_INTS: dict[str, type[np.generic]] = {
    "seen": np.int64,
    "market": np.int32,
    "markets": np.int32,
    "at": np.int64,
    "known_at": np.int64,
    "seconds_left": np.int32,
    "mid": np.int64,
    "payout": np.int64,
    "official": np.bool_,
}
_GROWTH = 1.5

Array = NDArray[Any]


class Timeline:
    """The rows of one source and window length. `seen` is the instant from which a row may be read."""

    def __init__(self, window: int, vocabulary: Vocabulary) -> None:
        self._window = window
        self._vocabulary = vocabulary
        self._length = 0
        self._columns: dict[str, Array] = {name: np.empty(0, kind) for name, kind in _INTS.items()}
        self._codes: dict[str, Array] = {}
        self._points: Array = np.empty((1, 0), np.float32)
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return self._length

    def before(self, cut: int) -> Past:
        """The rows that were made, and had an outcome that was known, strictly before `cut` (microseconds)."""
        count = int(self._columns["seen"][: self._length].searchsorted(cut, "left"))
        seen = {name: _sealed(column[:count]) for name, column in self._columns.items()}
        return Past(
            market=seen["market"],
            at=seen["at"],
            known_at=seen["known_at"],
            seconds_left=seen["seconds_left"],
            window=self._window,
            mid=seen["mid"],
            payout=seen["payout"],
            official=seen["official"],
            markets=int(seen["markets"][-1]) if count else 0,
            _points=_sealed(self._points[:, :count] if count else np.empty((1, 0), np.float32)),
            _codes={feature: _sealed(codes[:count]) for feature, codes in self._codes.items()},
            _names=self._names,
            _vocabulary=self._vocabulary,
        )

    def extend(self, markets: list[str], columns: dict[str, Array], codes: dict[str, Array], states: Array) -> None:
        """Add rows, one entry each, in the order in which they were kept; `states` is n x d.

        Rows that became known in the same instant stay in that order.
        """
        fresh = len(self._names)
        added = columns | {
            "market": np.array([self._number(m) for m in markets], np.int32),
            "seen": np.maximum(columns["at"], columns["known_at"]),
        }
        self._widen(codes, states.shape[1])
        known = self._columns["seen"][: self._length]
        start = int(known.searchsorted(added["seen"].min(), "right"))
        late = slice(start, self._length)
        order = np.argsort(np.concatenate((known[late], added["seen"])), kind="stable")
        columns_of = {n: np.concatenate((self._columns[n][late], added[n]))[order] for n in _INTS if n != "markets"}
        none = np.zeros(len(markets), np.uint16)
        codes_of = {f: np.concatenate((c[late], codes.get(f, none)))[order] for f, c in self._codes.items()}
        points_of = np.concatenate((self._points[:, late], points(states)), axis=1)[:, order]
        end = start + len(order)
        self._make_room(start, end)
        for into, block in ((self._columns, columns_of), (self._codes, codes_of)):
            for name, values in block.items():
                into[name][start:end] = values
        self._points[:, start:end] = points_of
        in_order, self._length = start == self._length, end
        self._count(start if in_order else 0, fresh)

    def _number(self, market_id: str) -> int:
        number = self._numbers.setdefault(market_id, len(self._names))
        if number == len(self._names):
            self._names.append(market_id)
        return number

    def _widen(self, codes: dict[str, Array], dimensions: int) -> None:
        """Columns for features that are new. Errors: ValueError for states of another length."""
        if not self._length and len(self._points) != dimensions + 1:
            self._points = np.empty((dimensions + 1, 0), np.float32)
        if len(self._points) != dimensions + 1:
            raise ValueError(f"states of {dimensions} numbers among states of {len(self._points) - 1}")
        for feature in codes:
            if feature not in self._codes:
                self._codes[feature] = np.zeros(len(self._columns["seen"]), np.uint16)

    def _make_room(self, start: int, end: int) -> None:
        """Arrays that hold `end` rows and of which nobody was shown any row from `start` on."""
        room = len(self._columns["seen"])
        if start == self._length and end <= room:
            return
        room = room if end <= room else max(end, int(room * _GROWTH))
        for columns in (self._columns, self._codes):
            for name, column in columns.items():
                columns[name] = _moved(column, start, room)
        self._points = _moved(self._points, start, room)

    def _count(self, start: int, fresh: int) -> None:
        """Count distinct markets up to each row. In rows that came in order a new market has a new number."""
        market = self._columns["market"][: self._length]
        first = np.zeros(self._length - start, np.bool_)
        first[np.unique(market[start:], return_index=True)[1]] = True
        if start:
            first &= market[start:] >= fresh
        before = self._columns["markets"][start - 1] if start else 0
        self._columns["markets"][start : self._length] = before + np.cumsum(first)


def _sealed(view: Array) -> Array:
    view.flags.writeable = False
    return view


def _moved(array: Array, keep: int, room: int) -> Array:
    """The first `keep` entries along the last axis, in an array with room for more."""
    moved = np.zeros((*array.shape[:-1], room), array.dtype)
    moved[..., :keep] = array[..., :keep]
    return moved
