"""The live feed on the loopback venue: quiet books are witnessed, lost frames are made good, and paper trades on it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from backtest.venue.faults import Fault
from backtest.venue.scenarios import Walk
from market.clock import ScaledClock, WallClock
from market.polymarket.feed import QUIET, Watch, open_feed
from market.polymarket.hosts import Hosts
from tests.servers import until
from tests.venue import QUICK, Flat, command, loopback, open_market


def test_a_book_in_which_nothing_moves_is_asked_for_and_stays_fresh() -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 10)
        async with loopback(series=[Flat(seconds=3600)], clock=clock, pace=QUICK) as (server, base):
            market = open_market(server)
            async with open_feed(Hosts.loopback(base), clock, Watch(slugs=(market.slug,))) as feed:
                await until(lambda: feed.market(market.id) is not None)
                begun = clock.now()
                await clock.wait_until(begun + 6 * QUIET)
                book = await feed.book(market.id, clock.now())
                assert book is not None
                assert book.received_at > begun + QUIET, "asked for again while nothing was published"
                assert feed.health.counted["losses"] == 0

    asyncio.run(scenario())


FRAMES = {
    Fault.MISSED_FRAME: (),
    Fault.SWAPPED_FRAMES: (),
    Fault.REPEATED_FRAME: (),
    Fault.DISCONNECT: ("losses",),
    Fault.BAD_FRAME: ("refused",),
    Fault.AHEAD_FRAME: ("ahead",),
}
"""Faults of frames, and the counters that tell of each."""


@pytest.mark.parametrize("fault", FRAMES)
def test_after_any_trouble_with_frames_the_book_is_the_venues_again(fault: Fault) -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 20)
        async with loopback(series=[Walk(clock.now(), 7, "btc", 3600)], clock=clock, pace=QUICK) as (server, base):
            market = open_market(server)
            async with open_feed(Hosts.loopback(base), clock, Watch(slugs=(market.slug,))) as feed:
                await until(lambda: feed.health.counted["frames"] > 5)
                for _ in range(3):
                    await command(base, fault, count=3)
                    await asyncio.sleep(0.3)
                await asyncio.sleep(1.0)
                for _ in range(200):  # until both were looked at between two changes
                    await asyncio.sleep(0.02)
                    here = await feed.book(market.id, clock.now())
                    there = server.state.hall(market).standing()
                    if here is not None and there is not None and here.bids[:5] == there.bids[:5]:
                        break
                assert here is not None
                assert there is not None
                assert (here.bids[:5], here.asks[:5]) == (there.bids[:5], there.asks[:5])
                told = {name for name in ("refused", "ahead", "losses") if feed.health.counted[name]}
                assert told == set(FRAMES[fault])
                assert all(feed.health.why[name] for name in told) and len(feed.health.recent()) >= len(told)

    asyncio.run(scenario())


def test_an_unknown_market_has_no_book() -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 10)
        async with (
            loopback(series=[Flat(seconds=3600)], clock=clock, pace=QUICK) as (_, base),
            open_feed(Hosts.loopback(base), clock, Watch(slugs=("nothing",))) as feed,
        ):
            assert await feed.markets(clock.now()) == []
            assert await feed.book("0x1", clock.now() + timedelta(seconds=1)) is None

    asyncio.run(scenario())


def test_an_outcome_that_was_not_heard_of_is_told_when_first_asked_for() -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 300)
        async with loopback(series=[Flat(seconds=300)], clock=clock, pace=QUICK) as (server, base):
            market = open_market(server)
            await until(lambda: server.state.hall(market).resolved)
            async with open_feed(Hosts.loopback(base), clock, Watch(slugs=("nothing",))) as feed:
                feed.remember(market)
                found = await feed.resolution(market.id, market.closes_at)
                assert found is not None
                assert found.payout == server.state.hall(market).tape.payout

    asyncio.run(scenario())


def test_the_books_of_a_settled_market_are_let_go_and_its_bars_are_kept() -> None:
    """Once somebody was told how it ended, and no sooner: until then an order may wait for what they prove."""

    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 120)
        async with loopback(series=[Walk(clock.now(), 7, "btc", 300)], clock=clock, pace=QUICK) as (server, base):
            market = open_market(server)
            async with open_feed(Hosts.loopback(base), clock, Watch(slugs=(market.slug,))) as feed:
                await until(lambda: server.state.hall(market).resolved)
                assert await feed.book(market.id, market.closes_at) is not None, "one may ask for a while"
                bars = await feed.bars(market.id, market.opens_at, market.closes_at, 5)
                await clock.wait_until(market.closes_at + timedelta(minutes=11))
                assert await feed.book(market.id, market.closes_at) is not None, "nobody has asked for its end"
                assert await feed.resolution(market.id, clock.now()) is not None
                await clock.wait_until(clock.now() + timedelta(seconds=30))
                assert await feed.book(market.id, market.closes_at) is None
                kept = await feed.bars(market.id, market.opens_at, market.closes_at, 5)
                assert kept == bars != [], "all that were heard, however many the machine let it hear"

    asyncio.run(scenario())
