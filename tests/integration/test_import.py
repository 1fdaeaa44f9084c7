"""`edgeclaw data import`: tables of anybody's become a recording, or one sentence."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from agent.cli import app
from backtest.imported import read_import
from backtest.importing import bring_in, read_map
from backtest.sources import open_recorded
from market.errors import DataInvalid, Misconfigured

DATA = Path(__file__).parents[2].parent / "shared" / "data"
BEGINS = 1_782_864_000
MAP = {
    "books": {"market": "name", "at": "ts", "bid": "b", "bid_size": "bs", "ask": "a", "ask_size": "as"},
    "markets": {"market": "name", "opens": "from", "closes": "to", "outcome": "won"},
}


def _books(name: str = "one", first: float = 0.4, step_ms: int = 1000) -> dict[str, list[object]]:
    count = 20
    return {
        "name": [name] * count,
        "ts": [BEGINS * 1000 + n * step_ms for n in range(count)],
        "b": [round(first + n / 100, 2) for n in range(count)],
        "bs": [10.0] * count,
        "a": [round(first + 0.02 + n / 100, 2) for n in range(count)],
        "as": [12.5] * count,
    }


def _place(folder: Path, books: dict[str, list[object]], mapping: object = MAP, won: str = "up") -> dict[str, Path]:
    pcsv.write_csv(pa.table(books), folder / "books.csv")
    (folder / "markets.csv").write_text(f"name,from,to,won\none,{BEGINS},{BEGINS + 300},{won}\n")
    (folder / "map.yaml").write_text(json.dumps(mapping))
    return {name: folder / name for name in ("books.csv", "markets.csv", "map.yaml")}


def _run(folder: Path, *, out: Path | None = None, books: tuple[str, ...] = ("books.csv",)) -> object:
    files = [folder / name for name in books]
    return bring_in(files, folder / "markets.csv", read_map(folder / "map.yaml"), out, lambda *_: None)


def test_a_table_becomes_a_recording_with_every_book_and_its_outcome(tmp_path: Path) -> None:
    _place(tmp_path, _books())
    _run(tmp_path, out=tmp_path / "out")
    (one,) = open_recorded(str(tmp_path / "out")).recordings
    assert (one.market.slug, len(one), one.market.seconds) == ("one", 20, 300)
    assert one.resolution is not None and one.resolution.payout == 1
    assert one.bids.price[:, 0].tolist() == [400_000 + n * 10_000 for n in range(20)]
    assert one.asks.size[0, 0] == 12_500_000


def test_the_verb_checks_without_writing_and_then_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = _place(tmp_path, _books())
    out = tmp_path / "out"
    words = ["data", "import", str(files["books.csv"]), "--markets", str(files["markets.csv"])]
    words += ["--map", str(files["map.yaml"]), "--out", str(out)]
    app([*words, "--dry-run"], standalone_mode=False)
    assert "Nothing was written" in capsys.readouterr().out
    assert not out.exists()
    app([*words, "--json"], standalone_mode=False)
    said = json.loads(capsys.readouterr().out)
    assert (said["markets"], said["books"], said["resolved"], said["folder"]) == (1, 20, 1, str(out))
    with pytest.raises(DataInvalid, match="is not empty"):
        _run(tmp_path, out=out)


@pytest.mark.skipif(not DATA.is_dir(), reason="the recorded books of April are not beside the project")
def test_recorded_books_brought_in_are_those_that_their_own_reader_makes(tmp_path: Path) -> None:
    with (DATA / "btc5m_book_markets.csv").open() as listed:
        slugs = [row["slug"] for row in csv.DictReader(listed)]
    whole = pq.read_table(DATA / "btc5m_book_l5_2026-04-14.parquet")
    chosen = [s for s in slugs if s in set(whole["slug"].to_pylist())][:3]
    names = np.array(whole["slug"].to_pylist())
    pq.write_table(whole.filter(pa.array(np.isin(names, chosen))), tmp_path / "books.parquet")
    levels = range(1, 6)
    sides = {f"{side}{part}": [f"{side}{n}{part}" for n in levels] for side in ("bid", "ask") for part in ("", "_size")}
    columns = {"market": "slug", "at": "event_ms", "received": "recv_ms", **sides}
    terms = {"market": "slug", "opens": "start_ts", "closes": "end_ts", "outcome": "outcome_up", "id": "condition_id"}
    (tmp_path / "map.yaml").write_text(json.dumps({"books": columns, "markets": terms, "side": "no"}))
    mapping = read_map(tmp_path / "map.yaml")
    files, markets = [tmp_path / "books.parquet"], DATA / "btc5m_book_markets.csv"
    bring_in(files, markets, mapping, tmp_path / "out", lambda *_: None)
    theirs = {r.market.id: r for r in open_recorded(str(DATA)).recordings}
    mine = open_recorded(str(tmp_path / "out")).recordings
    assert len(mine) == 3
    for one in mine:
        own = theirs[one.market.id]
        assert one.received.tolist() == own.received.tolist()
        for side, other in ((one.bids, own.bids), (one.asks, own.asks)):
            assert side.count.tolist() == other.count.tolist()
            assert side.price[side.present].tolist() == other.price[other.present].tolist()
            assert side.size[side.present].tolist() == other.size[other.present].tolist()


Spoil = Callable[[dict[str, list[object]]], object]


def _put(column: str, row: int, value: object) -> Spoil:
    return lambda books: books[column].__setitem__(row, value)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda b: b.update({c: [float(str(p)) * 100 for p in b[c]] for c in "ba"}), "looks like cents"),
        (lambda b: b.update(ts=[int(str(t)) // 1000 for t in b["ts"]]), "row 1 has a time that is not in milliseconds"),
        (lambda b: b["ts"].reverse(), "time runs backwards"),
        (_put("b", 3, -0.1), "row 4 has a bid price outside"),
        (_put("as", 5, 0.0), "row 6 has an impossible ask size"),
        (lambda b: b.update(name=["two"] * 20), "row 1 has an unknown market"),
        (lambda b: b.pop("bs"), "lacks the column bs"),
        (lambda b: b.update(b=["much"] * 20), "something other than numbers in b"),
    ],
)
def test_tables_that_cannot_be_are_refused_in_one_sentence(tmp_path: Path, spoil: Spoil, said: str) -> None:
    books = _books(step_ms=2000)
    spoil(books)
    _place(tmp_path, books)
    with pytest.raises(DataInvalid, match=said) as refused:
        _run(tmp_path, out=tmp_path / "out")
    assert "\n" not in refused.value.sentence()
    assert refused.value.next_step
    assert not (tmp_path / "out").exists()


def test_files_that_overlap_are_refused_and_those_that_follow_are_joined(tmp_path: Path) -> None:
    _place(tmp_path, _books())
    later = _books(first=0.5)
    later["ts"] = [int(str(t)) + 60_000 for t in later["ts"]]
    pcsv.write_csv(pa.table(later), tmp_path / "later.csv")
    _run(tmp_path, out=tmp_path / "out", books=("later.csv", "books.csv"))
    assert len(open_recorded(str(tmp_path / "out")).recordings[0]) == 40
    pcsv.write_csv(pa.table(_books()), tmp_path / "again.csv")
    with pytest.raises(DataInvalid, match=r"again\.csv and books\.csv overlap|books\.csv and again\.csv overlap"):
        _run(tmp_path, books=("books.csv", "again.csv"))


def test_markets_without_an_outcome_are_said_and_kept(tmp_path: Path) -> None:
    _place(tmp_path, _books(), won="")
    _run(tmp_path, out=tmp_path / "out")
    assert open_recorded(str(tmp_path / "out")).recordings[0].resolution is None
    _place(tmp_path, _books(), won="perhaps")
    with pytest.raises(DataInvalid, match="row 1 is no market: its outcome 'perhaps'"):
        _run(tmp_path)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({}, "books: field required|books: missing"),
        ({**MAP, "side": "maybe"}, "side: input should be 'yes' or 'no'"),
        ({**MAP, "books": {**MAP["books"], "bid": ["b", "c"]}}, "different numbers of columns"),
        ("lunch", "the map map.yaml: it: "),
    ],
)
def test_a_map_that_says_nothing_useful_is_refused(tmp_path: Path, mapping: object, said: str) -> None:
    _place(tmp_path, _books(), mapping)
    with pytest.raises(Misconfigured, match=said):
        read_map(tmp_path / "map.yaml")


def _timed(folder: Path, column: pa.Array, **units: object) -> list[int]:
    """Milliseconds since the first book's, of tables whose times are this column."""
    mapping = {**MAP, "units": units} if units else MAP
    _place(folder, _books(), mapping)
    pq.write_table(pa.table({**_books(), "ts": column}), folder / "books.parquet")
    _run(folder, out=folder / "out", books=("books.parquet",))
    (one,) = open_recorded(str(folder / "out")).recordings
    return [int(ms) - BEGINS * 1000 for ms in one.received]


