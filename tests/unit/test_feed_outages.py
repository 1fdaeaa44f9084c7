"""A feed that goes silent: as often as told, and never a book from within a silence."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from backtest.feed_outages import GAP_MS, FeedOutages
from market.clock import to_ms
from market.types import Book
from tests.fakes import after, book, levels, market, recorded, replay

ID = market().id


def feed(share: float) -> FeedOutages:
    """A book a second for an hour, each with another price."""
    made = [book(after(n), bids=levels((f"0.{1000 + n}", 5)), asks=levels(("0.60", 5))) for n in range(3600)]
    return FeedOutages(replay(recorded(*made, seconds=3600)), share)


async def shown(one: FeedOutages, until: datetime) -> list[Book]:
    return [b async for b in one.changes([ID], after(-1), until)]


def test_a_quarter_of_the_time_is_silent_and_nothing_of_it_is_ever_heard() -> None:
    async def scope() -> None:
        one = feed(0.25)
        books = await shown(one, after(3600))
        heard = {b.received_at for b in books}
        assert len(books) / 3600 == pytest.approx(0.75, abs=0.12)
        gaps = {to_ms(after(n)) // GAP_MS for n in range(3600) if after(n) not in heard}
        assert not gaps & {to_ms(at) // GAP_MS for at in heard}
        for n in range(30, 3600, 7):
            seen = await one.book(ID, after(n))
            assert seen is None or seen.received_at in heard | {after(n)}
            assert seen is None or seen.received_at == max((at for at in heard if at <= after(n)), default=None)

    asyncio.run(scope())


def test_bars_end_with_what_was_heard() -> None:
    async def scope() -> None:
        one = feed(0.5)
        heard = {b.received_at for b in await shown(one, after(3600))}
        for n in range(60, 3600, 60):
            bars = await one.bars(ID, after(n - 60), after(n), 5)
            last = max((at for at in heard if at <= after(n)), default=after(0))
            assert all(bar.at <= last + timedelta(seconds=1) for bar in bars)

    asyncio.run(scope())


def test_without_silences_it_is_the_feed_itself() -> None:
    async def scope() -> None:
        one = feed(0.0)
        assert len(await shown(one, after(3600))) == 3600
        assert await one.book(ID, after(100)) == await one.inner.book(ID, after(100))

    asyncio.run(scope())
