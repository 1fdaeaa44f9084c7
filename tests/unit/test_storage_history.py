"""Outcomes are point in time, apart by source, and the official word prevails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from market.types import PayoutSource, Resolution
from tests.fakes import START, market
from tests.stores import open_store
from tests.unit.test_storage_values import MEMORY, RESOLUTION

SECOND = timedelta(seconds=1)


def test_a_resolution_is_known_from_its_instant_and_the_official_one_prevails() -> None:
    async def scope() -> None:
        inferred = replace(RESOLUTION, source=PayoutSource.INFERRED, known_at=START)
        official = replace(RESOLUTION, payout=Decimal("0.5"), known_at=START + SECOND)
        unresolved = Resolution("0x02", None, PayoutSource.UNRESOLVED, START)
        async with open_store(MEMORY) as store:
            for resolution in (official, inferred, inferred, unresolved):
                await store.add_resolution("source", resolution)
            assert await store.resolution("source", "0x01", START - SECOND) is None
            assert await store.resolution("source", "0x01", START) == inferred
            assert await store.resolution("source", "0x01", START + SECOND) == official
            assert await store.resolution("source", "0x02", START) == unresolved
            assert await store.resolution("another", "0x01", START + SECOND) is None

    asyncio.run(scope())


def test_markets_read_back() -> None:
    async def scope() -> None:
        known = [market(0), replace(market(1), price_to_beat=Decimal("65123.45"))]
        async with open_store(MEMORY) as store:
            await store.add_markets("source", known)
            assert [await store.market("source", m.id) for m in known] == known
            assert await store.market("another", known[0].id) is None

    asyncio.run(scope())
