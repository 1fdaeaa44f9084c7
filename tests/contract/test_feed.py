"""Every feed keeps these promises; `FEEDS` names the adapters they are tried on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from backtest.replay import ReplayFeed
from market.feed import Bar, Feed, ReferencePrices, ReferenceTick
from market.types import Book
from tests.fakes import START, after, book, levels, market, prices, recorded, replay

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def _small() -> ReplayFeed:
    """Two windows that overlap in receipt, a one-sided book, two books in one instant, a late outcome."""
    first = [
        book(after(s), bids=levels((f"0.{40 + s % 9}", 10 + s)), asks=levels(("0.55", 5))) for s in (-3, 0, 4, 4, 61)
    ]
    lonely = book(after(30), market_id="0x0001", bids=(), asks=levels(("0.60", 7)))
    second = [lonely, book(after(61), market_id="0x0001"), book(after(930), market_id="0x0001")]
    return replay(recorded(*first), recorded(*second, number=1, payout=None))


def _priced() -> ReplayFeed:
    """Two windows that share a price series, two ticks received in one instant, one tick late; a third without."""
    series = prices((-2, "63304.2"), (0, "63304.3"), (0, "63304.1"), (30, "63310"), (31, "63309"), (70, "63300"))
    series = replace(series, at=series.at - np.array([0, 0, 0, 0, 2_500, 0]))
    one, two = recorded(book(after(1)), book(after(40))), recorded(book(after(2), market_id="0x0001"), number=1)
    bare = recorded(book(after(3), market_id="0x0002"), number=2)
    return replay(replace(one, reference=series), replace(two, reference=series), bare)


def _offsets() -> ReplayFeed:
    file = SHARED / "btc5m_ladder_2026-07-26_27.csv.gz"
    if not file.is_file():
        pytest.skip("the recorded offsets are not on this machine")
    from backtest.sources import open_recorded

    return open_recorded(str(file))


def _sample() -> ReplayFeed:
    pytest.importorskip("resolvedkit", reason="the sample data is not installed")
    from backtest.sources import open_recorded

    return open_recorded("sample")


FEEDS = [
    pytest.param(_small, id="small"),
    pytest.param(_priced, id="priced"),
    pytest.param(_offsets, id="offsets"),
    pytest.param(_sample, id="sample", marks=pytest.mark.sample),
]


@pytest.fixture(params=FEEDS, scope="module")
def feed(request: pytest.FixtureRequest) -> ReplayFeed:
    make: Callable[[], ReplayFeed] = request.param
    return make()


def _ids(feed: ReplayFeed) -> list[str]:
    return [r.market.id for r in feed.recordings]


def _instants(feed: ReplayFeed) -> list[datetime]:
    """A few instants, some exactly at a receipt and some a moment before one."""
    assert feed.info.begins is not None and feed.info.ends is not None
    span = feed.info.ends - feed.info.begins
    return [
        feed.info.begins - timedelta(seconds=1),
        feed.info.begins,
        feed.info.begins + span / 7,
        feed.info.begins + span / 2,
        feed.info.ends - timedelta(milliseconds=1),
        feed.info.ends,
    ]


async def _changes(feed: Feed, ids: Sequence[str], since: datetime, until: datetime) -> list[Book]:
    return [b async for b in feed.changes(ids, since, until)]


def test_the_book_is_the_newest_one_received(feed: ReplayFeed) -> None:
    async def run() -> None:
        begins = feed.info.begins
        assert begins is not None
        for at in _instants(feed):
            for market_id in _ids(feed):
                seen = await _changes(feed, [market_id], begins - timedelta(days=1), at)
                assert await feed.book(market_id, at) == (seen[-1] if seen else None)
                assert all(b.received_at <= at for b in seen)

    asyncio.run(run())


def test_changes_come_in_order_of_receipt_and_exactly_once(feed: ReplayFeed) -> None:
    async def run() -> None:
        ids = _ids(feed)
        instants = _instants(feed)
        whole = await _changes(feed, ids, instants[0], instants[-1])
        assert [(b.received_at, b.market_id) for b in whole] == sorted((b.received_at, b.market_id) for b in whole)
        assert len(whole) == sum(len(r) for r in feed.recordings)
        parts = [b for a, z in pairwise(instants) for b in await _changes(feed, ids, a, z)]
        assert parts == whole

    asyncio.run(run())


def test_bars_say_what_the_books_said_strictly_before(feed: ReplayFeed) -> None:
    async def run() -> None:
        market_id = _ids(feed)[0]
        books = await _changes(
            feed, [market_id], datetime.min.replace(tzinfo=START.tzinfo, year=1980), _instants(feed)[-1]
        )
        since = books[0].received_at - timedelta(seconds=90)
        bars = await feed.bars(market_id, since, since + timedelta(seconds=600), 60)
        assert bars
        assert all(bar.at.timestamp() % 60 == 0 for bar in bars)
        for bar in bars:
            before = [b for b in books if b.received_at < bar.at]
            inside = [b for b in before if b.received_at >= bar.at - timedelta(seconds=60)]
            assert bar == _bar(market_id, bar.at, before[-1], len(inside))

    asyncio.run(run())


def _bar(market_id: str, at: datetime, last: Book, updates: int) -> Bar:
    bid, ask = (None if p is None else int(p * 1_000_000) for p in (last.best_bid, last.best_ask))
    bid_depth, ask_depth = last.depth(5)
    return Bar(market_id, at, bid, ask, bid_depth, ask_depth, updates)


def test_only_open_windows_are_listed_by_opening_time(feed: ReplayFeed) -> None:
    async def run() -> None:
        for at in _instants(feed):
            listed = await feed.markets(at)
            assert all(m.opens_at <= at < m.closes_at for m in listed)
            assert list(listed) == sorted(listed, key=lambda m: (m.opens_at, m.id))
            assert len(listed) == sum(r.market.opens_at <= at < r.market.closes_at for r in feed.recordings)

    asyncio.run(run())


def test_an_outcome_is_told_from_the_instant_it_was_known(feed: ReplayFeed) -> None:
    async def run() -> None:
        for one in feed.recordings:
            assert one.resolution is not None
            known_at = one.resolution.known_at
            assert known_at > one.market.closes_at
            assert await feed.resolution(one.market.id, known_at) == one.resolution
            assert await feed.resolution(one.market.id, known_at - timedelta(milliseconds=1)) is None

    asyncio.run(run())


def test_no_answer_needs_what_came_later(feed: ReplayFeed) -> None:
    async def run() -> None:
        early = _instants(feed)[0]
        for at in _instants(feed):
            blind = feed.truncated(at)
            assert await feed.markets(at) == await blind.markets(at)
            for market_id in _ids(feed):
                assert await feed.book(market_id, at) == await blind.book(market_id, at)
                assert await feed.resolution(market_id, at) == await blind.resolution(market_id, at)
                assert await feed.bars(market_id, early, at, 60) == await blind.bars(market_id, early, at, 60)
            some = _ids(feed)[:3]
            assert await _changes(feed, some, early, at) == await _changes(blind, some, early, at)

    asyncio.run(run())


async def _ticks(feed: ReferencePrices, market_id: str, since: datetime, until: datetime) -> list[ReferenceTick]:
    return list(await feed.reference(market_id, since, until))


def test_reference_ticks_come_in_order_of_receipt_and_exactly_once(feed: ReplayFeed) -> None:
    async def run() -> None:
        instants = _instants(feed)
        for market_id in _ids(feed):
            whole = await _ticks(feed, market_id, instants[0], instants[-1])
            assert [t.received_at for t in whole] == sorted(t.received_at for t in whole)
            assert all(instants[0] < t.received_at <= instants[-1] and t.at <= t.received_at for t in whole)
            parts = [t for a, z in pairwise(instants) for t in await _ticks(feed, market_id, a, z)]
            assert parts == whole

    asyncio.run(run())


def test_no_reference_tick_needs_what_came_later(feed: ReplayFeed) -> None:
    async def run() -> None:
        early, late = _instants(feed)[0], _instants(feed)[-1]
        for at in _instants(feed):
            blind = feed.truncated(at)
            assert blind.info.has_reference == feed.info.has_reference
            for market_id in _ids(feed):
                known = await _ticks(feed, market_id, early, at)
                assert known == await _ticks(blind, market_id, early, late)
                assert all(t.received_at <= at for t in known)

    asyncio.run(run())


def test_a_feed_says_whether_it_has_reference_prices(feed: ReplayFeed) -> None:
    async def run() -> None:
        first, last = _instants(feed)[0], _instants(feed)[-1]
        found = [await _ticks(feed, market_id, first, last) for market_id in _ids(feed)]
        assert any(found) == feed.info.has_reference

    asyncio.run(run())


def test_nothing_is_known_of_an_unknown_market(feed: ReplayFeed) -> None:
    async def run() -> None:
        at = _instants(feed)[-1]
        assert await feed.book("0xnone", at) is None
        assert await feed.resolution("0xnone", at) is None
        assert await feed.bars("0xnone", at - timedelta(hours=1), at, 60) == []
        assert await _changes(feed, ["0xnone"], at - timedelta(hours=1), at) == []
        assert await _ticks(feed, "0xnone", at - timedelta(hours=1), at) == []

    asyncio.run(run())


def test_the_window_of_the_small_feed_is_listed() -> None:
    assert [m.id for m in asyncio.run(_small().markets(START))] == [market(0).id]