MILLIS = [BEGINS * 1000 + n * 250 for n in range(20)]
APART = [n * 250 for n in range(20)]


@pytest.mark.parametrize(("unit", "factor"), [("s", 0.001), ("ms", 1), ("us", 1000), ("ns", 1_000_000)])
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()])
def test_times_as_numbers_are_of_the_unit_that_the_map_names(
    tmp_path: Path, unit: str, factor: float, kind: pa.DataType
) -> None:
    if unit == "s" and kind == pa.int64():
        assert _timed(tmp_path, pa.array([BEGINS + n for n in range(20)]), time="s") == [n * 1000 for n in range(20)]
    else:
        assert _timed(tmp_path, pa.array([ms * factor for ms in MILLIS]).cast(kind, safe=False), time=unit) == APART


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_timestamps_with_a_zone_are_what_they_say(tmp_path: Path, unit: str, zone: str) -> None:
    stamps = pa.array(MILLIS).cast(pa.timestamp("ms", tz=zone)).cast(pa.timestamp(unit, tz=zone), safe=False)
    step = 1000 if unit == "s" else 1
    assert _timed(tmp_path, stamps) == [ms // step * step for ms in APART]


def test_naive_timestamps_are_refused_unless_the_map_names_their_zone(tmp_path: Path) -> None:
    in_new_york = pa.array([(ms - 4 * 3_600_000) * 1000 for ms in MILLIS]).cast(pa.timestamp("us"))
    with pytest.raises(DataInvalid, match=r"column ts, has times without a zone") as refused:
        _timed(tmp_path, in_new_york)
    assert "zone" in (refused.value.next_step or "")
    assert _timed(tmp_path, in_new_york, zone="America/New_York") == APART


def test_an_hour_that_a_clock_change_repeats_is_refused(tmp_path: Path) -> None:
    twice = pa.array(["2026-11-01 01:30:00"] * 20).cast(pa.timestamp("us"))
    with pytest.raises(DataInvalid, match="a time that cannot be"):
        _timed(tmp_path, twice, zone="America/New_York")


def test_times_as_text_and_zones_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="column ts, has something other than numbers or timestamps"):
        _timed(tmp_path, pa.array(["noon"] * 20))
    with pytest.raises(Misconfigured, match="'Mars/Base' is no time zone"):
        _timed(tmp_path, pa.array(MILLIS), zone="Mars/Base")


