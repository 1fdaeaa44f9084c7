"""Price bars in chunks of 288: stored, merged and read point-in-time.

The first version of a bar stays: adding it again, or differently, changes nothing. A read takes a prefix of bars in
order of time, so that it cannot hold one that closed after the instant it names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from market.feed import Bar
from storage import schema
from storage.chunks import NOTHING, SLOTS, BarColumns, Piece, by_chunk, pack, piece, unpack, width
from storage.connection import Database
from storage.rows import add_new
from storage.schema import to_us

_ALL = sys.maxsize
_MOST_SERIES = 10_000
"""Largest number of cached series ids."""
_END = 2**63 - 1
_Key = tuple[str, str, int]
_Fetch = Callable[[int, int, int], Sequence[tuple[int, bytes]]]
_BEFORE = "SELECT chunk, body FROM bar_chunks WHERE series = ? AND chunk <= ? ORDER BY chunk DESC LIMIT ?"

_INSERT = insert(schema.bar_chunks)
_THESE = (schema.bar_chunks.c.series == bindparam("at_series")) & (schema.bar_chunks.c.chunk == bindparam("at_chunk"))
_UPDATE = update(schema.bar_chunks).where(_THESE).values(body=bindparam("body"))


class BarReader:
    """Bar queries on one connection, which belongs to the worker thread; valid for its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._fetch = _fetch(connection)

    def series(self, source: str, market_id: str, step: int) -> int | None:
        """Id of a series of bars; None if there is none. It never changes."""
        s = schema.bar_series.c
        query = select(s.id).where(s.source == source, s.market_id == market_id, s.step == step)
        return self._connection.scalar(query)

    def last(self, series: int, step: int, as_of: int, limit: int) -> BarColumns:
        """The last `limit` bars of a series closed at or before `as_of` (microseconds)."""
        pieces: list[Piece] = []
        number = as_of // width(step)
        while limit > 0:
            wanted = (limit - 2) // SLOTS + 2  # as many chunks as hold that many bars, unless some are missing
            chunks = self._fetch(series, number, wanted)
            for number, body in chunks:
                found = piece(number, body, step, as_of, limit)
                pieces.append(found)
                limit -= found.length
            if len(chunks) < wanted:
                break
            number -= 1
        pieces.reverse()
        return unpack(pieces)


def _fetch(connection: Connection) -> _Fetch:
    """Query for the newest chunks up to a number, newest first."""
    if connection.dialect.name == "sqlite":
        cursor = connection.connection.cursor()  # SQLAlchemy's rows cost more than reading and unpacking them

        def fetch(series: int, number: int, count: int) -> Sequence[tuple[int, bytes]]:
            cursor.execute(_BEFORE, (series, number, count))
            return cursor.fetchall()

        return fetch
    c = schema.bar_chunks.c

    def through_core(series: int, number: int, count: int) -> Sequence[tuple[int, bytes]]:
        query = select(c.chunk, c.body).where(c.series == series, c.chunk <= number).order_by(c.chunk.desc())
        return [(row.chunk, bytes(row.body)) for row in connection.execute(query.limit(count))]

    return through_core


