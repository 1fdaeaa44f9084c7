"""Recordings from foreign tables: a map gives the meaning and unit of each column.

Knows Parquet and CSV; not the destination of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from backtest.columns import Recording
from backtest.data_repair_checks import (
    Floats,
    RawSide,
    RowFaults,
    check_market,
    check_side,
    check_times,
    ladder,
    steady,
)
from backtest.import_times import TimeUnit, instant, milliseconds, must_be_a_zone, outside
from backtest.snapshots import KNOWN_AFTER
from backtest.tables import read_csv, read_parquet
from market.columns import Int64, Ladder
from market.errors import DataInvalid
from market.types import UNIT, Market, Outcome, PayoutSource, Resolution

_PAYOUTS = {"1": 1, "1.0": 1, "true": 1, "yes": 1, "up": 1, "0": 0, "0.0": 0, "false": 0, "no": 0, "down": 0}


@dataclass(frozen=True, slots=True)
class BookColumns:
    """Column names: prices and sizes best level first; `received` if the collector recorded it, else `at`."""

    market: str
    at: str
    bid: tuple[str, ...]
    bid_size: tuple[str, ...]
    ask: tuple[str, ...]
    ask_size: tuple[str, ...]
    received: str = ""


@dataclass(frozen=True, slots=True)
class MarketColumns:
    """Column names; `market` holds the books' name of the market. Without `outcome` nothing is resolved."""

    market: str
    opens: str
    closes: str
    outcome: str = ""
    question: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Units:
    """Units of numbers; `zone` is the time zone of timestamps that name none, and without it those are refused."""

    time: TimeUnit = "ms"
    market_time: TimeUnit = "s"
    price: Literal["dollars", "cents"] = "dollars"
    zone: str = ""


@dataclass(frozen=True, slots=True)
class ImportMap:
    """Meaning of a folder of foreign tables. `side` is the outcome of the recorded book; `outcomes` the source of the
    markets' outcomes."""

    books: BookColumns
    markets: MarketColumns
    units: Units = field(default_factory=Units)
    side: Literal["yes", "no"] = "yes"
    outcomes: Literal["official", "inferred"] = "inferred"
    category: str = "crypto"
    tick: Decimal = Decimal("0.01")
    min_size: int = 5


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one market in one file."""

    file: str
    received: Int64
    at: Int64
    bids: Ladder
    asks: Ladder


def read_import(books: Sequence[Path], markets: Path, mapping: ImportMap) -> tuple[list[Recording], list[str]]:
    """Recordings, and notes on dropped rows. Raises DataInvalid in one sentence."""
    known = _markets(markets, mapping)
    parts: dict[str, list[_Part]] = {}
    notes = [_read(file, mapping, known, parts) for file in books]
    found = [_joined(*known[name], of, mapping) for name, of in sorted(parts.items())]
    strays = sum(outside(r.received, r.market.opens_at, r.market.closes_at) for r in found)
    if strays:
        notes.append(f"{strays} books were received outside the window of their market.")
    silent, unresolved = len(known) - len(parts), sum(r.resolution is None for r in found)
    if silent:
        notes.append(f"{silent} markets of {markets.name} have no book.")
    if unresolved:
        notes.append(f"{unresolved} markets have no outcome: no profit will be counted there.")
    return found, [note for note in notes if note]


def _markets(file: Path, mapping: ImportMap) -> dict[str, tuple[Market, Resolution | None]]:
    names = mapping.markets
    must_be_a_zone(mapping.units.zone or "UTC")
    columns = [c for c in (names.market, names.opens, names.closes, names.outcome, names.question, names.id) if c]
    found: dict[str, tuple[Market, Resolution | None]] = {}
    for number, row in enumerate(_rows(file, list(dict.fromkeys(columns))), 1):
        try:
            market, resolution = _market(row, mapping)
        except (KeyError, ValueError, OverflowError, OSError) as damage:
            raise DataInvalid(
                f"{file.name} row {number} is no market: {damage}.", next_step="Correct the file or the map."
            ) from None
        if row[names.market] in found:
            raise DataInvalid(f"{file.name} row {number} names {row[names.market]} again.", next_step="Take one out.")
        found[row[names.market]] = market, resolution
    return found


def _rows(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if file.suffix != ".parquet":
        return read_csv(file, columns)
    table = read_parquet(file, columns)
    return [{c: "" if row[c] is None else str(row[c]) for c in columns} for row in table.to_pylist()]


def _market(row: Mapping[str, str], mapping: ImportMap) -> tuple[Market, Resolution | None]:
    names = mapping.markets
    slug = row[names.market]
    own = row[names.id] if names.id else slug
    market = Market(
        id=own,
        slug=slug,
        question=row[names.question] if names.question else slug,
        yes_token=f"{own}-yes",
        no_token=f"{own}-no",
        opens_at=instant(row[names.opens], mapping.units.market_time, mapping.units.zone),
        closes_at=instant(row[names.closes], mapping.units.market_time, mapping.units.zone),
        category=mapping.category,
        tick=mapping.tick,
        min_size=mapping.min_size * UNIT,
    )
    check_market(market)
    said = row[names.outcome].strip().lower() if names.outcome else ""
    if not said:
        return market, None
    if said not in _PAYOUTS:
        raise ValueError(f"its outcome {said!r} is neither 1 nor 0, yes nor no")
    source = PayoutSource.OFFICIAL if mapping.outcomes == "official" else PayoutSource.INFERRED
    return market, Resolution(market.id, Decimal(_PAYOUTS[said]), source, market.closes_at + KNOWN_AFTER)


def _read(
    file: Path, mapping: ImportMap, known: Mapping[str, tuple[Market, Resolution | None]], parts: dict[str, list[_Part]]
) -> str:
    """Add a file's books to `parts`; return the note on dropped rows."""
    names = mapping.books
    columns = [names.market, names.at, names.received, *names.bid, *names.bid_size, *names.ask, *names.ask_size]
    table = _table(file, list(dict.fromkeys(c for c in columns if c)), texts=(names.market,))
    findings = RowFaults.of(file.name, np.arange(1, table.num_rows + 1))
    at = _times(table, names.at, mapping, file)
    received = np.maximum(at, _times(table, names.received, mapping, file)) if names.received else at
    check_times(at, findings)
    check_times(received, findings)
    sides = {}
    for side, prices, sizes in (("bid", names.bid, names.bid_size), ("ask", names.ask, names.ask_size)):
        sides[side] = RawSide(_prices(table, prices, mapping, file), _cells(table, sizes, file))
        check_side(sides[side], side, findings)
    slugs = pc.dictionary_encode(table[names.market].cast(pa.string()).fill_null("")).combine_chunks()
    listed, codes = slugs.dictionary.to_pylist(), slugs.indices.to_numpy()
    findings.add(~np.isin(codes, [n for n, name in enumerate(listed) if name in known]), "an unknown market")
    dropped = findings.judge()
    bids, asks = ladder(sides["bid"], findings.bad), ladder(sides["ask"], findings.bad)
    for code, name in enumerate(listed):
        rows = np.flatnonzero((codes == code) & ~findings.bad)
        if len(rows):
            seen = steady(received[rows], file.name, findings.numbers[rows])
            parts.setdefault(name, []).append(_Part(file.name, seen, at[rows], bids.rows(rows), asks.rows(rows)))
    return dropped