@pytest.mark.parametrize("opens", [f"{BEGINS}", "2026-07-01T00:00:00Z", "2026-06-30T20:00:00-04:00"])
def test_market_times_are_seconds_or_timestamps_with_a_zone(tmp_path: Path, opens: str) -> None:
    _place(tmp_path, _books())
    (tmp_path / "markets.csv").write_text(f"name,from,to,won\none,{opens},{BEGINS + 300},up\n")
    _run(tmp_path, out=tmp_path / "out")
    (one,) = open_recorded(str(tmp_path / "out")).recordings
    assert one.market.seconds == 300


def test_market_times_without_a_zone_are_refused(tmp_path: Path) -> None:
    _place(tmp_path, _books())
    (tmp_path / "markets.csv").write_text(f"name,from,to,won\none,2026-07-01T00:00:00,{BEGINS + 300},up\n")
    with pytest.raises(DataInvalid, match="has no zone, and the map names none"):
        _run(tmp_path)


def test_names_of_markets_are_text_with_their_leading_zeros(tmp_path: Path) -> None:
    name = "00" + "9" * 70
    _place(tmp_path, _books(name))
    (tmp_path / "markets.csv").write_text(f"name,from,to,won\n{name},{BEGINS},{BEGINS + 300},up\n")
    _run(tmp_path, out=tmp_path / "out")
    (one,) = open_recorded(str(tmp_path / "out")).recordings
    assert one.market.slug == name
    pq.write_table(pa.table({**_books(), "name": pa.array([1.0] * 20)}), tmp_path / "books.parquet")
    with pytest.raises(DataInvalid, match="floating numbers in name"):
        _run(tmp_path, books=("books.parquet",))


def test_books_outside_the_window_of_their_market_are_counted_and_said(tmp_path: Path) -> None:
    books = _books()
    books["ts"] = [int(str(t)) + 290_000 for t in books["ts"]]
    _place(tmp_path, books)
    made = read_import([tmp_path / "books.csv"], tmp_path / "markets.csv", read_map(tmp_path / "map.yaml"))
    assert "9 books were received outside the window of their market." in made[1]
