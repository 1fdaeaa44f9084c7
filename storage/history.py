"""What the markets did: bars, finished windows, outcomes. Rows of one source are never seen by another, and no read
sees what could not have been known at the instant it names.

The first account of a row stays: adding it again, or differently, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from market.feed import Bar
from market.types import Market, PayoutSource, Resolution, micro, units
from storage import schema
from storage.canonical import canonical
from storage.connection import Database
from storage.records import Observation
from storage.rows import add_new
from storage.schema import from_us, to_us

_TRUST = (PayoutSource.OFFICIAL.value, PayoutSource.INFERRED.value, PayoutSource.UNRESOLVED.value)


class History:
    """Price history by source (a feed's fingerprint). Instants are aware UTC."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def add_bars(self, source: str, step: int, bars: Iterable[Bar]) -> None:
        """Keep bars of `step` seconds."""
        rows = [
            {
                "source": source,
                "market_id": b.market_id,
                "step": step,
                "at": to_us(b.at),
                "bid": b.bid,
                "ask": b.ask,
                "bid_depth": b.bid_depth,
                "ask_depth": b.ask_depth,
                "updates": b.updates,
            }
            for b in bars
        ]
        await self._add(schema.bars, rows)

    async def bars(self, source: str, market_id: str, step: int, *, as_of: datetime, limit: int) -> list[Bar]:
        """The last `limit` bars closed at or before `as_of`, oldest first."""
        b = schema.bars
        query = (
            select(b)
            .where(b.c.source == source, b.c.market_id == market_id, b.c.step == step, b.c.at <= to_us(as_of))
            .order_by(b.c.at.desc())
            .limit(limit)
        )
        return await self._db.read(lambda c: [_bar(row) for row in reversed(c.execute(query).all())])

    async def add_observations(self, source: str, observations: Iterable[Observation]) -> None:
        rows = [
            {
                "source": source,
                "market_id": o.market_id,
                "at": to_us(o.at),
                "seconds_left": o.seconds_left,
                "window": o.window,
                "mid": o.mid,
                "buckets": canonical(o.buckets),
                "payout": o.payout,
                "known_at": to_us(o.known_at),
                "official": o.official,
            }
            for o in observations
        ]
        await self._add(schema.observations, rows)

    async def observations(
        self, source: str, *, as_of: datetime, window: int, seconds_left: tuple[int, int]
    ) -> list[Observation]:
        """Finished windows of `window` seconds, seen between two times to close (both included).

        Only rows made, and with an outcome known, strictly before `as_of`; by instant, then market.
        """
        o = schema.observations
        low, high = seconds_left
        now = to_us(as_of)
        query = select(o).where(
            o.c.source == source,
            o.c.window == window,
            o.c.seconds_left.between(low, high),
            o.c.known_at < now,
            o.c.at < now,
        )
        found = await self._db.read(lambda c: [_observation(row) for row in c.execute(query)])
        return sorted(found, key=lambda r: (r.at, r.market_id))

    async def add_resolution(self, source: str, resolution: Resolution) -> None:
        """Keep how a market ended; an inferred and an official outcome are kept side by side."""
        row = {
            "source": source,
            "market_id": resolution.market_id,
            "payout_source": resolution.source.value,
            "payout_micro": None if resolution.payout is None else micro(resolution.payout),
            "known_at": to_us(resolution.known_at),
        }
        await self._add(schema.resolutions, [row])

    async def resolution(self, source: str, market_id: str, as_of: datetime) -> Resolution | None:
        """How the market ended as far as could be known at `as_of`; the official word where there is one."""
        r = schema.resolutions
        query = select(r).where(r.c.source == source, r.c.market_id == market_id, r.c.known_at <= to_us(as_of))

        def best(connection: Connection) -> Resolution | None:
            rows = sorted(connection.execute(query), key=lambda row: _TRUST.index(row.payout_source))
            return _resolution(rows[0]) if rows else None

        return await self._db.read(best)

    async def add_markets(self, source: str, markets: Iterable[Market]) -> None:
        await self._add(schema.markets, [{"source": source, "id": m.id, "body": canonical(m)} for m in markets])

    async def market(self, source: str, market_id: str) -> Market | None:
        m = schema.markets
        query = select(m.c.body).where(m.c.source == source, m.c.id == market_id)
        text = await self._db.read(lambda c: c.scalar(query))
        return None if text is None else _market(json.loads(text))

    async def _add(self, table: Table, rows: list[dict[str, Any]]) -> None:
        if rows:
            await self._db.write(lambda c: add_new(c, table, rows))


def _bar(row: Row[Any]) -> Bar:
    return Bar(row.market_id, from_us(row.at), row.bid, row.ask, row.bid_depth, row.ask_depth, row.updates)


@lru_cache(maxsize=4096)
def _buckets(text: str) -> Mapping[str, str]:
    """Many windows look alike: one mapping serves them all."""
    found: dict[str, str] = json.loads(text)
    return found


def _observation(row: Row[Any]) -> Observation:
    return Observation(
        market_id=row.market_id,
        at=from_us(row.at),
        seconds_left=row.seconds_left,
        window=row.window,
        mid=row.mid,
        buckets=_buckets(row.buckets),
        payout=row.payout,
        known_at=from_us(row.known_at),
        official=row.official,
    )


def _resolution(row: Row[Any]) -> Resolution:
    payout = None if row.payout_micro is None else units(row.payout_micro)
    return Resolution(row.market_id, payout, PayoutSource(row.payout_source), from_us(row.known_at))


def _market(body: dict[str, Any]) -> Market:
    instants = {k: datetime.fromisoformat(body[k]) for k in ("opens_at", "closes_at")}
    beat = body["price_to_beat"]
    prices = {"tick": Decimal(body["tick"]), "price_to_beat": None if beat is None else Decimal(beat)}
    return Market(**(body | instants | prices | {"outcomes": tuple(body["outcomes"])}))