def _times(table: pa.Table, column: str, mapping: ImportMap, file: Path) -> Int64:
    return milliseconds(table[column], mapping.units.time, mapping.units.zone, f"{file.name}, column {column},")


def _table(file: Path, columns: Sequence[str], texts: Sequence[str]) -> pa.Table:
    """These columns of a table. `texts` are names: a token id is no number, and its leading zeros belong to it."""
    if file.suffix == ".parquet":
        table = read_parquet(file, columns).combine_chunks()
        for name in texts:
            if pa.types.is_floating(table[name].type):
                raise DataInvalid(
                    f"{file.name} has names of markets as floating numbers in {name}.",
                    next_step="Write the file again with that column as text.",
                )
        return table
    try:
        table = pcsv.read_csv(file, convert_options=pcsv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string())))
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise DataInvalid(f"{file.name} cannot be read as CSV text.", next_step="Correct it or leave it out.") from None
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        raise DataInvalid(f"{file.name} lacks the column {missing[0]}.", next_step="Correct the map.")
    return table.select(list(columns)).combine_chunks()


def _cells(table: pa.Table, columns: Sequence[str], file: Path) -> Floats:
    try:
        return np.stack([table[c].cast(pa.float64()).to_numpy() for c in columns], axis=1)
    except (pa.ArrowException, ValueError):
        raise DataInvalid(
            f"{file.name} has something other than numbers in {', '.join(columns)}.", next_step="Correct the map."
        ) from None


def _prices(table: pa.Table, columns: Sequence[str], mapping: ImportMap, file: Path) -> Floats:
    cells = _cells(table, columns, file)
    highest = float(np.nanmax(cells)) if np.isfinite(cells).any() else 0.0
    if mapping.units.price == "cents":
        return cells / 100
    # Caught here: taken for dollars, nearly every row would count as damage, and the reason would be lost.
    if 1 < highest <= 100:
        raise DataInvalid(
            f"{file.name} has prices up to {highest:g}, which looks like cents.",
            next_step="Write `units: {price: cents}` into the map.",
        )
    return cells


def _joined(market: Market, resolution: Resolution | None, parts: Sequence[_Part], mapping: ImportMap) -> Recording:
    """One market over all files, as YES books. Raises DataInvalid for files that overlap in it."""
    ordered = sorted(parts, key=lambda p: int(p.received[0]))
    for before, after in pairwise(ordered):
        if int(after.received[0]) < int(before.received[-1]):
            raise DataInvalid(
                f"{after.file} and {before.file} overlap in market {market.slug}.",
                next_step="Name only one of them, or cut them apart.",
            )
    received = np.concatenate([p.received for p in ordered])
    at = np.concatenate([p.at for p in ordered])
    bids, asks = (Ladder.stacked([getattr(p, side) for p in ordered]) for side in ("bids", "asks"))
    if Outcome(mapping.side) is Outcome.NO:
        bids, asks = asks.mirrored(), bids.mirrored()
    return Recording(market=market, received=received, at=at, bids=bids, asks=asks, resolution=resolution)
