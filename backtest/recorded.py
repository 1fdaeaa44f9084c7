"""Reader of the archives of `edgeclaw data record`, as recordings to replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from backtest.columns import Recording
from backtest.reference import ReferenceSeries
from backtest.tables import read_parquet
from market.clock import from_ms
from market.columns import FINEST_TICK, HUNDREDTH, Ladder
from market.errors import DataInvalid
from market.feed import ReferenceTick
from market.types import Market, Resolution
from storage.schema import from_us
from storage.ticks import MARKETS_FILE, SCHEMAS, parts, read_lines

BOOKS, MARKETS = "day=*/book-*.parquet", MARKETS_FILE
_MARKET, _RESOLUTION = TypeAdapter(Market), TypeAdapter(Resolution)


@dataclass(frozen=True, slots=True)
class Gap:
    """From `at_us` on (microseconds since 1970) data of a channel may be missing."""

    channel: str
    at_us: int
    why: str


def read_recorded(folder: Path) -> tuple[list[Recording], list[str]]:
    """Recordings of an archive, and notes on their limits."""
    markets, outcomes = _markets(folder)
    table = _table(folder, "book")
    if not len(table):
        raise DataInvalid(f"{folder} holds no books yet.", next_step="Let edgeclaw data record run for longer.")
    prices = _reference(folder)
    found = []
    by_market = _by_market(table)
    for market in sorted(markets.values(), key=lambda m: (m.opens_at, m.id)):
        rows = by_market.get(market.id)
        if rows is not None:
            one = _recording(market, table.take(pa.array(rows)), outcomes.get(market.id))
            found.append(replace(one, reference=prices.get(_asset(market))))
    told = gaps(folder)
    notes = [f"Recorded live: {len(found)} markets, every change of their books as it was received."]
    if told:
        notes.append(f"The recording has {len(told)} gaps; `edgeclaw data quality` names them.")
    if not prices:
        notes.append("There is no reference price.")
    return found, notes


def gaps(folder: Path) -> list[Gap]:
    """Recorded gaps, in order."""
    rows = _table(folder, "gap").to_pylist()
    return [Gap(r["channel"], r["received_us"], r["why"]) for r in sorted(rows, key=lambda r: r["received_us"])]


def _table(folder: Path, kind: str) -> pa.Table:
    tables = [read_parquet(file, SCHEMAS[kind].names).cast(SCHEMAS[kind]) for file in parts(folder, kind)]
    return pa.concat_tables(tables).combine_chunks() if tables else SCHEMAS[kind].empty_table()


def _markets(folder: Path) -> tuple[dict[str, Market], dict[str, Resolution]]:
    markets: dict[str, Market] = {}
    outcomes: dict[str, Resolution] = {}
    for number, line in enumerate(read_lines(folder), 1):
        body = {name: value for name, value in line.items() if name != "kind"}
        try:
            if line.get("kind") == "market":
                market = _MARKET.validate_python(body)
                markets[market.id] = market
            else:
                outcome = _RESOLUTION.validate_python(body)
                outcomes[outcome.market_id] = outcome
        except ValidationError:
            raise DataInvalid(
                f"line {number} of {folder / MARKETS_FILE} is no market and no outcome.", next_step="Take it out."
            ) from None
    return markets, outcomes


def _recording(market: Market, table: pa.Table, outcome: Resolution | None) -> Recording:
    received = table["received_us"].to_numpy() // 1000
    # Stable: books of one millisecond stay in the order in which they were written.
    order = np.argsort(received, kind="stable")
    bids, asks = (_ladder(table, side) for side in ("bid", "ask"))
    at = table["at_ms"].to_numpy()
    return Recording(
        market=market,
        received=received[order],
        at=at[order],
        bids=bids.rows(order),
        asks=asks.rows(order),
        resolution=outcome,
    )


def _by_market(table: pa.Table) -> dict[str, npt.NDArray[np.intp]]:
    """Row numbers of each market, ascending."""
    ids = table["market_id"].combine_chunks().dictionary_encode()
    codes = ids.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(ids.dictionary)), "right")
    return dict(zip(ids.dictionary.to_pylist(), np.split(order, ends[:-1]), strict=True))


def _ladder(table: pa.Table, side: str) -> Ladder:
    prices, sizes = (table[f"{side}_{what}"].combine_chunks() for what in ("price", "size"))
    count = prices.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    if not prices.value_lengths().equals(sizes.value_lengths()):
        raise DataInvalid("a recorded book has prices without sizes.", next_step="See edgeclaw data quality.")
    present = np.arange(count.max(initial=0)) < count[:, None]
    price, size = np.zeros(present.shape, np.int32), np.zeros(present.shape, np.int64)
    price[present], size[present] = prices.flatten().to_numpy(), sizes.flatten().to_numpy()
    # The archive is exact; a replay trades in the venue's steps, and offers no more than there was.
    if np.any(price % FINEST_TICK):
        raise DataInvalid("a recorded price is between the venue's steps.", next_step="See edgeclaw data quality.")
    return Ladder(price, size // HUNDREDTH * HUNDREDTH, count)


def _reference(folder: Path) -> Mapping[str, ReferenceSeries]:
    ticks: dict[str, list[ReferenceTick]] = {}
    for row in _table(folder, "price").to_pylist():
        try:
            price = Decimal(row["price"])
        except InvalidOperation:
            raise DataInvalid("a recorded reference price is no number.", next_step="Take the file out.") from None
        ticks.setdefault(row["asset"], []).append(
            ReferenceTick(from_ms(row["at_ms"]), from_us(row["received_us"]), price)
        )
    return {
        asset: ReferenceSeries.of(sorted(found, key=lambda t: t.received_at)) for asset, found in ticks.items()
    }  # fmt: skip


def _asset(market: Market) -> str:
    return market.slug.partition("-")[0]
