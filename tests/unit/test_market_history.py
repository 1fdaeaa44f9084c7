"""Market history stored at each slot: all of it, whatever was kept before, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.learning.learner import OnlineLearner
from agent.learning.market_history import RESOLUTIONS, Memory
from backtest.replay import ReplayFeed
from market.errors import CycleSkipped
from market.feed import Bar
from tests.fakes import START, after, book, levels, market, recorded
from tests.profiles import examples
from tests.stores import open_store

SPAN = timedelta(seconds=600)
NUMBERS = range(3)


class Counting(ReplayFeed):
    """Counts the bars it gives, and fails for markets that are named."""

    def __init__(self) -> None:
        windows = []
        for number in NUMBERS:
            prices = [f"0.{40 + step % 20}" for step in range(0, 300, 7)]
            seen = [after(900 * number % 60 + 3 * n) for n in range(len(prices))]
            books = [
                book(at, market_id=market(number).id, bids=levels((p, 10)), asks=levels(("0.70", 10)))
                for at, p in zip(seen, prices, strict=True)
            ]
            windows.append(recorded(*books, number=number))
        super().__init__("test", windows)
        self.given, self.failing = 0, ""

    async def bars(self, market_id: str, after: datetime, until: datetime, step: int) -> Sequence[Bar]:
        if market_id == self.failing:
            raise CycleSkipped("no_book")
        found = await super().bars(market_id, after, until, step)
        self.given += len(found)
        return found


async def held(memory: Memory, until: datetime) -> list[list[Bar]]:
    markets = [market(n) for n in NUMBERS]
    return [
        await memory.store.bars("s", m.id, step, as_of=until, limit=10_000) for m in markets for step in RESOLUTIONS
    ]


@examples(30)
@given(st.lists(st.tuples(st.integers(1, 1200), st.booleans(), st.integers(0, 600)), min_size=1, max_size=6))
def test_slots_of_any_distance_keep_what_one_look_at_each_would(steps: list[tuple[int, bool, int]]) -> None:
    async def scope() -> None:
        feed, markets = Counting(), [market(n) for n in NUMBERS]
        async with open_store("sqlite://") as store, open_store("sqlite://") as plain_store:
            memory = Memory(store, feed, feed, "s", OnlineLearner(0.1))
            at = START
            for wait, together, span in steps:
                at += timedelta(seconds=wait)
                if together:
                    await memory.record_all(markets, at, timedelta(seconds=span))
                for one in markets:
                    await memory.record(one, at, timedelta(seconds=span))
                    fresh = Memory(plain_store, feed, feed, "s", OnlineLearner(0.1))
                    await fresh.record(one, at, timedelta(seconds=span))
            plain = Memory(plain_store, feed, feed, "s", OnlineLearner(0.1))
            assert await held(memory, at) == await held(plain, at)

    asyncio.run(scope())


def test_a_slot_asks_only_for_what_is_new_and_the_market_that_fails_is_left_to_its_own_cycle() -> None:
    async def scope() -> None:
        feed, markets = Counting(), [market(n) for n in NUMBERS]
        async with open_store("sqlite://") as store:
            memory = Memory(store, feed, feed, "s", OnlineLearner(0.1))
            await memory.record_all(markets, after(600), SPAN)
            first = feed.given
            await memory.record_all(markets, after(600), SPAN)
            for one in markets:
                await memory.record(one, after(600), SPAN)
            assert feed.given == first
            feed.failing = markets[1].id
            await memory.record_all(markets, after(900), SPAN)
            ends = {m: end for m, (_, end) in memory.kept.items()}
            assert ends == {markets[0].id: after(900), markets[1].id: after(600), markets[2].id: after(900)}

    asyncio.run(scope())
