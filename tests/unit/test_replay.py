from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.columns import Recording
from backtest.replay import ReplayFeed, fingerprint
from market.clock import from_ms, to_ms
from market.columns import Ladder
from market.types import UNIT, Book, Level
from tests.fakes import START, after, book, levels, market, prices, recorded, replay
from tests.profiles import examples

_MS = to_ms(START)
_prices = st.lists(st.integers(1, 999), max_size=4, unique=True)
_size = st.integers(1, 10**9).map(lambda hundredths: hundredths * 10_000)


@st.composite
def books(draw: st.DrawFn, market_id: str) -> list[Book]:
    """Up to a dozen books of any shape, crossed and one-sided ones too, some in the same instant."""
    made: list[Book] = []
    received = _MS
    for step in draw(st.lists(st.integers(0, 4_000), max_size=12)):
        received += step
        bids, asks = sorted(draw(_prices), reverse=True), sorted(draw(_prices))
        sides = [tuple(Level(Decimal(p) / 1000, draw(_size)) for p in side) for side in (bids, asks)]
        made.append(
            Book(market_id, from_ms(received - draw(st.integers(0, 50))), from_ms(received), sides[0], sides[1])
        )
    return made


async def _changes(feed: ReplayFeed, ids: list[str], since: int, until: int) -> list[Book]:
    return [b async for b in feed.changes(ids, from_ms(since), from_ms(until))]


@examples(60)
@given(books("0x0000"), books("0x0001"), st.integers(-10, 50_000), st.integers(-10, 50_000))
def test_columns_give_back_the_books_they_were_made_of(one: list[Book], two: list[Book], a: int, b: int) -> None:
    feed = replay(recorded(*one), recorded(*two, number=1))
    since, until = _MS + min(a, b), _MS + max(a, b)
    expected = [x for x in one + two if since < to_ms(x.received_at) <= until]
    expected.sort(key=lambda x: (x.received_at, x.market_id))
    assert asyncio.run(_changes(feed, ["0x0001", "0x0000", "0x0001"], since, until)) == expected
    standing = [x for x in one if to_ms(x.received_at) <= until]
    assert asyncio.run(feed.book("0x0000", from_ms(until))) == (standing[-1] if standing else None)


@examples(60)
@given(books("0x0000"), st.integers(0, 50_000), st.integers(1, 7))
def test_truncating_the_future_changes_no_answer(one: list[Book], ms: int, step: int) -> None:
    async def run() -> None:
        feed, at = replay(recorded(*one)), from_ms(_MS + ms)
        blind = feed.truncated(at)
        early = START - timedelta(minutes=1)
        assert await feed.book("0x0000", at) == await blind.book("0x0000", at)
        assert await feed.bars("0x0000", early, at, step) == await blind.bars("0x0000", early, at, step)
        assert await _changes(feed, ["0x0000"], _MS - 1, _MS + ms) == await _changes(
            blind, ["0x0000"], _MS - 1, _MS + ms
        )
        assert await feed.markets(at) == await blind.markets(at)
        assert await feed.resolution("0x0000", at) == await blind.resolution("0x0000", at)

    asyncio.run(run())


@examples(60)
@given(books("0x0000"), st.integers(1, 7))
def test_bars_count_every_book_once(one: list[Book], step: int) -> None:
    feed = replay(recorded(*one))
    end = START + timedelta(minutes=2)
    bars = asyncio.run(feed.bars("0x0000", START - timedelta(minutes=1), end, step))
    assert sum(bar.updates for bar in bars) == len(one)
    for earlier, later in pairwise(bars):
        assert later.at - earlier.at == timedelta(seconds=step)
        if later.updates == 0:
            assert later._replace(at=earlier.at, updates=earlier.updates) == earlier


def test_a_bar_does_not_know_the_book_of_its_own_closing_instant() -> None:
    feed = replay(recorded(book(after(10)), book(after(20), bids=levels(("0.45", 1)), asks=())))
    bars = asyncio.run(feed.bars("0x0000", START, after(30), 10))
    assert [(b.at, b.bid, b.ask, b.updates) for b in bars] == [
        (after(20), 490_000, 510_000, 1),
        (after(30), 450_000, None, 1),
    ]
    assert (bars[0].bid_depth, bars[0].ask_depth) == (300 * UNIT, 300 * UNIT)


def test_bar_depth_is_of_the_best_five_levels() -> None:
    deep = levels(*((f"0.{40 - n}", 1) for n in range(8)))
    feed = replay(recorded(book(after(1), bids=deep)))
    (bar,) = asyncio.run(feed.bars("0x0000", after(0), after(10), 10))
    assert bar.bid_depth == 5 * UNIT


