"""Finished windows: stored as rows, read as a `WindowHistory`. Each source and window length has a timeline in memory,
which is read from the database once and then extended by rows added since, by this program or another. It drops rows
older than the newest ones; a query as of so long ago reads all of them again.

The first version of a row stays: adding it again, or differently, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, func, select, text

from market.errors import DataInvalid
from market.types import UNIT
from storage import schema
from storage.analogs import BucketVocabulary, WindowHistory
from storage.connection import Database
from storage.neighbours import state_of
from storage.records import Observation
from storage.rows import add_new, chunks
from storage.schema import to_us
from storage.timeline import Array, Timeline

TIMELINES = 8
"""Timelines in memory; the least recently used is dropped first."""
_AT_ONCE = 50_000
_DAMAGED = "Restore a backup of the database."
_LATER = (
    select(schema.observations)
    .where(
        schema.observations.c.source == bindparam("of_source"),
        schema.observations.c.window == bindparam("of_window"),
        schema.observations.c.id > bindparam("after"),
    )
    .order_by(schema.observations.c.id)
)
_INTEGERS = ("at", "seconds_left", "mid", "payout", "known_at")


class Windows:
    """Finished windows by source. Instants are aware UTC."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._timelines: dict[tuple[str, int], tuple[Timeline, int]] = {}
        self._vocabulary = BucketVocabulary()
        self._last: tuple[tuple[str, int, int], WindowHistory] | None = None

    async def add_observations(self, source: str, observations: Iterable[Observation]) -> None:
        """Store finished windows. Errors: ValueError for a state of another length than the source has, or with a value
        that is not a number."""
        rows = list(observations)
        states = [state_of(o.state).astype("<f4").tobytes() for o in rows]
        if rows:
            await self._db.write(lambda c: self._add_rows(c, source, rows, states))

    async def past(
        self, source: str, *, as_of: datetime, window: int, embargo: timedelta = timedelta(0)
    ) -> WindowHistory:
        """The newest windows of `window` seconds (`storage.timeline.NEWEST` rows at most) that were made and had a
        known outcome strictly before `as_of` - `embargo`. Repeated for the same instant, the answer is the same object,
        unless rows were added here in between."""
        key = source, window, to_us(as_of - embargo)

        def read(connection: Connection) -> WindowHistory:
            timeline = self._timeline(connection, source, window)
            if not timeline.reaches(key[2]):
                del self._timelines[source, window]
                timeline = self._timeline(connection, source, window, forgets=False)
            found = timeline.before(key[2])
            self._last = key, found
            return found

        last = self._last
        return last[1] if last is not None and last[0] == key else await self._db.read(read)

    async def mids(self, source: str, market_ids: Sequence[str]) -> dict[str, dict[int, float]]:
        """Stored mids of finished windows, in dollars, by market and seconds to the close."""
        o = schema.observations.c

        def read(connection: Connection) -> dict[str, dict[int, float]]:
            found: dict[str, dict[int, float]] = {}
            for some in chunks(list(dict.fromkeys(market_ids))):
                query = select(o.market_id, o.seconds_left, o.mid).where(o.source == source, o.market_id.in_(some))
                for row in connection.execute(query):
                    found.setdefault(row.market_id, {})[row.seconds_left] = row.mid / UNIT
            return found

        return await self._db.read(read)

    def _add_rows(
        self, connection: Connection, source: str, rows: Sequence[Observation], states: Sequence[bytes]
    ) -> None:
        self._last = None
        _keep(connection, source, rows, states)

    def _timeline(self, connection: Connection, source: str, window: int, *, forgets: bool = True) -> Timeline:
        """Timeline with the rows of the database as of now. Belongs to the worker thread."""
        key = (source, window)
        timeline, last = self._timelines.pop(key, (None, 0))
        if timeline is None:
            timeline = Timeline(window, self._vocabulary, forgets=forgets)
        these = {"of_source": source, "of_window": window, "after": last}
        for rows in connection.execute(_LATER, these, execution_options={"yield_per": _AT_ONCE}).partitions():
            self._extend(connection, timeline, rows)
            last = rows[-1].id
        self._timelines[key] = timeline, last
        while len(self._timelines) > TIMELINES:
            del self._timelines[next(iter(self._timelines))]
        return timeline

    def _extend(self, connection: Connection, timeline: Timeline, rows: Sequence[Row[Any]]) -> None:
        columns: dict[str, Array] = {n: np.array([r._mapping[n] for r in rows], np.int64) for n in _INTEGERS}
        columns["official"] = np.array([r.official for r in rows], np.bool_)
        states = np.frombuffer(b"".join(r.state for r in rows), "<f4").reshape(len(rows), -1)
        timeline.extend([r.market_id for r in rows], columns, self._codes(connection, rows), states)

    def _codes(self, connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, Array]:
        """Bucket number of each row, by feature."""
        numbers = np.frombuffer(b"".join(r.buckets for r in rows), "<u2")
        row = np.repeat(np.arange(len(rows)), [len(r.buckets) // 2 for r in rows])
        used = np.unique(numbers).tolist()
        if any(number not in self._vocabulary.word for number in used):
            for word in connection.execute(select(schema.vocabulary)):
                self._vocabulary.learn(word.id, word.feature, word.bucket)
            if any(number not in self._vocabulary.word for number in used):
                raise DataInvalid("a past window has a bucket without a name.", next_step=_DAMAGED)
        codes: dict[str, Array] = {}
        for number in used:
            feature, _ = self._vocabulary.word[number]
            these = numbers == number
            codes.setdefault(feature, np.zeros(len(rows), np.uint16))[row[these]] = number
        return codes


def _keep(connection: Connection, source: str, rows: Sequence[Observation], states: Sequence[bytes]) -> None:
    if connection.dialect.name == "postgresql":  # so that rows appear in the order of their ids
        # Timelines read rows above the last id seen. Ids are given before the commit, so without the lock a smaller id
        # could become visible after a larger one and would be missed. SQLite has one writer anyway.
        connection.execute(text("LOCK TABLE observations IN SHARE ROW EXCLUSIVE MODE"))
    o = schema.observations.c
    length = connection.scalar(select(func.length(o.state)).where(o.source == source).limit(1))
    if any(len(state) != (len(states[0]) if length is None else length) for state in states):
        raise ValueError(f"every state of {source} has to have equally many numbers")
    number = _numbers(connection, chain.from_iterable(o.buckets.items() for o in rows))
    add_new(connection, schema.observations, [_row(source, o, s, number) for o, s in zip(rows, states, strict=True)])


def _row(source: str, o: Observation, state: bytes, number: dict[tuple[str, str], int]) -> dict[str, Any]:
    return {
        "source": source,
        "market_id": o.market_id,
        "at": to_us(o.at),
        "seconds_left": o.seconds_left,
        "window": o.window,
        "mid": o.mid,
        "buckets": _packed(o.buckets.items(), number),
        "state": state,
        "payout": o.payout,
        "known_at": to_us(o.known_at),
        "official": o.official,
    }


def _packed(buckets: Iterable[tuple[str, str]], number: dict[tuple[str, str], int]) -> bytes:
    """Buckets as numbers of the vocabulary, ascending."""
    return np.array(sorted(number[pair] for pair in buckets), "<u2").tobytes()


def _numbers(connection: Connection, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Numbers of (feature, bucket) pairs; new pairs get one."""
    v = schema.vocabulary
    wanted = set(pairs)
    found = {(row.feature, row.bucket): row.id for row in connection.execute(select(v))}
    if fresh := sorted(wanted - found.keys()):
        add_new(connection, v, [{"feature": feature, "bucket": bucket} for feature, bucket in fresh])
        found = {(row.feature, row.bucket): row.id for row in connection.execute(select(v))}
    return found
