"""Tick archive: raw and parsed live market data in Parquet partitions by day.

    day=2026-11-27/frame-000001.parquet   channel, received_us, payload       every frame as it came
    day=2026-11-27/book-000001.parquet    market_id, at_ms, received_us, bid_price, bid_size, ask_price, ask_size
    day=2026-11-27/price-000001.parquet   asset, at_ms, received_us, price    reference prices, exact as text
    day=2026-11-27/gap-000001.parquet     channel, received_us, why           from here on something may be missing
    markets.jsonl                         one line for each market and each outcome, the newest last

Prices are micro-dollars and sizes micro-shares in lists, best first; `*_us` are microseconds since 1970 by the local
clock, `at_ms` milliseconds by the venue's. A file is whole or not there. Knows no venue.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from market.clock import EPOCH, to_ms
from market.errors import DataInvalid, StoreUnavailable
from market.feed import ReferenceTick
from market.types import Book, Level, Market, Resolution, micro
from storage.canonical import canonical
from storage.schema import to_us

MARKETS_FILE = "markets.jsonl"
_PRICES, _SIZES = pa.list_(pa.int32()), pa.list_(pa.int64())
SCHEMAS: Mapping[str, pa.Schema] = {
    "frame": pa.schema([("channel", pa.string()), ("received_us", pa.int64()), ("payload", pa.binary())]),
    "book": pa.schema(
        [
            ("market_id", pa.string()),
            ("at_ms", pa.int64()),
            ("received_us", pa.int64()),
            ("bid_price", _PRICES),
            ("bid_size", _SIZES),
            ("ask_price", _PRICES),
            ("ask_size", _SIZES),
        ]
    ),
    "price": pa.schema(
        [("asset", pa.string()), ("at_ms", pa.int64()), ("received_us", pa.int64()), ("price", pa.string())]
    ),
    "gap": pa.schema([("channel", pa.string()), ("received_us", pa.int64()), ("why", pa.string())]),
}
_DAY = 86_400_000_000


@dataclass(slots=True)
class TickArchive:
    """Writer of an archive. Rows are buffered until `flush`, which may run in another thread while more are added.
    Raises StoreUnavailable if the disk fails; unwritten rows then stay buffered."""

    folder: Path
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=lambda: {kind: [] for kind in SCHEMAS})
    lines: list[str] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SCHEMAS, 0))

    def frame(self, channel: str, raw: bytes, at: datetime) -> None:
        self.rows["frame"].append((channel, to_us(at), raw))

    def book(self, book: Book) -> None:
        sides = (book.bids, book.asks)
        columns = [part for side in sides for part in (_prices(side), [level.size for level in side])]
        self.rows["book"].append((book.market_id, to_ms(book.at), to_us(book.received_at), *columns))

    def price(self, asset: str, tick: ReferenceTick) -> None:
        self.rows["price"].append((asset, to_ms(tick.at), to_us(tick.received_at), str(tick.price)))

    def gap(self, channel: str, why: str, at: datetime) -> None:
        self.rows["gap"].append((channel, to_us(at), why))

    def market(self, market: Market) -> None:
        self.lines.append(_line("market", market))

    def outcome(self, resolution: Resolution) -> None:
        self.lines.append(_line("outcome", resolution))

    @property
    def waiting(self) -> int:
        return sum(map(len, self.rows.values())) + len(self.lines)

    def flush(self) -> None:
        """Write the rows buffered so far."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_lines()
            for kind, schema in SCHEMAS.items():
                # A copy, and below only its length is cut off: rows that are added during the write stay for the next
                # one.
                taken = self.rows[kind][:]
                for day, rows in _by_day(kind, taken):
                    self._write(kind, schema, day, rows)
                self.rows[kind] = self.rows[kind][len(taken) :]
                self.written[kind] += len(taken)
        except OSError as error:
            raise StoreUnavailable(
                f"The recording cannot be written to {self.folder} ({error.strerror}).", next_step="Make room there."
            ) from None

    def _write_lines(self) -> None:
        taken = len(self.lines)
        if not taken:
            return
        with (self.folder / MARKETS_FILE).open("a", encoding="utf-8") as out:
            out.write("".join(self.lines[:taken]))
            out.flush()
            os.fsync(out.fileno())
        self.lines = self.lines[taken:]

    def _write(self, kind: str, schema: pa.Schema, day: str, rows: list[tuple[Any, ...]]) -> None:
        place = self.folder / f"day={day}"
        place.mkdir(exist_ok=True)
        number = max((int(f.stem.rpartition("-")[2]) for f in place.glob(f"{kind}-*.parquet")), default=0) + 1
        columns = [pa.array(column, schema.field(n).type) for n, column in enumerate(zip(*rows, strict=True))]
        draft = place / f".{kind}-{number:06}.draft"
        pq.write_table(pa.table(columns, schema=schema), draft, compression="zstd")
        # Renamed only when complete, so a reader never sees half a file.
        draft.replace(place / f"{kind}-{number:06}.parquet")


def _by_day(kind: str, rows: list[tuple[Any, ...]]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    at = SCHEMAS[kind].get_field_index("received_us")
    days: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        days.setdefault(row[at] // _DAY, []).append(row)
    for day, found in sorted(days.items()):
        yield f"{datetime.fromtimestamp(day * _DAY / 1e6, EPOCH.tzinfo):%Y-%m-%d}", found


def _prices(levels: tuple[Level, ...]) -> list[int]:
    return [micro(level.price) for level in levels]


def _line(kind: str, value: Market | Resolution) -> str:
    return json.dumps({"kind": kind, **json.loads(canonical(value))}, separators=(",", ":")) + "\n"


def parts(folder: Path, kind: str) -> list[Path]:
    """Files of an archive of one kind, oldest first."""
    return sorted(folder.glob(f"day=*/{kind}-*.parquet"))


def read_lines(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Lines of `markets.jsonl`; a torn last line is left out. Raises DataInvalid."""
    file = folder / MARKETS_FILE
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        raise DataInvalid(f"{file} cannot be read.", next_step="Name a folder made by edgeclaw data record.") from None
    for number, line in enumerate(lines, 1):
        try:
            yield dict(json.loads(line))
        except (ValueError, TypeError):
            if number == len(lines) and not line.endswith("\n"):
                return
            raise DataInvalid(f"line {number} of {file} is damaged.", next_step="Take the line out.") from None
