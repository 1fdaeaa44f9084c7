"""Jobs beside a run: disks, windows to back-fill, bars to drop, and when memory is looked through."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.profiles import examples

pytest.importorskip("apscheduler", reason="the extra `live` is not installed")
pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from agent.learning.learner import OnlineLearner
from agent.service.maintenance import _short, _windows, half_way
from market.feed import Bar
from tests.fakes import START
from tests.stores import open_store

SECOND = timedelta(seconds=1)


def test_a_disk_with_little_room_is_named(tmp_path: Path) -> None:
    assert _short([tmp_path], 1) == ""
    assert _short([tmp_path], 50_000_000, lambda _: 7_000_000) == f"Only 7 MB are free at {tmp_path}."
    assert "cannot be looked at" in _short([tmp_path / "gone"], 1)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_every_window_is_back_filled_once(first: int, second: int) -> None:
    """Windows that one look leaves, the next takes: nothing twice, nothing not at all."""
    a, b, c = START, START + timedelta(seconds=first), START + timedelta(seconds=first + second)
    series = (("btc", 300), ("eth", 900))
    assert sorted(_windows(series, a, b) + _windows(series, b, c)) == sorted(_windows(series, a, c))
    for slug, opens, closes in _windows(series, a, c):
        assert a < closes <= c and slug.endswith(str(int(opens.timestamp())))


@examples(25)
@given(cut=st.integers(0, 5_000), step=st.sampled_from([5, 60, 300]))
def test_only_whole_pieces_of_old_prices_are_dropped(cut: int, step: int) -> None:
    async def scope() -> None:
        async with open_store("sqlite://") as store:
            bars = [Bar("m", START + n * timedelta(seconds=step), 1, 2, 3, 4, 5) for n in range(1, 900)]
            await store.add_bars("s", step, bars)
            before = START + cut * timedelta(seconds=step)
            await store.drop_bars(before)
            left = await store.bars("s", "m", step, as_of=bars[-1].at, limit=10_000)
            assert left == bars[len(bars) - len(left) :], "the newest stay as they were"
            assert all(b in left for b in bars if b.at >= before), "nothing from that instant on is dropped"
            assert len(left) <= sum(b.at >= before for b in bars) + 288
            await store.add_bars("s", step, [Bar("m", bars[-1].at + SECOND * step, 1, 2, 3, 4, 5)])
            assert len(await store.bars("s", "m", step, as_of=START + SECOND * 10**6, limit=10_000)) == len(left) + 1

    asyncio.run(scope())


def test_nothing_ended_is_nothing_scored() -> None:
    assert OnlineLearner(0.1).scored() == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("now", "cadence", "offset", "then"),
    [
        ("12:00:00", 300, 0, "12:02:30"), ("12:02:30", 300, 0, "12:02:30"), ("12:02:31", 300, 0, "12:07:30"),
        ("12:04:00", 300, 150, "12:05:00"), ("12:00:01", 5, 0, "12:00:02.5"), ("12:00:01", 900, 0, "12:07:30"),
    ],
)  # fmt: skip
def test_memory_is_looked_through_half_way_between_two_slots(
    now: str, cadence: float, offset: float, then: str
) -> None:
    at, wanted = (datetime.fromisoformat(f"2026-11-01T{text}+00:00") for text in (now, then))
    assert half_way(at, cadence, offset) == wanted