class PriceBars:
    """Bars by source (a feed's fingerprint), market and step. Instants are aware UTC."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._series: dict[_Key, int] = {}

    async def add_bars(self, source: str, step: int, bars: Iterable[Bar]) -> None:
        """Store bars of `step` seconds. Errors: ValueError for a price below zero."""
        markets: dict[str, list[Bar]] = {}
        for bar in bars:
            markets.setdefault(bar.market_id, []).append(bar)
        await self.add_bar_columns(source, step, {m: BarColumns.of(found) for m, found in markets.items()})

    async def add_bar_columns(self, source: str, step: int, bars: Mapping[str, BarColumns]) -> None:
        """Store bars of `step` seconds, by market, in one transaction."""
        await self._put_bars({(source, market_id, step): found for market_id, found in bars.items()})

    async def add_histories(self, source: str, bars: Mapping[tuple[str, int], Sequence[Bar]]) -> None:
        """Store bars by market and step in seconds, in one transaction."""
        await self._put_bars({(source, *which): BarColumns.of(found) for which, found in bars.items()})

    async def _put_bars(self, bars: Mapping[_Key, BarColumns]) -> None:
        wanted = {key: found for key, found in bars.items() if len(found)}
        known = {key: self._series[key] for key in wanted if key in self._series}

        def add(connection: Connection) -> dict[_Key, int]:
            numbers = known | _numbers(connection, [key for key in wanted if key not in known])
            _keep(connection, [(numbers[key], key[2], found) for key, found in wanted.items()])
            return numbers

        if wanted:
            if len(self._series) > _MOST_SERIES:
                self._series.clear()  # windows come and go
            self._series |= await self._db.write(add)

    async def drop_bars(self, before: datetime) -> int:
        """Delete chunks all of whose bars closed before an instant; return their number."""
        s, c, cut = schema.bar_series.c, schema.bar_chunks.c, to_us(before)

        def drop(connection: Connection) -> int:
            count = 0
            for step in connection.scalars(select(s.step).distinct()).all():
                of_step = c.series.in_(select(s.id).where(s.step == step))
                old = delete(schema.bar_chunks).where(of_step, c.chunk < cut // width(step))
                count += connection.execute(old).rowcount
            return count

        return await self._db.write(drop)

    async def bars(self, source: str, market_id: str, step: int, *, as_of: datetime, limit: int) -> list[Bar]:
        """The last `limit` bars closed at or before `as_of`, oldest first."""
        found = await self.bar_columns(source, market_id, step, as_of=as_of, limit=limit)
        return found.bars(market_id)

    async def bars_of(
        self, source: str, market_ids: Sequence[str], step: int, *, as_of: datetime, limit: int
    ) -> dict[str, list[Bar]]:
        """The last `limit` bars of each of many markets, from one snapshot of the database."""
        now = to_us(as_of)

        def read(connection: Connection) -> list[BarColumns]:
            reader = BarReader(connection)
            return [self._newest(reader, (source, market_id, step), now, limit) for market_id in market_ids]

        found = await self._db.read(read)
        return {market_id: columns.bars(market_id) for market_id, columns in zip(market_ids, found, strict=True)}

    async def bar_columns(self, source: str, market_id: str, step: int, *, as_of: datetime, limit: int) -> BarColumns:
        """The last `limit` bars closed at or before `as_of`, oldest first, as arrays."""
        key, now = (source, market_id, step), to_us(as_of)

        return await self._db.read(lambda connection: self._newest(BarReader(connection), key, now, limit))

    def _newest(self, reader: BarReader, key: _Key, now: int, limit: int) -> BarColumns:
        series = self._series.get(key) or reader.series(*key)
        if series is None:
            return NOTHING
        self._series[key] = series
        return reader.last(series, key[2], now, limit)


def _numbers(connection: Connection, keys: Sequence[_Key]) -> dict[_Key, int]:
    """Ids of series, which are created if missing."""
    rows = [{"source": source, "market_id": market_id, "step": step} for source, market_id, step in keys]
    add_new(connection, schema.bar_series, rows)
    reader = BarReader(connection)
    return {key: number for key in keys if (number := reader.series(*key)) is not None}


def _keep(connection: Connection, histories: Sequence[tuple[int, int, BarColumns]]) -> None:
    """Merge bars into their chunks, by series and step, inside the caller's transaction."""
    fetch = _fetch(connection)
    fresh, changed = [], []
    for series, step, bars in histories:
        parts = dict(by_chunk(bars, step))
        there = dict(fetch(series, max(parts), max(parts) - min(parts) + 1))
        for number, part in parts.items():
            if number not in there:
                fresh.append({"series": series, "chunk": number, "body": pack(number, part, step)})
            elif (body := _merged(number, there[number], part, step)) is not None:
                changed.append({"at_series": series, "at_chunk": number, "body": body})
    if fresh:
        connection.execute(_INSERT, fresh)
    if changed:
        connection.execute(_UPDATE, changed)


def _merged(number: int, body: bytes, part: BarColumns, step: int) -> bytes | None:
    """Chunk with the bars it lacks; None if it lacks none."""
    old = unpack((piece(number, body, step, _END, _ALL),))
    new = old.merged(part)
    return pack(number, new, step) if len(new) > len(old) else None
