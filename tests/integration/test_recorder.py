"""Recording the market and replaying it: what was heard is what comes back, gaps are marked, damage is told."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from agent.config.load import load_config
from agent.live.backfill import history, history_source
from agent.live.recorder import Progress, record
from backtest.quality import quality
from backtest.recorded import gaps, read_recorded
from backtest.sources import open_recorded
from backtest.venue.scenarios import Walk
from market.clock import ScaledClock, WallClock, to_ms
from market.errors import DataInvalid, Misconfigured, StoreUnavailable
from market.feed import ReferenceTick
from market.polymarket.depth import Depth
from market.polymarket.frames import PriceChanges, Snapshot, read_frame
from market.polymarket.hosts import Hosts
from market.types import UNIT, Level, Market, Outcome, PayoutSource, Resolution
from storage.ticks import TickArchive, parts
from tests.fakes import START, book, levels, market
from tests.stores import open_store
from tests.venue import QUICK, loopback, open_market


def test_a_recording_replays_to_the_books_that_were_heard(tmp_path: Path) -> None:
    async def scenario() -> Progress:
        clock = ScaledClock(WallClock().now(), 30)
        walk = Walk(clock.now(), 7, "btc", 60)
        async with loopback(series=[walk], clock=clock, pace=QUICK) as (_, base):
            opens = int(clock.now().timestamp()) // 60 * 60
            slugs = [f"btc-updown-1m-{opens + 60 * n}" for n in range(2)]
            config = load_config(None, {"venue.loopback": base, "venue.series": [], "venue.slugs": slugs})
            return await record(config, tmp_path, 8.0, lambda _: None)

    done = asyncio.run(scenario())
    assert done.frames > 10
    assert done.books > 10
    recordings, notes = read_recorded(tmp_path)
    assert sum(len(r) for r in recordings) == done.books
    assert "2 markets" in notes[0] or "1 markets" in notes[0]
    assert any(r.resolution is not None and r.resolution.payout in (0, 1) for r in recordings)
    assert gaps(tmp_path)[0].channel == "recorder"
    _rebuilt(tmp_path, {r.market.yes_token: r.market for r in recordings})
    feed = open_recorded(str(tmp_path))
    assert len(feed.recordings) == len(recordings)


def _rebuilt(folder: Path, markets: dict[str, Market]) -> None:
    """The raw frames alone give the last book of each market again."""
    depths = {token: Depth(token) for token in markets}
    for file in parts(folder, "frame"):
        for row in pq.read_table(file).to_pylist():
            if row["channel"] != "market" or row["payload"] == b"PONG":
                continue
            for message in read_frame(row["payload"], depths):
                if isinstance(message, Snapshot) and message.asset_id in depths:
                    depths[message.asset_id].apply_snapshot(message)
                elif isinstance(message, PriceChanges):
                    for change in message.price_changes:
                        depths[change.asset_id].apply_change(change, message.ms)
    for one in open_recorded(str(folder)).recordings:
        depth = depths[one.market.yes_token]
        last = depth.book(one.market.id, START, START, Outcome.YES, 20)
        bids = [(int(p), int(s)) for p, s in zip(one.bids.price[-1], one.bids.size[-1], strict=True) if s]
        assert bids == [(int(lv.price * UNIT), lv.size) for lv in last.bids]


sides = st.lists(st.tuples(st.integers(1, 999), st.integers(1, 10**9)), max_size=6, unique_by=lambda pair: pair[0])


def _levels(pairs: list[tuple[int, int]], *, best_first: bool) -> tuple[Level, ...]:
    ordered = sorted(pairs, reverse=best_first)
    return tuple(Level(Decimal(p) / 1000, s * 10_000) for p, s in ordered)


@given(st.lists(st.tuples(sides, sides, st.integers(0, 3_000)), min_size=1, max_size=12))
def test_every_book_comes_back_as_it_was_told(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[list[tuple[int, int]], list[tuple[int, int]], int]]
) -> None:
    folder, at = tmp_path_factory.mktemp("ticks"), START
    archive, window = TickArchive(folder), market(0)
    archive.market(window)
    books = []
    for n, (bids, asks, wait) in enumerate(told):
        at += timedelta(milliseconds=wait)
        books.append(
            book(at, market_id=window.id, bids=_levels(bids, best_first=True), asks=_levels(asks, best_first=False))
        )
        archive.book(books[-1])
        if n % 5 == 0:
            archive.flush()
    archive.flush()
    assert archive.waiting == 0
    (one,), _ = read_recorded(folder)
    from backtest.columns import Bookshelf

    found = list(Bookshelf(one).books(0, len(one)))
    assert [(b.bids, b.asks, b.received_at) for b in found] == [(b.bids, b.asks, b.received_at) for b in books]


def test_prices_outcomes_and_days_are_kept_apart_and_exact(tmp_path: Path) -> None:
    archive, window = TickArchive(tmp_path), market(0)
    archive.market(window)
    night = START.replace(hour=23, minute=59, second=59)
    for at in (night, night + timedelta(seconds=2)):
        archive.book(book(at, market_id=window.id))
        archive.price("btc", ReferenceTick(at, at + timedelta(seconds=1), Decimal("64000.123456789012345678")))
    archive.outcome(Resolution(window.id, Decimal(1), PayoutSource.OFFICIAL, night))
    archive.flush()
    assert sorted(p.name for p in tmp_path.glob("day=*")) == ["day=2026-09-28", "day=2026-09-29"]
    (one,), _ = read_recorded(tmp_path)
    assert one.reference is not None
    ticks = one.reference.between(0, to_ms(night) + 10_000)
    assert {t.price for t in ticks} == {Decimal("64000.123456789012345678")}
    assert one.resolution is not None
    assert one.resolution.payout == 1


def test_what_was_cut_off_while_writing_is_left_out(tmp_path: Path) -> None:
    archive, window = TickArchive(tmp_path), market(0)
    archive.market(window)
    archive.book(book(START, market_id=window.id))
    archive.flush()
    with (tmp_path / "markets.jsonl").open("a") as out:
        out.write('{"kind": "market", "id": "0x')
    next(tmp_path.glob("day=*")).joinpath(".book-000002.draft").write_bytes(b"PAR1 half")
    (one,), _ = read_recorded(tmp_path)
    assert len(one) == 1
    later = TickArchive(tmp_path)
    later.book(book(START + timedelta(seconds=1), market_id=window.id))
    later.flush()
    assert len(parts(tmp_path, "book")) == 2


@pytest.mark.parametrize("damage", ["line", "parquet", "none"])
def test_damage_is_one_sentence(tmp_path: Path, damage: str) -> None:
    archive = TickArchive(tmp_path)
    archive.market(market(0))
    if damage != "none":
        archive.book(book(START, market_id=market(0).id))
    archive.flush()
    if damage == "line":
        (tmp_path / "markets.jsonl").write_text("nonsense\n{}\n")
    if damage == "parquet":
        parts(tmp_path, "book")[0].write_bytes(b"PAR1")
    with pytest.raises(DataInvalid) as raised:
        open_recorded(str(tmp_path))
    assert "\n" not in raised.value.sentence()


def test_a_disk_that_fails_loses_nothing_that_was_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    archive = TickArchive(tmp_path / "file" / "ticks")
    archive.book(book(START))
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        archive.flush()
    assert archive.waiting == 1
    archive.folder = tmp_path / "ticks"
    archive.flush()
    assert archive.waiting == 0


def test_quality_names_what_is_missing_repeated_crossed_and_early(tmp_path: Path) -> None:
    archive, window = TickArchive(tmp_path), market(0)
    archive.market(window)
    archive.gap("market", "the connection ended", START)
    for second in range(450):
        archive.book(book(START + timedelta(seconds=second), market_id=window.id))
    crossed = book(
        START + timedelta(seconds=450), market_id=window.id, bids=levels(("0.60", 5)), asks=levels(("0.55", 5))
    )
    archive.book(crossed)
    archive.flush()
    recordings, _ = read_recorded(tmp_path)
    found = quality(recordings, gaps(tmp_path))
    (one,) = found.markets
    assert one.rows == 451
    assert one.covered == pytest.approx(465 / 900)
    assert one.longest_gap == 450
    assert (one.repeated, one.crossed, one.early) == (449, 1, 0)
    told = " ".join(found.findings())
    assert "52%" in told
    assert "1 of 451 books are crossed" in told
    assert "no outcome" in told
    assert "the connection ended" in told


def test_history_is_kept_as_bars_that_are_known_when_their_minute_is_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 20)
        async with (
            loopback(clock=clock, pace=QUICK) as (server, base),
            open_store(f"sqlite:///{tmp_path / 'e.db'}") as store,
        ):
            config = load_config(None, {"venue.loopback": base})
            window = open_market(server)
            await asyncio.sleep(4)
            now = clock.now()
            (filled,) = await history(config, store, [window.slug], window.opens_at, now, lambda _: None)
            source = history_source(Hosts.loopback(base))
            bars = await store.bars(source, window.id, 60, as_of=now + timedelta(minutes=2), limit=500)
            assert filled.bars == len(bars) > 0
            assert all(b.bid == b.ask for b in bars)
            assert not await store.bars(source, window.id, 60, as_of=window.opens_at, limit=500)
            with pytest.raises(DataInvalid, match="no market"):
                await history(config, store, ["nothing"], window.opens_at, now, lambda _: None)
            with pytest.raises(Misconfigured, match="not after"):
                await history(config, store, [window.slug], now, now, lambda _: None)

    asyncio.run(scenario())


def test_the_verbs_say_what_they_found(tmp_path: Path) -> None:
    import subprocess
    import sys

    archive, window = TickArchive(tmp_path), market(0)
    archive.market(window)
    archive.book(book(START, market_id=window.id))
    archive.flush()
    run = [sys.executable, "-m", "agent", "data", "quality", str(tmp_path), "--json"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["markets"][0]["slug"] == window.slug
    assert told["findings"]
