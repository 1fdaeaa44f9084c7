"""Markets and their resolutions by source. Rows of one source are invisible to others, and reads are point-in-time.

The first version of a row stays: adding it again, or differently, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from market.types import Market, PayoutSource, Resolution, micro, units
from storage import schema
from storage.canonical import canonical
from storage.connection import Database
from storage.rows import add_new
from storage.schema import from_us, to_us

_TRUST = (PayoutSource.OFFICIAL.value, PayoutSource.INFERRED.value, PayoutSource.UNRESOLVED.value)


class MarketHistory:
    """Markets and resolutions by source (a feed's fingerprint). Instants are aware UTC."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def add_resolution(self, source: str, resolution: Resolution) -> None:
        """Store a market's resolution; an inferred and an official one are stored side by side."""
        row = {
            "source": source,
            "market_id": resolution.market_id,
            "payout_source": resolution.source.value,
            "payout_micro": None if resolution.payout is None else micro(resolution.payout),
            "known_at": to_us(resolution.known_at),
        }
        await self._add(schema.resolutions, [row])

    async def resolution(self, source: str, market_id: str, as_of: datetime) -> Resolution | None:
        """The market's resolution as known at `as_of`; the official one if there is one."""
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


def _resolution(row: Row[Any]) -> Resolution:
    payout = None if row.payout_micro is None else units(row.payout_micro)
    return Resolution(row.market_id, payout, PayoutSource(row.payout_source), from_us(row.known_at))


def _market(body: dict[str, Any]) -> Market:
    instants = {k: datetime.fromisoformat(body[k]) for k in ("opens_at", "closes_at")}
    beat = body["price_to_beat"]
    prices = {"tick": Decimal(body["tick"]), "price_to_beat": None if beat is None else Decimal(beat)}
    return Market(**(body | instants | prices | {"outcomes": tuple(body["outcomes"])}))
