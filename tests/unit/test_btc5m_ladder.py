"""The file of single offsets: what a row becomes, on which clock, and how damage is told."""

import asyncio
import csv
import gzip
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from backtest.replay import ReplayFeed
from backtest.sources import open_recorded
from market.clock import from_ms
from market.errors import DataInvalid
from market.types import UNIT, Book, Level, PayoutSource
from strategies.features import STEP

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "btc5m_ladder_2026-07-26_27.csv.gz"
START = 1_785_106_200
LABELS = (120, 90, 60, 45, 30, 20, 10)
Row = dict[str, str]


def row(window: int = 0, label: int = 120, **changes: str) -> Row:
    start = START + 300 * window
    plain = {
        "start_ts": str(start), "slug": f"btc-updown-5m-{start}", "outcome_up": "0", "binance_open": "65477.0",
        "sec_to_close_label": str(label), "sec_to_close_measured": f"{label - 0.3:.1f}", "binance_spot": "65423.47",
        "up_bid": "0.12", "up_ask": "0.13", "up_bid_depth": "23353.95", "up_ask_depth": "42985.74",
        "up_vwap5": "0.13", "up_vwap20": "0.13", "up_vwap50": "0.134",
        "down_bid": "0.87", "down_ask": "0.88", "down_bid_depth": "42967.03", "down_ask_depth": "23353.95",
        "down_vwap5": "0.88", "down_vwap20": "0.8875", "down_vwap50": "0.889",
    }  # fmt: skip
    return plain | changes


def rows(windows: int = 20) -> list[Row]:
    return [row(window, label) for window in range(windows) for label in LABELS]


def written(folder: Path, made: list[Row]) -> str:
    file = folder / "btc5m_ladder_2026-07-26_27.csv.gz"
    with gzip.open(file, "wt", newline="") as opened:
        writer = csv.DictWriter(opened, row())
        writer.writeheader()
        writer.writerows(made)
    return str(file)


def opened(folder: Path, *made: Row) -> ReplayFeed:
    return open_recorded(written(folder, list(made)))


def first_book(feed: ReplayFeed) -> Book:
    assert feed.info.ends is not None
    seen = asyncio.run(feed.book(feed.recordings[0].market.id, feed.info.ends))
    assert seen is not None
    return seen


def test_a_row_becomes_the_up_tokens_book_with_the_sizes_that_averages_prove(tmp_path: Path) -> None:
    seen = first_book(opened(tmp_path, row()))
    # 5 of 20 shares of Down at 0.88 explain an average of 0.8875; 30 of 50 shares of Up at 0.13 explain one of 0.134.
    assert seen.bids == (Level(Decimal("0.12"), 5 * UNIT), Level(Decimal("0.001"), 23_348_950_000))
    assert seen.asks == (Level(Decimal("0.13"), 30 * UNIT), Level(Decimal("0.999"), 42_955_740_000))
    assert seen.depth(5) == (23_353_950_000, 42_985_740_000)


def test_a_bid_that_the_down_token_does_not_confirm_is_there_but_too_small_to_take(tmp_path: Path) -> None:
    feed = opened(tmp_path, row(down_ask="0.89", down_vwap5="0.89", down_vwap20="0.89", down_vwap50="0.89"))
    assert first_book(feed).bids[0] == Level(Decimal("0.12"), 10_000)
    assert any("disagree in 1 snapshots" in note for note in feed.info.notes)


def test_an_empty_side_stays_empty(tmp_path: Path) -> None:
    gone = {"up_bid": "", "up_bid_depth": "0.0"} | dict.fromkeys(("down_ask", "down_vwap5", "down_vwap20"), "")
    seen = first_book(opened(tmp_path, row() | gone | {"down_vwap50": ""}))
    assert seen.bids == () and len(seen.asks) == 2


def test_a_side_at_the_end_of_the_scale_is_one_level(tmp_path: Path) -> None:
    seen = first_book(opened(tmp_path, row(up_bid="0.001", up_ask="0.002")))
    assert seen.bids == (Level(Decimal("0.001"), 23_353_950_000),)


def test_no_more_is_shown_than_the_side_holds(tmp_path: Path) -> None:
    seen = first_book(opened(tmp_path, row(up_ask_depth="12.5")))
    assert seen.asks == (Level(Decimal("0.13"), 12_500_000),)


def test_receipt_is_later_by_what_the_collectors_clock_was_slow(tmp_path: Path) -> None:
    feed = opened(tmp_path, *(row(0, label) for label in LABELS))
    (one,) = feed.recordings
    closes = one.market.closes_at
    received = [(closes - from_ms(ms)).total_seconds() for ms in one.received.tolist()]
    assert received == [99.7, 69.7, 39.7, 24.7, 9.7, -0.3, -10.3]
    assert any("20 s slow" in note and "2 snapshots come after the close" in note for note in feed.info.notes)


def test_it_counts_how_often_the_clock_so_dated_is_borne_out(tmp_path: Path) -> None:
    windows = [
        row(w, label, binance_open=f"{65_000 + 50 * w}", binance_spot="65052") for w in range(3) for label in LABELS
    ]
    windows[5] |= {"binance_spot": "65049.5"}
    feed = opened(tmp_path, *windows)
    assert any("within a dollar, in 1 of 2 pairs" in note for note in feed.info.notes)


def test_it_can_be_asked_at_the_first_bar_that_holds_each_snapshot_of_an_open_window(tmp_path: Path) -> None:
    feed = opened(tmp_path, *rows(2))
    market = feed.recordings[0].market
    assert [int((market.closes_at - at).total_seconds()) for at in feed.info.instants[:5]] == [95, 65, 35, 20, 5]
    assert len(feed.info.instants) == 10

    async def run() -> None:
        for at in feed.info.instants:
            (open_now,) = await feed.markets(at)
            book, bars = (
                await feed.book(open_now.id, at),
                await feed.bars(open_now.id, at - timedelta(seconds=9), at, STEP),
            )
            assert book is not None and book.best_bid is not None
            assert timedelta(0) < at - book.received_at <= timedelta(seconds=STEP)
            assert bars[-1].at == at and bars[-1].bid == int(book.best_bid * UNIT)

    asyncio.run(run())


