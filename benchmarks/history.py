"""Latency of a query to history: the last bars of one market out of millions, and the windows most like the present
one as of any instant.

Run: python -m benchmarks.history [--full]   (prints one JSON object a line; --full keeps ten million bars, not one)
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, create_engine, text

from market.clock import monotonic
from storage.analogs import BucketVocabulary, WindowHistory
from storage.chunks import BarColumns
from storage.connection import Database, open_database
from storage.migrate import prepare
from storage.neighbours import distances
from storage.prices import BarReader, PriceBars
from storage.records import Observation
from storage.schema import from_us
from storage.store import open_store
from storage.timeline import Timeline

WINDOWS, FEATURES, NEIGHBOURS, QUESTIONS = 1_000_000, 12, 10, 200
MARKETS, STEP, LAST, READS = 1_000, 300, 288, 3_000
BEGINS = 1_767_225_600_000_000
UNIT = STEP * 1_000_000
SOURCE = "f" * 64
ROW_TABLE = """CREATE TABLE bars (source TEXT NOT NULL, market_id TEXT NOT NULL, step INTEGER NOT NULL,
    at BIGINT NOT NULL, bid BIGINT, ask BIGINT, bid_depth BIGINT NOT NULL, ask_depth BIGINT NOT NULL,
    updates INTEGER NOT NULL, PRIMARY KEY (source, market_id, step, at))"""
ROW_READ = """SELECT * FROM bars WHERE source = :source AND market_id = :market AND step = :step AND at <= :at
    ORDER BY at DESC LIMIT :last"""

Floats = NDArray[np.float64]


def _print(**figures: object) -> None:
    print(json.dumps(figures), flush=True)


def _quantiles(seconds: Sequence[float], unit: float = 1e6) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(seconds, p)) * unit, 2) for p in (50, 99)}


def _timed(into: list[float], job: Callable[..., Any], *given: object) -> Any:
    begun = monotonic()
    made = job(*given)
    into.append(monotonic() - begun)
    return made


def _states(shape: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Heavy-tailed rows: independent features (the hardest), or windows of 12 returns brought to mean 0 and scale 1."""
    made = rng.standard_t(4, (WINDOWS, FEATURES))
    if shape == "returns":
        made = (made - made.mean(axis=1, keepdims=True)) / made.std(axis=1, keepdims=True)
    return made.astype(np.float32)


def _timeline(states: NDArray[np.float32]) -> Timeline:
    timeline = Timeline(300, BucketVocabulary())
    at = BEGINS + np.arange(WINDOWS) * UNIT
    whole = np.full(WINDOWS, 500_000)
    columns: dict[str, NDArray[Any]] = {"at": at, "known_at": at + UNIT, "mid": whole, "payout": whole}
    columns |= {"seconds_left": np.full(WINDOWS, 300), "official": np.zeros(WINDOWS, np.bool_)}
    timeline.extend([f"0x{n:064x}" for n in range(WINDOWS)], columns, {}, states)
    return timeline


def _simple(states: Floats, query: Floats) -> NDArray[np.int64]:
    """The usual few lines of numpy."""
    away = states - query
    squares = np.einsum("ij,ij->i", away, away)
    return np.argpartition(squares, NEIGHBOURS - 1)[:NEIGHBOURS]


def _check(past: WindowHistory, query: NDArray[np.float32], found: tuple[Any, Any], usual: NDArray[np.int64]) -> None:
    """Stops the run at the first answer that is not what looking at every row gives."""
    every = np.arange(len(past))
    squares = distances(past.states.T, query, every)
    rows = np.lexsort((every, squares))[:NEIGHBOURS]
    if found[0].tolist() != rows.tolist() or found[1].tolist() != squares[rows].tolist():
        raise RuntimeError(f"the search missed a row: {found[0].tolist()} for {rows.tolist()}")
    if set(usual.tolist()) != set(rows.tolist()):
        raise RuntimeError("numpy found others")


