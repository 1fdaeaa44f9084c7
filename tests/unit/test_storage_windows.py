"""Reads of the past return the same as a plain list of rows, and no later row can be seen in them."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import DataInvalid
from storage.analogs import WindowHistory
from storage.records import Observation
from storage.store import Store
from storage.windows import TIMELINES
from tests.fakes import START
from tests.profiles import examples
from tests.stores import open_store
from tests.unit.test_storage_values import MEMORY

SECOND = timedelta(seconds=1)
STATE = (0.5, -1.25)
FLOATS = st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6, width=32)
ROWS = st.builds(
    Observation,
    market_id=st.sampled_from(["0x01", "0x02", "0x03"]),
    at=st.integers(0, 100).map(lambda n: START + n * SECOND),
    seconds_left=st.integers(0, 300),
    window=st.sampled_from([300, 900]),
    mid=st.integers(0, 1_000_000),
    buckets=st.dictionaries(st.sampled_from(["imbalance", "drift"]), st.sampled_from(["up", "flat", "down"])),
    payout=st.sampled_from([0, 500_000, 1_000_000]),
    known_at=st.integers(0, 100).map(lambda n: START + n * SECOND),
    official=st.booleans(),
    state=st.tuples(FLOATS, FLOATS),
)
MANY = st.lists(ROWS, max_size=25, unique_by=lambda o: (o.market_id, o.at))
BANDS = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda t: (min(t), max(t)))
SEEN = Observation("0x01", START, 60, 900, 500_000, {"drift": "up"}, 1_000_000, START + 60 * SECOND, True, STATE)


def kept_in_order(rows: list[Observation], window: int, cut: datetime) -> list[Observation]:
    """The plain list that the store has to agree with."""
    known = [o for o in rows if o.window == window and o.known_at < cut and o.at < cut]
    return sorted(known, key=lambda o: max(o.known_at, o.at))


def square(row: Observation, state: tuple[float, ...]) -> float:
    total = 0.0
    for a, b in zip(row.state, state, strict=True):
        total += (a - float(np.float32(b))) * (a - float(np.float32(b)))
    return total


def first_of_each_market(rows: list[Observation], order: list[int]) -> list[int]:
    met: dict[str, int] = {}
    for i in order:
        met.setdefault(rows[i].market_id, i)
    return list(met.values())


@examples(40)
@given(MANY, st.lists(st.integers(0, 25), max_size=3), st.integers(0, 101), st.integers(0, 40), BANDS, st.data())
def test_a_past_says_what_a_list_of_rows_says(
    rows: list[Observation], cuts: list[int], second: int, embargo: int, band: tuple[int, int], data: st.DataObject
) -> None:
    state = data.draw(st.tuples(FLOATS, FLOATS))
    k = data.draw(st.integers(0, 5))
    as_of, gap = START + second * SECOND, embargo * SECOND

    async def scope() -> WindowHistory:
        async with open_store(MEMORY) as store:
            edges = [0, *sorted(cuts), len(rows)]
            for low, high in pairwise(edges):
                await store.add_observations("source", rows[low:high])
                await store.add_observations("another", [replace(o, payout=-1, state=()) for o in rows[low:high]])
                await store.past("source", as_of=as_of, window=900)
            await store.add_observations("source", [replace(o, payout=-2) for o in rows])
            return await store.past("source", as_of=as_of, window=900, embargo=gap)

    past = asyncio.run(scope())
    expected = kept_in_order(rows, 900, as_of - gap)
    every = list(range(len(expected)))
    middle = sum(band)
    closest = sorted(every, key=lambda i: (abs(2 * expected[i].seconds_left - middle), i))
    inside = [i for i in closest if band[0] <= expected[i].seconds_left <= band[1]]
    like = [i for i in inside if expected[i].buckets.get("drift") == "up"]
    near = sorted(every, key=lambda i: (square(expected[i], state), i))

    assert past.rows(np.arange(len(past))) == expected
    assert past.around(band).tolist() == sorted(first_of_each_market(expected, inside))
    assert past.around(band, per_market=False).tolist() == sorted(inside)
    assert past.like("drift", "up", band).tolist() == sorted(first_of_each_market(expected, like))
    assert past.like("drift", "up", band, per_market=False).tolist() == sorted(like)
    assert past.nearest(state, k, per_market=False)[0].tolist() == near[:k]
    found, squares = past.nearest(state, k)
    assert found.tolist() == first_of_each_market(expected, near)[:k]
    assert squares.tolist() == [square(expected[i], state) for i in found]
    among = past.around(band, per_market=False)
    assert (
        past.nearest(state, k, among=among[::-1])[0].tolist()
        == first_of_each_market(expected, [i for i in near if i in set(inside)])[:k]
    )


@examples(25)
@given(MANY, MANY, st.integers(0, 101))
def test_later_rows_change_neither_an_earlier_answer_nor_one_that_was_given(
    early: list[Observation], added: list[Observation], second: int
) -> None:
    as_of = START + second * SECOND
    known = {(o.market_id, o.at) for o in early}
    later = [o for o in added if max(o.at, o.known_at) >= as_of and (o.market_id, o.at) not in known]

    def said(past: WindowHistory) -> object:
        every = np.arange(len(past))
        answers = [past.nearest(STATE, 3), past.like("drift", "up", (0, 300)), past.code("imbalance")]
        return past.rows(every), past.digest(every), [np.asarray(a).tolist() for a in answers]

    async def scope() -> None:
        async with open_store(MEMORY) as store:
            await store.add_observations("source", early)
            given_out = await store.past("source", as_of=as_of, window=900)
            before = said(given_out)
            await store.add_observations("source", [*later, replace(SEEN, at=as_of, market_id="new")])
            assert said(await store.past("source", as_of=as_of, window=900)) == before
            assert said(given_out) == before

    asyncio.run(scope())


@examples(60)
@given(MANY, st.lists(st.integers(0, 25), max_size=4), st.lists(st.integers(0, 101), min_size=1, max_size=4), st.data())
def test_a_past_has_the_newest_rows_and_forgets_none_that_it_needs(
    rows: list[Observation], cuts: list[int], seconds: list[int], data: st.DataObject
) -> None:
    newest = data.draw(st.integers(1, 8))

    async def scope() -> None:
        async with open_store(MEMORY) as store:
            there: list[Observation] = []
            for low, high in pairwise([0, *sorted(cuts), len(rows)]):
                await store.add_observations("source", rows[low:high])
                there += rows[low:high]
                for second in seconds:
                    as_of = START + second * SECOND
                    past = await store.past("source", as_of=as_of, window=900)
                    assert past.rows(np.arange(len(past))) == kept_in_order(there, 900, as_of)[-newest:]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.timeline.NEWEST", newest)
        asyncio.run(scope())


def test_what_is_in_memory_of_a_long_history_is_bounded_and_what_was_given_out_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.timeline.NEWEST", 100)

    async def scope() -> None:
        async with open_store(MEMORY) as store:
            first: tuple[WindowHistory, list[Observation]] | None = None
            for hour in range(50):
                at = START + hour * 60 * SECOND
                added = [replace(SEEN, market_id=f"{hour}/{n}", at=at, known_at=at + n * SECOND) for n in range(20)]
                await store.add_observations("source", added)
                past = await store.past("source", as_of=at + timedelta(hours=1), window=900)
                first = first or (past, added)
                timeline, _ = store._timelines["source", 900]
                assert len(timeline) <= 150
                assert len(timeline._names) <= 150
            assert past.rows(np.arange(80, 100)) == added
            assert first is not None
            assert first[0].rows(np.arange(20)) == first[1]

    asyncio.run(scope())


def test_a_row_that_comes_late_takes_its_place_in_time_and_moves_nobody_elses() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            usual = [replace(SEEN, market_id=f"m{n}", known_at=START + n * SECOND) for n in range(100, 200)]
            await store.add_observations("source", usual)
            before = await past_of(store)
            rows = before.rows(np.arange(len(before)))
            late = replace(SEEN, market_id="late", known_at=START + 150 * SECOND, buckets={"spread": "wide"})
            await store.add_observations("source", [late])
            after = await past_of(store)
            assert after.rows(np.arange(len(after))) == [*usual[:51], late, *usual[51:]]
            assert before.rows(np.arange(len(before))) == rows == usual

    asyncio.run(scope())


async def past_of(store: Store, source: str = "source", window: int = 900) -> WindowHistory:
    return await store.past(source, as_of=START + timedelta(days=1), window=window)


def test_a_planted_row_of_the_very_instant_is_not_seen() -> None:
    async def scope() -> None:
        as_of = START + 61 * SECOND
        planted = [
            replace(SEEN, market_id="at", at=as_of),
            replace(SEEN, market_id="known", known_at=as_of),
            replace(SEEN, market_id="later", known_at=as_of + SECOND),
        ]
        async with open_store(MEMORY) as store:
            await store.add_observations("source", [SEEN])
            await store.add_observations("source", planted)
            await store.add_observations("another", [replace(SEEN, market_id="elsewhere")])
            past = await store.past("source", as_of=as_of, window=900)
            assert past.rows(past.around((0, 900), per_market=False)) == [SEEN]
            assert len(await store.past("source", as_of=as_of, window=900, embargo=SECOND)) == 0

    asyncio.run(scope())


def test_a_digest_is_over_content_and_not_over_how_it_is_kept() -> None:
    other = replace(SEEN, market_id="0x02", buckets={"drift": "up", "spread": "wide"}, known_at=START + 61 * SECOND)
    noise = [replace(SEEN, market_id=f"n{n}", buckets={"aaa": "b"}, known_at=START + n * SECOND) for n in range(9)]

    async def digest(rows: list[Observation], wanted: list[str]) -> str:
        async with open_store(MEMORY) as store:
            for row in rows:
                await store.add_observations("source", [row])
            past = await past_of(store)
            names = [o.market_id for o in past.rows(np.arange(len(past)))]
            return past.digest(np.array([names.index(w) for w in wanted], np.int64))

    async def scope() -> None:
        plain = await digest([SEEN, other], ["0x01", "0x02"])
        assert plain == await digest([*noise, other, SEEN], ["0x02", "0x01"])
        assert plain != await digest([SEEN, other], ["0x01"])
        changes: list[dict[str, Any]] = [
            {"mid": 1}, {"payout": 0}, {"seconds_left": 61}, {"official": False}, {"at": START + SECOND},
            {"known_at": START}, {"buckets": {"drift": "down"}}, {"buckets": {}}, {"state": (0.5, -1.5)},
        ]  # fmt: skip
        for change in changes:
            assert plain != await digest([replace(SEEN, **change), other], ["0x01", "0x02"]), change

    asyncio.run(scope())


def test_rows_of_another_program_are_seen_and_a_reader_needs_no_right_to_write(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"

    async def scope() -> None:
        async with open_store(url) as writer, open_store(url, read_only=True) as reader:
            assert len(await past_of(reader)) == 0
            for count in range(1, 5):  # a second later each time: the same instant has the same answer
                row = replace(SEEN, market_id=f"0x{count}", buckets={"drift": f"word {count}"})
                await writer.add_observations("source", [row])
                past = await reader.past("source", as_of=START + timedelta(days=1, seconds=count), window=900)
                assert len(past) == count
                assert past.like("drift", f"word {count}", (0, 900)).tolist() == [count - 1]
                assert past.like("drift", "nobody's word", (0, 900)).tolist() == []

    asyncio.run(scope())


def test_many_sources_are_served_from_few_timelines() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            for n in range(2 * TIMELINES):
                await store.add_observations(f"s{n}", [replace(SEEN, mid=n)])
            for _ in range(2):
                found = [(await past_of(store, f"s{n}")).mid.tolist() for n in range(2 * TIMELINES)]
                assert found == [[n] for n in range(2 * TIMELINES)]

    asyncio.run(scope())


def test_a_bucket_without_a_name_is_said(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"

    async def scope(write: bool) -> None:
        async with open_store(f"sqlite:///{path}") as store:
            if write:
                await store.add_observations("source", [SEEN])
            else:
                await past_of(store)

    asyncio.run(scope(True))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM vocabulary")
    with pytest.raises(DataInvalid, match="without a name"):
        asyncio.run(scope(False))


def test_arrays_cannot_be_written() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            await store.add_observations("source", [SEEN])
            past = await past_of(store)
            for array in (past.mid, past.market, past.states, past.code("drift")):
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 0

    asyncio.run(scope())


@pytest.mark.parametrize("state", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_states_of_another_length_are_refused(state: tuple[float, ...]) -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            await store.add_observations("source", [SEEN])
            with pytest.raises(ValueError, match="equally many numbers"):
                await store.add_observations("source", [replace(SEEN, market_id="0x09", state=state)])
            await store.add_observations("another", [replace(SEEN, state=state)])
            past = await past_of(store)
            assert len(past) == 1
            with pytest.raises(ValueError, match="cannot be compared with 2"):
                past.nearest(state, 1)

    asyncio.run(scope())


def test_rows_without_a_state_are_counted_and_found_by_bucket() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            await store.add_observations("source", [replace(SEEN, state=())])
            past = await past_of(store)
            assert past.like("drift", "up", (60, 60)).tolist() == [0]
            assert past.nearest((), 5)[0].tolist() == [0]
            assert past.states.shape == (1, 0)

    asyncio.run(scope())
