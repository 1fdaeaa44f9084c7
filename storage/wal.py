"""Integrity check of SQLite's write-ahead log. SQLite truncates a damaged log at the damage when it opens the database,
without an error: acknowledged commits behind it would be lost. So it is checked before.

A crash may leave the last transaction torn, which was never acknowledged. A second commit behind a bad frame cannot be
left by a crash: it was written after the first had been synced. Format: sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market.errors import StoreUnavailable
from storage.faults import translated

_HEADER, _FRAME = 32, 24
_MAGIC = 0x377F0682
_WORD = np.uint64(0xFFFFFFFF)
_LOOKS = 3
"""Reads that must all show the damage: a log that another program restarts meanwhile looks damaged once."""
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Damage:
    """The first bad frame, counted from 1 (0 is the header), and the number of commits behind it."""

    frame: int
    commits: int


def damage(wal: Path) -> Damage | None:
    """Damage in the middle of a log; None if there is none, or no log."""
    found = None
    for _ in range(_LOOKS):
        try:
            body = wal.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        found = _examined(body)
        if found is None:
            return None
    return found


def must_be_whole(database: Path) -> None:
    """Raise StoreUnavailable if opening the database would silently lose acknowledged commits."""
    wal = database.with_name(database.name + "-wal")
    with translated(str(wal)):
        found = damage(wal)
    if found is not None:
        raise StoreUnavailable(
            f"The database {database} is unavailable: its write-ahead log is damaged at frame {found.frame}, and "
            f"{found.commits} acknowledged changes lie behind it.",
            next_step=f"Keep both {database.name} and {wal.name}, and restore a backup: edgeclaw data restore FILE.",
        )


def _examined(body: bytes) -> Damage | None:
    if len(body) <= _HEADER + _FRAME:
        return None
    head = np.frombuffer(body, ">u4", 8).astype(np.uint64)
    # The lowest bit of the magic number gives the byte order of the checksums alone; all other fields are big-endian.
    order = ">u4" if int(head[0]) & 1 else "<u4"
    size = int(head[2])
    if int(head[0]) | 1 != _MAGIC | 1 or size < 512 or size & (size - 1):
        return Damage(0, 1)
    start = _after(np.zeros(2, np.uint64), _sums(np.frombuffer(body, order, 6).astype(np.uint64)[None, :])[0], 3)
    if not np.array_equal(start, head[6:8]):
        return Damage(0, 1)
    return _frames(body, size, order, head[4:6], start)


def _frames(body: bytes, size: int, order: str, salts: Words, start: Words) -> Damage | None:
    """Verify the chain of checksums through the frames."""
    count = (len(body) - _HEADER) // (_FRAME + size)
    raw = np.frombuffer(body, np.uint8, count * (_FRAME + size), _HEADER).reshape(count, _FRAME + size)
    fields = np.ascontiguousarray(raw[:, :_FRAME]).view(">u4").astype(np.uint64)
    summed = np.ascontiguousarray(np.hstack([raw[:, :8], raw[:, _FRAME:]])).view(order).astype(np.uint64)
    current = (fields[:, 2:4] == salts).all(axis=1)
    sums, state = _sums(summed), start
    for n in range(count):
        state = _after(state, sums[n], (8 + size) // 8)
        if not current[n] or not np.array_equal(state, fields[n, 4:6]):
            current[n] = True  # its own commit counts too: it may be its salt that is damaged
            commits = int((current[n:] & (fields[n:, 1] > 0)).sum())
            return Damage(n + 1, commits) if commits > 1 else None
    return None


def _sums(words: Words) -> Words:
    """n x 2: checksum of each row of words, starting from zero."""
    first, second = _weights(words.shape[1] // 2)
    x, y = words[:, 0::2], words[:, 1::2]
    a = x @ first[0] + y @ first[1]
    b = x @ second[0] + y @ second[1]
    return np.stack([a, b], axis=1) & _WORD


def _after(state: Words, added: Words, pairs: int) -> Words:
    """Checksum after `pairs` pairs of words that alone add `added`: the checksum is linear in its start."""
    p, q, r = _powers(pairs)[pairs]
    a, b = int(state[0]), int(state[1])
    moved = (p * a + q * b, q * a + r * b)
    return np.array([(m + int(v)) & 0xFFFFFFFF for m, v in zip(moved, added, strict=True)], np.uint64)


@cache
def _powers(count: int) -> list[tuple[int, int, int]]:
    """Entries (p, q, r) of the powers ((p, q), (q, r)) of ((1, 1), (1, 2)) up to the `count`-th, modulo 2**32: each
    pair of words multiplies the two sums by the matrix."""
    table = [(1, 0, 1)]
    for _ in range(count):
        p, q, r = table[-1]
        table.append(((p + q) & 0xFFFFFFFF, (q + r) & 0xFFFFFFFF, (q + 2 * r) & 0xFFFFFFFF))
    return table


@cache
def _weights(pairs: int) -> tuple[tuple[Words, Words], tuple[Words, Words]]:
    """Weights of each pair (x, y) in the final sums: in the first for x and for y, and in the second."""
    p, q, r = np.array(_powers(pairs)[pairs - 1 :: -1], np.uint64).T
    return ((p + q) & _WORD, q), ((q + r) & _WORD, r)
