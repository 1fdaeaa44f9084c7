"""Decisions as a file for other programs: JSON lines with the whole of each decision, CSV and Parquet with a row each.

A redacted export keeps the forecast and its evidence, and leaves out money: stakes, edges and profits.
"""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from market.errors import Misconfigured, StoreUnavailable
from market.types import UNIT, Resolution
from storage.canonical import Json, plain
from storage.decisions import thought_of
from storage.log_reader import LogReader
from storage.records import DecisionFilter, DecisionSummary, RecordKind

FORMATS = (".jsonl", ".csv", ".parquet")
_AT_ONCE = 500
_MONEY = ("profit_dollars",)
_MONEY_OF_THOUGHT = ("wish", "edge")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of a formula, in full width, too."""
Row = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Exported:
    """Number of decisions written, and the file."""

    file: str
    decisions: int
    redacted: bool


async def export(store: LogReader, wanted: DecisionFilter, file: Path, *, redacted: bool = False) -> Exported:
    """Write the decisions, oldest first; `file` says by its name in which format. Raises Misconfigured for another one,
    StoreUnavailable where it cannot be written."""
    if file.suffix not in FORMATS:
        raise Misconfigured(f"{file.name} ends in none of {', '.join(FORMATS)}.", next_step="Name the file so.")
    whole = file.suffix == ".jsonl"
    rows = [row async for row in _rows(store, wanted, whole=whole, redacted=redacted)]
    # Beside the file and renamed at the end: nobody reads half of it, and a failure leaves the former one.
    draft = file.with_name(f".{file.name}.part")
    try:
        _WRITERS[file.suffix](draft, rows)
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StoreUnavailable(f"{file} cannot be written ({error.strerror}).") from None
    return Exported(str(file), len(rows), redacted)


async def _rows(store: LogReader, wanted: DecisionFilter, *, whole: bool, redacted: bool) -> AsyncIterator[Row]:
    outcomes, left = dict[str, dict[str, Resolution]](), await store.count(wanted)
    while left > 0:
        left, some = max(0, left - _AT_ONCE), min(left, _AT_ONCE)
        for summary in reversed(await store.listed(wanted, limit=some, after=left)):
            if summary.run_id not in outcomes:
                known = await store.outcomes(summary.run_id)
                outcomes[summary.run_id] = {r.market_id: r for r in known if r.payout is not None}
            yield await _row(store, summary, outcomes[summary.run_id], whole=whole, redacted=redacted)


async def _row(
    store: LogReader, summary: DecisionSummary, outcomes: Mapping[str, Resolution], *, whole: bool, redacted: bool
) -> Row:
    outcome = outcomes.get(summary.market_id)
    record = await store.record(summary.run_id, RecordKind.DECISION, summary.id)
    row: dict[str, Json] = {
        **_flat(summary),
        "outcome": None if outcome is None or outcome.payout is None else float(outcome.payout),
        "hash": "" if record is None else record.hash,
    }
    if whole and record is not None:
        thought = thought_of(record)
        row["thought"] = {k: v for k, v in thought.items() if not (redacted and k in _MONEY_OF_THOUGHT)}
    return {k: v for k, v in row.items() if not (redacted and k in _MONEY)}


def _flat(summary: DecisionSummary) -> dict[str, Json]:
    fields: Any = plain(summary)
    profit = fields.pop("profit")
    return {**fields, "profit_dollars": None if profit is None else profit / UNIT}


def _jsonl(file: Path, rows: Sequence[Row]) -> None:
    with file.open("w", encoding="utf-8") as out:
        out.writelines(f"{json.dumps(row, sort_keys=True)}\n" for row in rows)


def _csv(file: Path, rows: Sequence[Row]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]) if rows else ["id"])
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Json) -> Json:
    """A value as a cell. A spreadsheet takes text that begins like a formula for one, and runs it; with an apostrophe
    before it, it is text. Numbers are no text and stay as they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _parquet(file: Path, rows: Sequence[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), file, compression="zstd")


_WRITERS: Mapping[str, Callable[[Path, Sequence[Row]], None]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
