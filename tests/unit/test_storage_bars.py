"""Bars come back as they went in, whatever their values, and never from after the instant asked about."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import DataInvalid
from market.feed import Bar
from storage.chunks import SLOTS, BarColumns
from storage.store import Store
from tests.fakes import START
from tests.profiles import examples
from tests.stores import open_store
from tests.unit.test_storage_values import AMOUNTS, MEMORY

STEP = timedelta(seconds=5)
USUAL = st.builds(
    Bar,
    market_id=st.sampled_from(["0x01", "0x02"]),
    at=st.integers(-20, 2 * SLOTS).map(lambda n: START + n * STEP),
    bid=st.none() | st.integers(0, 10_000).map(lambda n: n * 100),
    ask=st.none() | st.integers(0, 10_000).map(lambda n: n * 100),
    bid_depth=st.integers(0, 2**32 - 1).map(lambda n: n * 10_000),
    ask_depth=st.integers(0, 2**32 - 1).map(lambda n: n * 10_000),
    updates=st.integers(0, 2**16 - 1),
)
ODD = st.builds(
    Bar,
    market_id=st.sampled_from(["0x01", "0x02"]),
    at=st.integers(0, 2**33).map(lambda n: START + timedelta(microseconds=n)),
    bid=st.none() | st.integers(0, 2**60) | st.sampled_from([3_276_700, 3_276_800, 99, 101]),
    ask=st.none() | st.integers(0, 1_000_000),
    bid_depth=AMOUNTS | st.sampled_from([2**32 * 10_000, (2**32 - 1) * 10_000]),
    ask_depth=st.integers(-(2**60), 2**60),
    updates=st.integers(-(2**40), 2**40) | st.sampled_from([2**16 - 1, 2**16]),
)
BATCHES = st.lists(st.lists(USUAL | ODD, max_size=12) | st.lists(USUAL, max_size=12), max_size=4)


async def kept(store: Store, batches: list[list[Bar]], step: int = 5) -> None:
    for batch in batches:
        await store.add_bars("source", step, batch)


def accounts(batches: list[list[Bar]], market_id: str) -> list[Bar]:
    """The plain list that the store has to agree with: the first account of each instant, in order."""
    first: dict[object, Bar] = {}
    for bar in (b for batch in batches for b in batch if b.market_id == market_id):
        first.setdefault(bar.at, bar)
    return sorted(first.values(), key=lambda b: b.at)


@examples(60)
@given(BATCHES, st.integers(-30, 2 * SLOTS), st.integers(0, 30))
def test_bars_read_back_up_to_the_instant_asked_about(batches: list[list[Bar]], slot: int, limit: int) -> None:
    async def scope() -> list[Bar]:
        async with open_store(MEMORY) as store:
            await kept(store, batches + batches)
            await store.add_bars("source", 60, [b._replace(updates=-1) for batch in batches for b in batch])
            await store.add_bars("another", 5, [b._replace(updates=-2) for batch in batches for b in batch])
            return await store.bars("source", "0x01", 5, as_of=as_of, limit=limit)

    as_of = START + slot * STEP
    expected = [b for b in accounts(batches, "0x01") if b.at <= as_of]
    assert asyncio.run(scope()) == expected[max(0, len(expected) - limit) :]


@examples(25)
@given(st.lists(USUAL | ODD, max_size=12), st.lists(USUAL | ODD, max_size=12), st.integers(-30, 2 * SLOTS))
def test_later_bars_change_no_earlier_answer(early: list[Bar], added: list[Bar], slot: int) -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            await kept(store, [early])
            before = await store.bars("source", "0x01", 5, as_of=as_of, limit=99)
            await kept(store, [[b for b in added if b.at > as_of]])
            assert await store.bars("source", "0x01", 5, as_of=as_of, limit=99) == before

    as_of = START + slot * STEP
    asyncio.run(scope())


@pytest.mark.parametrize("missing", [1, 3 * SLOTS])
def test_a_long_read_goes_over_chunks_and_holes(missing: int) -> None:
    at = [n for n in range(1000) if n % 7 or n > 400]
    at = at[:200] + [n + missing for n in at[200:]]
    bars = [Bar("0x01", START + n * STEP, n * 100, n * 100 + 100, 10_000, 20_000, n) for n in at]

    async def scope() -> None:
        async with open_store(MEMORY) as store:
            await kept(store, [bars])
            for limit in (1, 2, SLOTS, SLOTS + 1, 700, 5000):
                for last in (0, 199, 200, 300, len(bars) - 1):
                    found = await store.bars("source", "0x01", 5, as_of=bars[last].at, limit=limit)
                    assert found == bars[: last + 1][-limit:]

    asyncio.run(scope())


def test_the_first_account_of_a_bar_stays() -> None:
    async def scope() -> None:
        bar = Bar("0x01", START, 490_000, 510_000, 1, 2, 3)
        async with open_store(MEMORY) as store:
            await store.add_bars("source", 5, [bar, bar._replace(bid=2)])
            await store.add_bars("source", 5, [bar._replace(bid=1), bar._replace(at=START + STEP)])
            found = await store.bars("source", "0x01", 5, as_of=START + STEP, limit=9)
            assert found == [bar, bar._replace(at=START + STEP)]
            await store.add_bars("source", 5, [])

    asyncio.run(scope())


def test_columns_go_in_and_come_out() -> None:
    step = 300_000_000
    at = 1_767_225_600_000_000 + np.arange(1000) * step
    columns = BarColumns(at, at % 977 * 100, at % 971 * 100, at % 967 * 10_000, at % 953 * 10_000, at % 947)

    async def scope() -> None:
        async with open_store(MEMORY) as store:
            await store.add_bar_columns("source", 300, {"0x01": columns, "0x02": columns.part(slice(0, 0))})
            bars = columns.bars("0x01")
            found = await store.bar_columns("source", "0x01", 300, as_of=bars[500].at, limit=400)
            for had, got in zip(columns.part(slice(101, 501)).columns, found.columns, strict=True):
                assert (had == got).all() and got.dtype == np.int64
            assert len(await store.bar_columns("source", "0x02", 300, as_of=bars[500].at, limit=400)) == 0

    asyncio.run(scope())


def test_a_price_below_zero_is_refused() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            await store.add_bars("source", 5, [Bar("0x01", START, -100, None, 0, 0, 0)])

    with pytest.raises(ValueError, match="-100 is a price below zero"):
        asyncio.run(scope())


@pytest.mark.parametrize("damage", ["x'FF000000'", "x''", "substr(body, 1, 20)", "x'0001'"])
def test_a_damaged_chunk_is_said_and_never_read_as_prices(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bars.db"

    async def scope(write: bool) -> None:
        async with open_store(f"sqlite:///{path}") as store:
            if write:
                await kept(store, [[Bar("0x01", START + n * STEP, 100, 200, 10_000, 10_000, 1) for n in range(3)]])
            else:
                await store.bars("source", "0x01", 5, as_of=START + 9 * STEP, limit=9)

    asyncio.run(scope(True))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE bar_chunks SET body = {damage}")  # noqa: S608 - one of the four above
    with pytest.raises(DataInvalid, match="of the price history") as said:
        asyncio.run(scope(False))
    assert "Restore a backup" in said.value.next_step


def test_a_bar_takes_less_than_seventeen_bytes_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "bars.db"
    ticks = np.arange(288 * 200)
    at, noise = 1_767_225_600_000_000 + ticks * 300_000_000, ticks * 7919 % 9000

    async def scope() -> None:
        bars = BarColumns(at, noise * 100, noise * 100 + 100, noise * 10_000, noise * 990_000, noise)
        async with open_store(f"sqlite:///{path}") as store:
            await store.add_bar_columns("source", 300, {f"0x{n:064x}": bars for n in range(2)})

    asyncio.run(scope())
    empty = tmp_path / "empty.db"

    async def made() -> None:
        async with open_store(f"sqlite:///{empty}"):
            pass

    asyncio.run(made())
    assert (path.stat().st_size - empty.stat().st_size) / (2 * len(ticks)) < 17