def analogs(shape: str) -> None:
    """Questions as of uniformly random instants; every answer is compared with looking at all rows."""
    rng = np.random.default_rng(11)
    states = _states(shape, rng)
    wide = states.astype(np.float64)
    timeline = _timeline(states)
    tree = import_module("scipy.spatial").cKDTree(wide) if find_spec("scipy") else None
    ours: list[float] = []
    simple: list[float] = []
    trees: list[float] = []
    for number in range(QUESTIONS):
        cut = BEGINS + int(rng.integers(NEIGHBOURS + 1, WINDOWS)) * UNIT
        query = states[rng.integers(WINDOWS)] if number % 2 else _states_like(shape, rng)
        found = _timed(ours, _ask, timeline, cut, query.tolist())
        past = timeline.before(cut)
        usual = _timed(simple, _simple, wide[: len(past)], query.astype(np.float64))
        if tree is not None:
            _timed(trees, tree.query, query, NEIGHBOURS)
        _check(past, query, found, usual)
    figures = {"ms": _quantiles(ours, 1e3), "numpy_ms": _quantiles(simple, 1e3)}
    if trees:
        figures["tree_without_as_of_ms"] = _quantiles(trees, 1e3)
    ratio = round(float(np.median(simple) / np.median(ours)), 2)
    sizes = {"windows": WINDOWS, "features": FEATURES, "k": NEIGHBOURS, "questions": QUESTIONS}
    _print(bench="analogs", shape=shape, **sizes, equal=len(ours), **figures, numpy_over_ours=ratio)


def _states_like(shape: str, rng: np.random.Generator) -> NDArray[np.float32]:
    made = rng.standard_t(4, FEATURES)
    return ((made - made.mean()) / made.std() if shape == "returns" else made).astype(np.float32)


def _ask(timeline: Timeline, cut: int, query: Sequence[float]) -> tuple[Any, Any]:
    return timeline.before(cut).nearest(query, NEIGHBOURS)


def _bars(length: int, rng: np.random.Generator) -> BarColumns:
    mid = np.clip(5_000 + np.cumsum(rng.integers(-20, 21, length)), 100, 9_900) * 100
    depths = rng.integers(0, 10**7, (2, length)) * 10_000
    at = BEGINS + np.arange(length) * UNIT
    return BarColumns(at, mid - 500, mid + 500, depths[0], depths[1], rng.integers(0, 500, length))


def _names(count: int) -> list[str]:
    return [f"0x{n:064x}" for n in range(count)]


async def packed(folder: Path, length: int) -> float:
    """Bars of a thousand markets in chunks: added, weighed, read as of random instants. The median read in seconds."""
    rng = np.random.default_rng(5)
    path = folder / "packed.db"
    async with open_database(f"sqlite:///{path}") as database:
        await database.call(lambda: prepare(database))
        prices, names, seconds = PriceBars(database), _names(MARKETS), 0.0
        for low in range(0, MARKETS, 50):
            batch = {name: _bars(length, rng) for name in names[low : low + 50]}
            begun = monotonic()
            await prices.add_bar_columns(SOURCE, STEP, batch)
            seconds += monotonic() - begun
        reads = await database.read(lambda c: _read_packed(c, names, length))
        objects = await _as_objects(database, names[0], length, _bars(10_000, rng))
    total = MARKETS * length
    size = {"bars": total, "bytes_per_bar": round(path.stat().st_size / total, 2)}
    rate = round(total / seconds)
    _print(bench="bars_packed", **size, last=LAST, read_us=_quantiles(reads), ingest_columns_per_s=rate, **objects)
    return float(np.median(reads))


async def _as_objects(database: Database, name: str, length: int, bars: BarColumns) -> dict[str, object]:
    """The same by the calls that take and give `Bar` values, over the worker thread."""
    prices, values, took = PriceBars(database), bars.bars("0xobjects"), []
    begun = monotonic()
    await prices.add_bars(SOURCE, STEP, values)
    rate = len(values) / (monotonic() - begun)
    for n in range(200):
        as_of = from_us(BEGINS + (LAST + n) % length * UNIT)
        begun = monotonic()
        await prices.bars(SOURCE, name, STEP, as_of=as_of, limit=LAST)
        took.append(monotonic() - begun)
    return {"ingest_objects_per_s": round(rate), "read_objects_us": _quantiles(took)}


def _read_packed(connection: Connection, names: Sequence[str], length: int) -> list[float]:
    rng = np.random.default_rng(6)
    reader = BarReader(connection)
    series = [reader.series(SOURCE, name, STEP) or 0 for name in names]
    instants = (BEGINS + rng.integers(LAST, length, READS) * UNIT).tolist()
    took: list[float] = []
    for number, at in zip(rng.integers(0, len(names), READS).tolist(), instants, strict=True):
        found = _timed(took, reader.last, series[number], STEP, at, LAST)
        if len(found) != LAST or found.at[-1] != at:
            raise RuntimeError("a read came back short")
    return took


