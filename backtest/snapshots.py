"""Reader of `books.parquet` with `markets.parquet`: whole books of both tokens, one list of levels a side.

The layout of the bundled sample. Only the UP token's rows are used: the DOWN token's are the same orders mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtest.columns import Recording
from backtest.data_repair_checks import RawSide, RowFaults, check_market, check_side, check_times, ladder, steady
from backtest.tables import read_parquet
from market.clock import from_ms
from market.columns import Int64
from market.errors import DataInvalid
from market.types import Market, PayoutSource, Resolution

BOOKS, MARKETS = "books.parquet", "markets.parquet"
KNOWN_AFTER = timedelta(seconds=120)
"""Assumed delay from the close to a public outcome, which recordings do not contain."""

_BOOK_COLUMNS = ("market_id", "ts", "side", "bid_px", "bid_sz", "ask_px", "ask_sz")
_MARKET_COLUMNS = ("market_id", "slug", "question", "category", "start_ts", "end_ts")
_OUTCOME_COLUMNS = ("outcome_up", "outcome_down", "payout_up")


def read_snapshots(folder: Path) -> tuple[list[Recording], list[str]]:
    """Recordings of a folder, and notes on their limits."""
    markets = _markets(folder / MARKETS)
    recordings, dropped = _recordings(folder / BOOKS, markets)
    notes = [
        "The recording has order books only: no reference price and no trades.",
        f"It covers {len(recordings)} windows with about one snapshot a second.",
        f"Outcomes are taken to be public {KNOWN_AFTER.seconds} s after the close.",
    ]
    return recordings, notes + ([dropped] if dropped else [])


def _markets(file: Path) -> dict[str, tuple[Market, Resolution]]:
    rows = read_parquet(file, _MARKET_COLUMNS + _OUTCOME_COLUMNS).to_pylist()
    found: dict[str, tuple[Market, Resolution]] = {}
    for number, row in enumerate(rows, 1):
        try:
            market = _market(row)
            found[market.id] = market, _resolution(market, row["payout_up"])
        except (TypeError, ValueError, ArithmeticError) as damage:
            raise DataInvalid(f"{file.name} row {number} is no market.", next_step="Fetch the file again.") from damage
    return found


def _market(row: Mapping[str, Any]) -> Market:
    market = Market(
        id=row["market_id"],
        slug=row["slug"],
        question=row["question"],
        yes_token=f"{row['market_id']}-yes",
        no_token=f"{row['market_id']}-no",
        opens_at=from_ms(row["start_ts"]),
        closes_at=from_ms(row["end_ts"]),
        category=row["category"],
        outcomes=(row["outcome_up"], row["outcome_down"]),
    )
    check_market(market)
    return market


def _resolution(market: Market, payout: float | None) -> Resolution:
    known_at = market.closes_at + KNOWN_AFTER
    if payout is None or payout != payout:
        return Resolution(market.id, None, PayoutSource.UNRESOLVED, known_at)
    if not 0 <= payout <= 1:
        raise ValueError("a payout is between nothing and one dollar")
    return Resolution(market.id, Decimal(str(payout)), PayoutSource.OFFICIAL, known_at)


def _recordings(file: Path, markets: Mapping[str, tuple[Market, Resolution]]) -> tuple[list[Recording], str]:
    table = read_parquet(file, _BOOK_COLUMNS).combine_chunks()
    numbers = np.flatnonzero(pc.fill_null(pc.equal(table["side"], "UP"), False).to_numpy()) + 1
    table = table.take(pa.array(numbers - 1))
    findings = RowFaults.of(file.name, numbers)
    times, raw_bids, raw_asks = _arrays(table, findings)
    order = {market_id: index for index, market_id in enumerate(markets)}
    codes = np.array([order.get(m, -1) for m in table["market_id"].to_pylist()], np.int64)
    findings.add(codes < 0, "an unknown market")
    dropped = findings.judge()
    bids, asks = ladder(raw_bids, findings.bad), ladder(raw_asks, findings.bad)
    recordings = []
    for (market, resolution), index in zip(markets.values(), order.values(), strict=True):
        rows = np.flatnonzero((codes == index) & ~findings.bad)
        if len(rows):
            received = steady(times[rows], file.name, numbers[rows])
            recordings.append(
                Recording(
                    market=market,
                    received=received,
                    at=received,
                    bids=bids.rows(rows),
                    asks=asks.rows(rows),
                    resolution=resolution,
                )
            )
    if not recordings:
        raise DataInvalid(f"{file.name} has no books of the UP token.", next_step="Fetch the file again.")
    return recordings, dropped


def _arrays(table: pa.Table, findings: RowFaults) -> tuple[Int64, RawSide, RawSide]:
    try:
        times = table["ts"].cast(pa.int64()).fill_null(0).to_numpy()
        sides = [_side(table[f"{name}_px"], table[f"{name}_sz"], name, findings) for name in ("bid", "ask")]
    except (pa.ArrowException, ValueError, TypeError) as damage:
        message = f"{findings.file} has columns of the wrong kind."
        raise DataInvalid(message, next_step="Fetch the file again.") from damage
    check_times(times, findings)
    for side, name in zip(sides, ("bid", "ask"), strict=True):
        check_side(side, name, findings)
    return times, sides[0], sides[1]


def _side(prices: pa.ChunkedArray, sizes: pa.ChunkedArray, name: str, findings: RowFaults) -> RawSide:
    """Convert lists of levels to padded arrays."""
    counts, other = (_lengths(c) for c in (prices, sizes))
    findings.add(counts != other, f"{name} prices and sizes that do not pair up")
    width = max(int(counts.max(initial=0)), int(other.max(initial=0)))
    return RawSide(_padded(prices, counts, width), _padded(sizes, other, width))


def _lengths(column: pa.ChunkedArray) -> Int64:
    lengths: Int64 = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64()).to_numpy()
    return lengths


def _padded(column: pa.ChunkedArray, counts: Int64, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    padded = np.full((len(counts), width), np.nan)
    flat = pc.list_flatten(column).cast(pa.float64()).to_numpy()
    padded[np.arange(width) < counts[:, None]] = flat
    return padded
