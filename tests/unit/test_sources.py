from __future__ import annotations

import asyncio
import csv
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.sources import BETWEEN, open_recorded, sample_folder
from market.errors import DataInvalid, NotReady
from market.types import UNIT, Level, PayoutSource

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
OPENS = 1_790_586_000_000
NAN = float("nan")
Row = dict[str, Any]


def snapshot(second: int, **changes: Any) -> Row:
    row = {
        "market_id": "0xa", "ts": OPENS + second * 1000, "side": "UP",
        "bid_px": [0.49, 0.48], "bid_sz": [10.0, 20.25], "ask_px": [0.51], "ask_sz": [30.0],
    }  # fmt: skip
    return row | changes


def window(**changes: Any) -> Row:
    row = {
        "market_id": "0xa", "slug": "btc-updown-15m-1790586000", "question": "Up or down?", "category": "crypto",
        "timeframe": "15m", "start_ts": OPENS, "end_ts": OPENS + 900_000, "outcome_up": "Up", "outcome_down": "Down",
        "payout_up": 1.0, "payout_down": 0.0,
    }  # fmt: skip
    return row | changes


def snapshots(folder: Path, books: list[Row], markets: list[Row]) -> str:
    numbers = pa.list_(pa.float64())
    kinds = {"bid_px": numbers, "bid_sz": numbers, "ask_px": numbers, "ask_sz": numbers, "ts": pa.int64()}
    names = list(books[0])
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    pq.write_table(pa.Table.from_pylist(books, schema), folder / "books.parquet")
    pq.write_table(pa.Table.from_pylist(markets), folder / "markets.parquet")
    return str(folder)


def five_level(ms: int, recv: int, **changes: Any) -> Row:
    row: Row = {
        "slug": "btc-updown-5m-1776081600",
        "event_ms": 1_776_081_600_000 + ms,
        "recv_ms": 1_776_081_600_000 + recv,
    }
    for side, best in (("bid", 0.30), ("ask", 0.31)):
        for level in range(1, 6):
            step = -0.01 if side == "bid" else 0.01
            row[f"{side}{level}"], row[f"{side}{level}_size"] = best + step * (level - 1), 100.0 * level
    return row | changes


def btc5m(folder: Path, rows: list[Row], **market: str) -> str:
    floats = [(name, pa.float32()) for name in rows[0] if name.startswith(("bid", "ask"))]
    schema = pa.schema([("slug", pa.string()), ("event_ms", pa.int64()), ("recv_ms", pa.int64()), *floats])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "btc5m_book_l5_2026-04-13.parquet")
    listed = {
        "slug": "btc-updown-5m-1776081600", "start_ts": "1776081600", "end_ts": "1776081900", "condition_id": "0xc",
        "book_asset_id": "77", "book_side": "Down", "outcome_up": "1.0", "outcome_verified": "True",
    } | market  # fmt: skip
    with (folder / "btc5m_book_markets.csv").open("w", newline="") as opened:
        writer = csv.DictWriter(opened, listed)
        writer.writeheader()
        writer.writerow(listed)
    return str(folder)


def test_a_snapshot_becomes_an_exact_book(tmp_path: Path) -> None:
    feed = open_recorded(
        snapshots(tmp_path, [snapshot(0), snapshot(0, side="DOWN"), snapshot(1, ask_px=[], ask_sz=[])], [window()])
    )
    (one,) = feed.recordings
    assert len(one) == 2
    first = asyncio.run(feed.book("0xa", datetime.fromtimestamp(OPENS / 1000, UTC)))
    assert first is not None
    assert first.bids == (Level(Decimal("0.49"), 10 * UNIT), Level(Decimal("0.48"), 20_250_000))
    assert first.asks == (Level(Decimal("0.51"), 30 * UNIT),)
    last = asyncio.run(feed.book("0xa", datetime.fromtimestamp(OPENS / 1000 + 1, UTC)))
    assert last is not None
    assert last.asks == ()