def row_table(folder: Path, length: int) -> tuple[float, float]:
    """The same bars, a row each: median reads in seconds, by the driver and by SQLAlchemy."""
    rng = np.random.default_rng(5)
    path = folder / "rows.db"
    names = _names(MARKETS)
    seconds = 0.0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(ROW_TABLE)
        for name in names:
            columns = [c.tolist() for c in _bars(length, rng).columns]
            rows = [(SOURCE, name, STEP, *row) for row in zip(*columns, strict=True)]
            begun = monotonic()
            with connection:
                connection.executemany("INSERT INTO bars VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            seconds += monotonic() - begun
        instants = (BEGINS + rng.integers(LAST, length, READS // 3) * UNIT).tolist()
        asked = [
            {"source": SOURCE, "market": names[n], "step": STEP, "at": at, "last": LAST}
            for n, at in zip(rng.integers(0, MARKETS, len(instants)).tolist(), instants, strict=True)
        ]
        driver: list[float] = []
        for one in asked:
            _timed(driver, _by_driver, connection, one)
    engine = create_engine(f"sqlite:///{path}")
    core: list[float] = []
    with engine.connect() as opened:
        for one in asked:
            _timed(core, _by_core, opened, one)
    engine.dispose()
    total = MARKETS * length
    size = {"bars": total, "bytes_per_bar": round(path.stat().st_size / total, 2)}
    reads = {"read_us": _quantiles(driver), "read_sqlalchemy_us": _quantiles(core)}
    _print(bench="bars_row_table", **size, last=LAST, **reads, ingest_per_s=round(total / seconds))
    return float(np.median(driver)), float(np.median(core))


def _by_driver(connection: sqlite3.Connection, asked: dict[str, Any]) -> Sequence[Any]:
    return connection.execute(ROW_READ, asked).fetchall()


def _by_core(connection: Connection, asked: dict[str, Any]) -> Sequence[Any]:
    return connection.execute(text(ROW_READ), asked).all()


async def windows(folder: Path, count: int = 100_000) -> None:
    """Finished windows through the store: kept, loaded into memory, and extended by one more."""
    rng = np.random.default_rng(3)
    states = rng.standard_t(4, (count, FEATURES)).astype(np.float32).tolist()
    rows = [
        Observation(f"0x{n:064x}", from_us(BEGINS + n * UNIT), 300, 300, 500_000, {"drift": "up", "spread": "tight"},
                    0, from_us(BEGINS + (n + 1) * UNIT), False, tuple(state))
        for n, state in enumerate(states)
    ]  # fmt: skip
    as_of = rows[-1].known_at + timedelta(days=1)
    took: list[float] = []
    async with open_store(f"sqlite:///{folder / 'windows.db'}") as store:
        for part in (rows[:-20], *([row] for row in rows[-20:])):
            begun = monotonic()
            await store.add_observations(SOURCE, part)
            kept = monotonic()
            past = await store.past(SOURCE, as_of=as_of, window=300)
            took += [kept - begun, monotonic() - kept]
    if len(past) != count:
        raise RuntimeError("a row is missing")
    _print(bench="windows", rows=count, kept_per_s=round((count - 20) / took[0]),
           loaded_per_s=round((count - 20) / took[1]), one_more_kept_us=_quantiles(took[2::2]),
           past_after_one_more_us=_quantiles(took[3::2]))  # fmt: skip


def main() -> None:
    """A million bars, or ten with --full; a million windows."""
    length = 10_000 if "--full" in sys.argv else 1_000
    with tempfile.TemporaryDirectory() as folder:
        ours = asyncio.run(packed(Path(folder), length))
        driver, core = row_table(Path(folder), max(length // 10, LAST + 12))
        _print(bench="bars_ratio", driver_over_ours=round(driver / ours, 1), sqlalchemy_over_ours=round(core / ours, 1))
        asyncio.run(windows(Path(folder)))
    for shape in ("independent", "returns"):
        analogs(shape)


if __name__ == "__main__":
    main()