def test_the_spot_is_the_reference_and_the_open_the_price_to_beat(tmp_path: Path) -> None:
    feed = opened(tmp_path, row(0, 120), row(0, 90, binance_spot="65423.480000000001"), row(1, 120))
    assert feed.info.has_reference and feed.info.begins is not None and feed.info.ends is not None
    before = feed.info.begins - timedelta(seconds=1)
    own, other = (asyncio.run(feed.reference(r.market.id, before, feed.info.ends)) for r in feed.recordings)
    assert own == other and [t.price for t in own] == [
        Decimal("65423.47"),
        Decimal("65423.480000000001"),
        Decimal("65423.47"),
    ]
    assert feed.recordings[0].reference is feed.recordings[1].reference
    assert feed.recordings[0].market.price_to_beat == Decimal("65477")
    assert any("proxy" in note for note in feed.info.notes)


@pytest.mark.parametrize(
    ("outcome", "payout", "source"),
    [
        ("1", Decimal(1), PayoutSource.OFFICIAL),
        ("0", Decimal(0), PayoutSource.OFFICIAL),
        ("", None, PayoutSource.UNRESOLVED),
    ],
)
def test_outcomes_are_official_or_unknown(
    tmp_path: Path, outcome: str, payout: Decimal | None, source: PayoutSource
) -> None:
    resolution = opened(tmp_path, row(outcome_up=outcome)).recordings[0].resolution
    assert resolution is not None and (resolution.payout, resolution.source) == (payout, source)


DAMAGE: list[tuple[Row, str]] = [
    ({"up_bid": "NaN"}, "no number in up_bid"),
    ({"up_ask": "inf"}, "no number in up_ask"),
    ({"down_vwap20": "cheap"}, "no number in down_vwap20"),
    ({"up_bid": "12"}, "a bid price outside (0, 1)"),
    ({"up_ask_depth": "-4"}, "ask level with only one of price and size"),
    ({"up_bid_depth": ""}, "bid level with only one of price and size"),
    ({"up_ask": ""}, "ask level with only one of price and size"),
    ({"sec_to_close_measured": ""}, "a time to close outside its window"),
    ({"sec_to_close_measured": "98300"}, "a time to close outside its window"),
    ({"start_ts": "1785106200000"}, "a time that is not in milliseconds since 1970"),
    ({"start_ts": "soon"}, "a time that is not in milliseconds since 1970"),
    ({"slug": "btc-updown-5m-1785106201"}, "terms that are no window's"),
    ({"outcome_up": "2"}, "terms that are no window's"),
    ({"binance_open": "65000"}, "terms that are no window's, or not those of its window above"),
    ({"binance_spot": ""}, "an impossible spot price"),
    ({"binance_spot": "-1"}, "an impossible spot price"),
    ({"binance_spot": "6542347"}, "a spot price far from its window's opening price"),
    ({"sec_to_close_measured": "119.7"}, "a snapshot that is already above"),
]


@pytest.mark.parametrize(("changes", "reason"), DAMAGE)
def test_one_bad_row_among_many_is_dropped_and_told(tmp_path: Path, changes: Row, reason: str) -> None:
    made = rows()
    made[8] |= changes
    feed = open_recorded(written(tmp_path, made))
    assert sum(len(r) for r in feed.recordings) == len(made) - 1
    (note,) = (n for n in feed.info.notes if "dropped" in n)
    assert reason in note


@pytest.mark.parametrize(("changes", "reason"), DAMAGE)
def test_too_many_bad_rows_refuse_the_file_by_row(tmp_path: Path, changes: Row, reason: str) -> None:
    made = rows(2)
    made[8] |= changes
    with pytest.raises(DataInvalid) as refused:
        open_recorded(written(tmp_path, made))
    assert "row 9 has " in str(refused.value) and reason in str(refused.value) and refused.value.next_step


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    made = rows(2)
    with pytest.raises(DataInvalid, match=r"row 8 .*time runs backwards"):
        open_recorded(written(tmp_path, made[7:] + made[:7]))


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="has no snapshots"):
        open_recorded(written(tmp_path, []))


def test_a_file_cut_short_or_not_packed_is_refused(tmp_path: Path) -> None:
    file = Path(written(tmp_path, rows()))
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"\0" * 40 + whole[140:], b"start_ts,slug\n1,2\n"):
        file.write_bytes(damaged)
        with pytest.raises(DataInvalid, match="cannot be read as CSV text"):
            open_recorded(str(file))


def test_another_file_is_refused_with_what_could_be_named(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("0.5")
    with pytest.raises(DataInvalid, match="in no layout known here") as refused:
        open_recorded(str(tmp_path / "prices.csv"))
    assert "btc5m_ladder_*.csv.gz" in refused.value.next_step and "\n" not in refused.value.sentence()


@pytest.mark.skipif(not SHARED.is_file(), reason="the recorded offsets are not on this machine")
def test_the_july_windows_load_whole_and_their_clock_is_as_slow_as_said() -> None:
    feed = open_recorded(str(SHARED))
    assert (len(feed.recordings), sum(len(r) for r in feed.recordings), len(feed.info.instants)) == (120, 839, 599)
    assert not any("dropped" in note for note in feed.info.notes)
    assert any("20 s slow" in note and "in 115 of 119 pairs" in note for note in feed.info.notes)