def test_a_payout_is_official_two_minutes_after_the_close(tmp_path: Path) -> None:
    markets = [window(), window(market_id="0xb", payout_up=None)]
    feed = open_recorded(snapshots(tmp_path, [snapshot(0), snapshot(0, market_id="0xb")], markets))
    known, unknown = (r.resolution for r in feed.recordings)
    assert known is not None and unknown is not None
    assert (known.payout, known.source) == (Decimal(1), PayoutSource.OFFICIAL)
    assert known.known_at == feed.recordings[0].market.closes_at + timedelta(seconds=120)
    assert (unknown.payout, unknown.source) == (None, PayoutSource.UNRESOLVED)
    assert any("120 s after the close" in note for note in feed.info.notes)


def test_the_down_tokens_book_is_shown_as_the_up_tokens(tmp_path: Path) -> None:
    feed = open_recorded(btc5m(tmp_path, [five_level(100, 131)]))
    (one,) = feed.recordings
    seen = asyncio.run(feed.book("0xc", datetime.fromtimestamp(1_776_081_601, UTC)))
    assert seen is not None
    assert (seen.best_bid, seen.best_ask) == (Decimal("0.69"), Decimal("0.70"))
    assert seen.bids[4] == Level(Decimal("0.65"), 500 * UNIT)
    assert (one.market.no_token, one.market.seconds) == ("77", 300)


def test_the_token_is_the_one_the_markets_file_names(tmp_path: Path) -> None:
    feed = open_recorded(btc5m(tmp_path, [five_level(100, 131)], book_side="Up"))
    seen = asyncio.run(feed.book("0xc", datetime.fromtimestamp(1_776_081_601, UTC)))
    assert seen is not None
    assert seen.best_bid == Decimal("0.30")
    assert feed.recordings[0].market.yes_token == "77"


def test_a_book_is_received_at_the_later_of_both_clocks(tmp_path: Path) -> None:
    feed = open_recorded(btc5m(tmp_path, [five_level(100, 131), five_level(140, 90), five_level(150, 160)]))
    base = 1_776_081_600_000
    assert (feed.recordings[0].received - base).tolist() == [131, 140, 160]
    assert (feed.recordings[0].at - base).tolist() == [100, 140, 150]


def test_a_small_step_back_of_the_collectors_clock_is_repaired(tmp_path: Path) -> None:
    feed = open_recorded(btc5m(tmp_path, [five_level(100, 131), five_level(110, 124), five_level(150, 160)]))
    assert (feed.recordings[0].received - 1_776_081_600_000).tolist() == [131, 131, 160]


@pytest.mark.parametrize(
    ("outcome", "verified", "source", "payout"),
    [
        ("1.0", "True", PayoutSource.OFFICIAL, Decimal(1)),
        ("0.0", "False", PayoutSource.INFERRED, Decimal(0)),
        ("", "False", PayoutSource.UNRESOLVED, None),
    ],
)
def test_outcomes_carry_their_source(
    tmp_path: Path, outcome: str, verified: str, source: PayoutSource, payout: Decimal | None
) -> None:
    feed = open_recorded(btc5m(tmp_path, [five_level(100, 131)], outcome_up=outcome, outcome_verified=verified))
    resolution = feed.recordings[0].resolution
    assert resolution is not None
    assert (resolution.source, resolution.payout) == (source, payout)


def test_an_absent_level_is_no_damage(tmp_path: Path) -> None:
    gone = {f"ask{level}{part}": None for level in range(1, 6) for part in ("", "_size")}
    feed = open_recorded(btc5m(tmp_path, [five_level(100, 131, **gone)]))
    seen = asyncio.run(feed.book("0xc", datetime.fromtimestamp(1_776_081_601, UTC)))
    assert seen is not None
    assert (len(seen.bids), len(seen.asks)) == (0, 5)


DAMAGE: list[tuple[dict[str, Any], str]] = [
    ({"bid_px": [NAN, 0.48]}, "bid level with only one"),
    ({"bid_px": [NAN, 0.48], "bid_sz": [NAN, 1.0]}, "gap between its bid levels"),
    ({"ask_px": [1.2]}, "ask price outside"),
    ({"ask_px": [0.0]}, "ask price outside"),
    ({"ask_px": [-0.5]}, "ask price outside"),
    ({"bid_sz": [10.0, -1.0]}, "impossible bid size"),
    ({"bid_sz": [10.0, float("inf")]}, "impossible bid size"),
    ({"bid_px": [0.48, 0.49]}, "bid levels out of order"),
    ({"bid_px": [0.49, 0.49]}, "bid levels out of order"),
    ({"ask_px": [0.51, 0.52]}, "ask prices and sizes that do not pair up"),
    ({"ts": None}, "a time that is not in milliseconds since 1970"),
    ({"market_id": "0xzz"}, "an unknown market"),
]


