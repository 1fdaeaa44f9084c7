"""Exact nearest neighbours by one pass over all points. Pure arithmetic on arrays.

Points are columns of 32-bit floats with their squared length below them, so that one matrix-vector product gives
distances up to a known error. It only selects the groups of points to look at; distances, order and ties come from
64-bit arithmetic in a fixed order, and are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Points = NDArray[np.float32]
Rows = NDArray[np.int64]

LARGEST = 1e9
"""Largest absolute coordinate: its square must fit a 32-bit float many times over."""
_GROUP = 64
_SLICE = 16_384
"""Columns of one product: its result stays in the cache, and the library starts no second thread for it."""
_PER_SLICE = _SLICE // _GROUP
_UNIT = 2.0**-24


def points(states: NDArray[np.float32]) -> Points:
    """(d + 1, n) columns for `nearest`, one for each row of `states` (n x d).

    Errors: ValueError for a coordinate that is not a number, or beyond `LARGEST`.
    """
    # Negated, so that NaN, which compares false, is refused as well.
    if not (np.abs(states) <= LARGEST).all():
        raise ValueError(f"a state has a value that is not a number within {LARGEST:g} of zero")
    lengths = np.square(states, dtype=np.float64).sum(axis=1)
    return np.concatenate((states.T, lengths[None].astype(np.float32)), dtype=np.float32)


def state_of(values: Sequence[float] | NDArray[np.float32]) -> NDArray[np.float32]:
    """(d,) coordinates as 32-bit floats. Errors: as `points`."""
    state = np.asarray(values, np.float64)
    if state.ndim != 1 or not (np.abs(state) <= LARGEST).all():
        raise ValueError(f"a state has a value that is not a number within {LARGEST:g} of zero")
    return state.astype(np.float32)


def nearest(
    columns: Points, query: NDArray[np.float32], k: int, family: NDArray[np.int32] | None = None
) -> tuple[Rows, Floats]:
    """The `k` columns nearest to `query` (d) with their squared Euclidean distances, nearest first.

    Of equally near ones the earlier column comes first; of a `family` (one number a column) only the nearest counts.
    Fewer than `k` if there are not as many. `columns` is (d + 1) x n, made by `points`.
    """
    size = columns.shape[1]
    if k <= 0 or size == 0:
        return np.empty(0, np.int64), np.empty(0)
    lows = _group_lows(columns, query)
    count = k
    while count < len(lows):
        limit = np.partition(lows, count)[count]
        rows, squares = _best(columns, query, k, family, _members(lows <= limit, size))
        if len(rows) == k:
            # Exact only if no group outside can hold a nearer point: its lowest approximate distance exceeds what the
            # k-th best could show at most. Otherwise look at all groups up to that bound.
            last = reach(float(squares[-1]), query)
            if last <= limit:
                return rows, squares
            return _best(columns, query, k, family, _members(lows <= last, size))
        # Fewer than k families in the groups seen: look at four times as many.
        count *= 4
    return _best(columns, query, k, family, np.arange(size))


def _group_lows(columns: Points, query: NDArray[np.float32]) -> NDArray[np.float32]:
    """(groups,): lowest approximate squared distance in each group of columns, less the query's squared length; the
    columns after the last whole group are in none."""
    weights = np.append(query * np.float32(-2), np.float32(1))
    size = columns.shape[1]
    lows = np.empty(size // _GROUP, np.float32)
    buffer = np.empty(_SLICE, np.float32)
    for start in range(0, size, _SLICE):
        groups = min(size - start, _SLICE) // _GROUP
        near = buffer[: groups * _GROUP]
        np.dot(weights, columns[:, start : start + len(near)], out=near)
        first = start // _GROUP
        near.reshape(_GROUP, groups).min(axis=0, out=lows[first : first + groups])
    return lows


def _members(chosen: NDArray[np.bool_], size: int) -> Rows:
    """Columns of the chosen groups, and those in no group."""
    at, offset = np.divmod(np.flatnonzero(chosen), _PER_SLICE)
    stride = np.where(at < size // _SLICE, _PER_SLICE, size % _SLICE // _GROUP)
    inside = (at * _SLICE + offset)[:, None] + stride[:, None] * np.arange(_GROUP)
    return np.concatenate((inside.ravel(), np.arange(size - size % _GROUP, size)))


def reach(square: float, query: NDArray[np.float32]) -> np.float32:
    """Largest approximate distance of a column whose true squared distance is `square` or less.

    A product of n + 1 terms errs by at most n + 1 units of the last place of the sum of their sizes, and a column that
    near is no longer than the query and its distance; twice that is allowed for.
    """
    length = float(np.square(query, dtype=np.float64).sum())
    error = 2 * (len(query) + 4) * _UNIT * (2 * length**0.5 + square**0.5) ** 2 + 1e-36
    return np.float32(np.nextafter(np.float32(square - length + error), np.float32(np.inf)))


def _best(
    columns: Points, query: NDArray[np.float32], k: int, family: NDArray[np.int32] | None, rows: Rows
) -> tuple[Rows, Floats]:
    squares = distances(columns, query, rows)
    order = np.lexsort((rows, squares))
    if family is not None:
        order = order[np.sort(np.unique(family[rows[order]], return_index=True)[1])]
    order = order[:k]
    return rows[order], squares[order]


def distances(columns: Points, query: NDArray[np.float32], rows: Rows) -> Floats:
    """(len(rows),): squared distances of some columns, 64-bit, summed from the first coordinate to the last."""
    total = np.zeros(len(rows))
    for column, value in zip(columns, query.astype(np.float64), strict=False):
        away = column[rows].astype(np.float64) - value
        total += away * away
    return total
