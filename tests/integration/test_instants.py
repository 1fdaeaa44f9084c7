"""A recording of single snapshots is decided on where it can be asked, with books that are fresh there."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from agent.learning.learner import OnlineLearner
from agent.learning.market_history import Memory
from agent.trading.loop import Schedule
from backtest.replay import ReplayFeed
from backtest.sources import open_recorded
from tests.integration.test_trading import Played, play
from tests.stores import open_store
from tests.unit.test_btc5m_ladder import rows, written

WINDOWS = 6


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> ReplayFeed:
    made = rows(WINDOWS)
    for row in made[7:14]:
        row["outcome_up"] = "1"
    return open_recorded(written(tmp_path_factory.mktemp("offsets"), made))


@pytest.fixture(scope="module")
def played(feed: ReplayFeed, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play(tmp_path_factory.mktemp("instants") / "e.db", feed, **{"edge.shadow_search": True})


def test_it_decides_at_the_recordings_instants_on_fresh_books(feed: ReplayFeed, played: Played) -> None:
    assert [d.at for d in played.decisions] == list(feed.info.instants)
    reasons = {d.body["summary"]["reason"] for d in played.decisions}
    assert reasons == {"thin_history"}, "no book is stale, missing or without features"
    assert all(r.differences == () for r in played.replayed)


def test_a_cadence_takes_precedence_over_the_instants(feed: ReplayFeed, tmp_path: Path) -> None:
    made = play(tmp_path / "e.db", feed, **{"trading.cadence": 15})
    told = {300 - d.at.timestamp() % 300: d.body["summary"]["reason"] for d in made.decisions[-20:]}
    assert sorted(told) == list(range(15, 301, 15))
    assert {told[left] for left in (300, 105)} == {"no_book"}
    assert (told[90], told[75], told[45]) == ("thin_history", "stale_book", "stale_book")


def test_history_keeps_a_window_where_its_books_were_fresh(feed: ReplayFeed, tmp_path: Path) -> None:
    async def run() -> set[tuple[int, int]]:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}") as store:
            memory = Memory(store, feed, feed, "test", OnlineLearner(0.1))
            one = feed.recordings[0]
            assert one.resolution is not None and feed.info.ends is not None
            await memory.record(one.market, one.market.closes_at, timedelta(seconds=600))
            await store.add_resolution("test", one.resolution)
            await store.add_observations("test", await memory._observations(one.market, one.resolution))
            past = await store.past("test", as_of=feed.info.ends, window=300)
            return set(zip(past.seconds_left.tolist(), past.mid.tolist(), strict=True))

    assert asyncio.run(run()) == {(left, 125_000) for left in (95, 65, 35, 20, 5)}


def test_the_schedule_of_a_recording_ends_with_its_instants(feed: ReplayFeed) -> None:
    assert feed.info.begins is not None
    schedule = Schedule(feed.info.begins, feed.info.ends, instants=feed.info.instants)
    assert [slot for slot, _ in schedule.slots()] == list(feed.info.instants)