@pytest.mark.parametrize(("changes", "reason"), DAMAGE)
def test_one_bad_row_among_many_is_dropped_and_told(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    rows = [snapshot(n) for n in range(200)]
    rows[7] |= changes
    feed = open_recorded(snapshots(tmp_path, rows, [window()]))
    assert len(feed.recordings[0]) == 199
    (note,) = (n for n in feed.info.notes if "dropped" in n)
    assert note.startswith("1 row dropped from books.parquet")
    assert reason in note


@pytest.mark.parametrize(("changes", "reason"), DAMAGE)
def test_too_many_bad_rows_refuse_the_file_by_row(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    rows = [snapshot(n) for n in range(20)]
    rows[7] |= changes
    with pytest.raises(DataInvalid, match=reason) as refused:
        open_recorded(snapshots(tmp_path, rows, [window()]))
    assert str(refused.value).startswith("books.parquet row 8 has ")
    assert refused.value.next_step


def test_crossed_books_are_kept(tmp_path: Path) -> None:
    feed = open_recorded(snapshots(tmp_path, [snapshot(0, ask_px=[0.40])], [window()]))
    seen = asyncio.run(feed.book("0xa", datetime.fromtimestamp(OPENS / 1000, UTC)))
    assert seen is not None
    assert seen.crossed


def test_time_that_runs_backwards_names_the_row(tmp_path: Path) -> None:
    rows = [snapshot(0), snapshot(60), snapshot(10)]
    with pytest.raises(DataInvalid, match=r"books\.parquet row 3 .*backwards"):
        open_recorded(snapshots(tmp_path, rows, [window()]))


def _empty(folder: Path) -> None:
    pass


def _unknown(folder: Path) -> None:
    (folder / "prices.txt").write_text("0.5")


def _no_parquet(folder: Path) -> None:
    snapshots(folder, [snapshot(0)], [window()])
    (folder / "books.parquet").write_bytes(b"PAR1 not really")


def _truncated(folder: Path) -> None:
    snapshots(folder, [snapshot(n) for n in range(500)], [window()])
    whole = (folder / "books.parquet").read_bytes()
    (folder / "books.parquet").write_bytes(whole[: len(whole) // 2])


def _columns(folder: Path) -> None:
    snapshots(folder, [{k: v for k, v in snapshot(0).items() if not k.startswith("ask")}], [window()])


def _kind(folder: Path) -> None:
    snapshots(folder, [snapshot(0)], [window()])
    rows = [snapshot(0, bid_px="many")]
    pq.write_table(pa.Table.from_pylist(rows), folder / "books.parquet")


def _no_books(folder: Path) -> None:
    snapshots(folder, [snapshot(0, side="DOWN")], [window()])


def _no_window(folder: Path) -> None:
    snapshots(folder, [snapshot(0)], [window(), window(market_id="0xb", end_ts=None)])


def _bad_side(folder: Path) -> None:
    btc5m(folder, [five_level(0, 1)], book_side="Left")


def _bad_csv(folder: Path) -> None:
    btc5m(folder, [five_level(0, 1)])
    (folder / "btc5m_book_markets.csv").write_text("slug,start_ts\nx,1\n")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_empty, "is empty"),
        (_unknown, "no layout known here"),
        (_no_parquet, "books.parquet cannot be read as a Parquet file."),
        (_truncated, "books.parquet cannot be read as a Parquet file."),
        (_columns, "books.parquet lacks the columns ask_px, ask_sz."),
        (_kind, "books.parquet has columns of the wrong kind."),
        (_no_books, "books.parquet has no books of the UP token."),
        (_no_window, "markets.parquet row 2 is no market."),
        (_bad_side, "btc5m_book_markets.csv row 1 is no market with a book"),
        (_bad_csv, "btc5m_book_markets.csv lacks the columns end_ts"),
    ],
)
def test_damage_ends_in_one_plain_sentence(tmp_path: Path, damage: Callable[[Path], None], sentence: str) -> None:
    damage(tmp_path)
    with pytest.raises(DataInvalid) as refused:
        open_recorded(str(tmp_path))
    assert sentence in str(refused.value)
    assert str(refused.value).endswith(".")
    assert "\n" not in refused.value.sentence()
    assert refused.value.next_step


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="there is no folder"):
        open_recorded(str(tmp_path / "nowhere"))