def test_a_bar_lasts_at_least_a_second() -> None:
    with pytest.raises(ValueError, match="at least a second"):
        asyncio.run(replay(recorded(book())).bars("0x0000", START, after(10), 0))


def test_the_fingerprint_is_of_the_content_alone() -> None:
    one, two = recorded(book(after(1)), book(after(2), asks=())), recorded(book(after(1), market_id="0x0001"), number=1)
    assert replay(one, two).info.fingerprint == replay(two, one).info.fingerprint
    wide = Ladder(
        np.pad(one.bids.price, ((0, 0), (0, 3))).astype(np.int32),
        np.pad(one.bids.size, ((0, 0), (0, 3))),
        one.bids.count,
    )
    assert fingerprint([replace(one, bids=wide), two]) == fingerprint([one, two])


def test_the_fingerprint_changes_with_any_of_the_content() -> None:
    one = recorded(book(after(1)), book(after(2)))
    others = [
        one,
        recorded(book(after(1)), book(after(3))),
        recorded(book(after(1)), book(after(2), asks=())),
        recorded(book(after(1)), book(after(2)), payout="0"),
        recorded(book(after(1)), book(after(2)), payout=None),
        recorded(book(after(1))),
        replace(one, at=one.at - 1),
        replace(one, market=replace(one.market, tick=Decimal("0.001"))),
        Recording.of(one.market, []),
    ]
    assert len({fingerprint([r]) for r in others}) == len(others)


def test_the_fingerprint_changes_with_any_of_the_reference_prices() -> None:
    one = recorded(book(after(1)))
    series = [
        None,
        prices(),
        prices((1, "5")),
        prices((1, "5"), lag=2),
        prices((1, "5.000000000000000001")),
        prices((1, "6")),
        prices((1, "5"), (2, "5")),
    ]
    assert len({fingerprint([replace(one, reference=s)]) for s in series}) == len(series)
    same = [replace(one, reference=prices((1, "5"))) for _ in range(2)]
    assert fingerprint(same[:1]) == fingerprint(same[1:])


def test_markets_go_on_sharing_a_series_that_is_cut() -> None:
    series = prices((1, "5"), (20, "6"))
    feed = replay(
        replace(recorded(book(after(1))), reference=series),
        replace(recorded(book(after(1), market_id="0x0001"), number=1), reference=series),
    )
    cut = [r.reference for r in feed.truncated(after(5)).recordings]
    assert cut[0] is cut[1] and cut[0] is not None and len(cut[0]) == 1
    assert np.shares_memory(cut[0].whole, series.whole)


def test_instants_are_cut_like_everything_else() -> None:
    feed = ReplayFeed("test", [recorded(book(after(1)))], instants=[after(5), after(10)])
    assert feed.truncated(after(5)).info.instants == (after(5),)


def test_the_fingerprint_is_the_same_on_every_machine() -> None:
    known = "ada79ee7e388"
    assert replay(recorded(book(after(1)))).info.fingerprint.startswith(known)


def test_the_feed_ends_when_the_last_outcome_is_known() -> None:
    info = replay(recorded(book(after(1)))).info
    assert (info.begins, info.ends) == (after(1), market(0).closes_at + timedelta(minutes=2))
    nothing = replay().info
    assert (nothing.begins, nothing.ends) == (None, None)


def test_one_market_cannot_be_recorded_twice() -> None:
    with pytest.raises(ValueError, match="two recordings"):
        replay(recorded(book()), recorded(book()))


def test_books_must_come_in_order_of_receipt() -> None:
    with pytest.raises(ValueError, match="order of receipt"):
        recorded(book(after(2)), book(after(1)))


@pytest.mark.parametrize("level", [Level(Decimal("0.50005"), UNIT), Level(Decimal("0.5"), 12_345)])
def test_columns_hold_the_grid_exactly_or_not_at_all(level: Level) -> None:
    with pytest.raises(ValueError, match="grid"):
        Ladder.of([(level,)])


def test_mirroring_columns_is_mirroring_books() -> None:
    standing = book(after(1), bids=levels(("0.4", 3)), asks=levels(("0.45", 1), ("0.46", 2)))
    one = recorded(standing)
    other = replace(one, bids=one.asks.mirrored(), asks=one.bids.mirrored())
    seen = asyncio.run(replay(other).book("0x0000", after(1)))
    assert seen is not None
    assert (seen.bids, seen.asks) == (standing.mirrored().bids, standing.mirrored().asks)
