"""Price history is point in time, apart by source, and the same however often it is written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from market.feed import Bar
from market.types import PayoutSource, Resolution
from storage.records import Observation
from storage.store import open_store
from tests.fakes import START, market
from tests.unit.test_storage_values import AMOUNTS, MEMORY, RESOLUTION

SECOND = timedelta(seconds=1)
MICROS = st.integers(0, 1_000_000)
BARS = st.builds(
    Bar,
    market_id=st.sampled_from(["0x01", "0x02"]),
    at=st.integers(0, 50).map(lambda n: START + n * 5 * SECOND),
    bid=st.none() | MICROS,
    ask=st.none() | MICROS,
    bid_depth=AMOUNTS,
    ask_depth=AMOUNTS,
    updates=st.integers(0, 999),
)
ROWS = st.builds(
    Observation,
    market_id=st.sampled_from(["0x01", "0x02", "0x03"]),
    at=st.integers(0, 100).map(lambda n: START + n * SECOND),
    seconds_left=st.integers(0, 300),
    window=st.sampled_from([300, 900]),
    mid=MICROS,
    buckets=st.dictionaries(st.sampled_from(["imbalance", "drift"]), st.sampled_from(["up", "flat", "down"])),
    payout=st.sampled_from([0, 500_000, 1_000_000]),
    known_at=st.integers(0, 100).map(lambda n: START + n * SECOND),
    official=st.booleans(),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(BARS, max_size=20, unique_by=lambda b: (b.market_id, b.at)), st.integers(0, 60), st.integers(1, 25))
def test_bars_read_back_up_to_the_instant_asked_about(bars: list[Bar], second: int, limit: int) -> None:
    async def scope() -> list[Bar]:
        async with open_store(MEMORY) as store:
            for _ in range(2):
                await store.add_bars("source", 5, bars)
            await store.add_bars("source", 60, [replace(b, updates=-1) for b in bars])
            await store.add_bars("another", 5, [replace(b, updates=-2) for b in bars])
            return await store.bars("source", "0x01", 5, as_of=as_of, limit=limit)

    as_of = START + second * 5 * SECOND
    expected = sorted((b for b in bars if b.market_id == "0x01" and b.at <= as_of), key=lambda b: b.at)
    assert asyncio.run(scope()) == expected[-limit:]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(ROWS, max_size=20, unique_by=lambda o: (o.market_id, o.at)),
    st.integers(0, 101),
    st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda t: (min(t), max(t))),
)
def test_no_observation_from_the_future_is_read(rows: list[Observation], second: int, band: tuple[int, int]) -> None:
    async def scope() -> list[Observation]:
        async with open_store(MEMORY) as store:
            for _ in range(2):
                await store.add_observations("source", rows)
            return await store.observations("source", as_of=as_of, window=900, seconds_left=band)

    as_of = START + second * SECOND
    expected = [
        o
        for o in sorted(rows, key=lambda o: (o.at, o.market_id))
        if o.window == 900 and band[0] <= o.seconds_left <= band[1] and o.known_at < as_of and o.at < as_of
    ]
    assert asyncio.run(scope()) == expected


def test_a_planted_later_row_changes_no_earlier_answer() -> None:
    async def scope() -> None:
        seen = Observation("0x01", START, 60, 900, 500_000, {"drift": "up"}, 1_000_000, START + 60 * SECOND, True)
        as_of = START + 61 * SECOND
        planted = [
            replace(seen, market_id="at", at=as_of),
            replace(seen, market_id="known", known_at=as_of),
            replace(seen, market_id="later", known_at=as_of + SECOND),
        ]
        async with open_store(MEMORY) as store:
            await store.add_observations("source", [seen])
            await store.add_observations("source", planted)
            await store.add_observations("another", [replace(seen, market_id="elsewhere")])
            assert await store.observations("source", as_of=as_of, window=900, seconds_left=(0, 900)) == [seen]

    asyncio.run(scope())


def test_the_first_account_of_a_bar_stays() -> None:
    async def scope() -> None:
        bar = Bar("0x01", START, 490_000, 510_000, 1, 2, 3)
        async with open_store(MEMORY) as store:
            await store.add_bars("source", 5, [bar])
            await store.add_bars("source", 5, [replace(bar, bid=1), replace(bar, at=START + 5 * SECOND)])
            found = await store.bars("source", "0x01", 5, as_of=START + 5 * SECOND, limit=9)
            assert found == [bar, replace(bar, at=START + 5 * SECOND)]
            await store.add_bars("source", 5, [])

    asyncio.run(scope())


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