def test_a_missing_sample_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backtest.sources._PACKAGE", "edgeclaw_no_such_package")
    with pytest.raises(NotReady, match="not installed") as refused:
        open_recorded("sample")
    assert "pip install 'edgeclaw[sample]'" in refused.value.next_step


@pytest.mark.sample
def test_the_sample_is_eighteen_official_windows() -> None:
    pytest.importorskip("resolvedkit", reason="the sample data is not installed")
    feed = open_recorded("sample")
    assert len(feed.recordings) == 18
    assert sum(len(r) for r in feed.recordings) == 19_166
    assert all(r.market.seconds == 900 for r in feed.recordings)
    assert {r.resolution.source for r in feed.recordings if r.resolution} == {PayoutSource.OFFICIAL}
    assert any("CC BY 4.0" in note for note in feed.info.notes)
    assert not any("dropped" in note for note in feed.info.notes)
    assert feed.info.fingerprint == open_recorded("sample").info.fingerprint


@pytest.mark.sample
def test_the_samples_two_tokens_mirror_each_other() -> None:
    """A few paired rows differ: the tokens were read a moment apart. They are one book in all others."""
    pytest.importorskip("resolvedkit", reason="the sample data is not installed")
    rows = pq.read_table(sample_folder() / "books.parquet").to_pylist()
    down = {(r["market_id"], r["ts"]): r for r in rows if r["side"] == "DOWN"}
    paired = [r for r in rows if r["side"] == "UP" and (r["market_id"], r["ts"]) in down]
    some = random.Random(7).sample(paired, 1500)
    mirrored = [_mirrors(up, down[up["market_id"], up["ts"]]) for up in some]
    assert sum(mirrored) / len(mirrored) > 0.99


def _mirrors(up: Row, down: Row) -> bool:
    prices = (
        [round(1 - p, 3) for p in down["ask_px"]] == up["bid_px"],
        [round(1 - p, 3) for p in down["bid_px"]] == up["ask_px"],
    )
    return all(prices) and down["ask_sz"] == up["bid_sz"] and down["bid_sz"] == up["ask_sz"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded April books are not on this machine")
def test_the_april_books_load_whole() -> None:
    feed = open_recorded(str(SHARED))
    assert len(feed.recordings) == 161
    assert sum(len(r) for r in feed.recordings) == 424_147
    sources = [r.resolution.source for r in feed.recordings if r.resolution]
    assert (sources.count(PayoutSource.OFFICIAL), sources.count(PayoutSource.UNRESOLVED)) == (16, 11)
    assert not any("dropped" in note for note in feed.info.notes)


def test_several_recordings_are_replayed_as_one_and_none_is_counted_twice(tmp_path: Path) -> None:
    places = []
    for number in range(2):
        folder = tmp_path / f"part{number}"
        folder.mkdir()
        mine = {"market_id": f"0x{number}"}
        places.append(snapshots(folder, [snapshot(s, **mine) for s in range(5)], [window(**mine)]))
    both = open_recorded(BETWEEN.join(places))
    assert (both.info.name, [r.market.id for r in both.recordings]) == ("part0 and part1", ["0x0", "0x1"])
    assert all(note.startswith(("part0: ", "part1: ")) for note in both.info.notes)
    alone = [open_recorded(place).recordings[0] for place in places]
    assert [len(r) for r in both.recordings] == [len(r) for r in alone]
    with pytest.raises(DataInvalid, match="hold the same market"):
        open_recorded(BETWEEN.join([places[0], places[0]]))


def test_a_folder_with_a_colon_in_its_name_is_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "books: april"
    folder.mkdir()
    assert len(open_recorded(snapshots(folder, [snapshot(s) for s in range(3)], [window()])).recordings) == 1
