"""Reader of `btc5m_book_l5_<day>.parquet` with `btc5m_book_markets.csv`: five-level books of one token of each window.

The markets file names the token. The other one's book is the same orders mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtest.columns import Recording
from backtest.data_repair_checks import RawSide, RowFaults, check_market, check_side, check_times, ladder, steady
from backtest.snapshots import KNOWN_AFTER
from backtest.tables import read_csv, read_parquet
from market.columns import Int64, Ladder
from market.errors import DataInvalid
from market.types import Market, Outcome, PayoutSource, Resolution

BOOKS, MARKETS = "btc5m_book_l5_*.parquet", "btc5m_book_markets.csv"
DEPTH = 5

_MARKET_COLUMNS = (
    "slug", "start_ts", "end_ts", "condition_id", "book_asset_id", "book_side", "outcome_up", "outcome_verified"
)  # fmt: skip
_LEVEL_COLUMNS = tuple(f"{s}{i}{part}" for s in ("bid", "ask") for i in range(1, DEPTH + 1) for part in ("", "_size"))
_OUTCOMES = {"Up": Outcome.YES, "Down": Outcome.NO}
_PAYOUTS = {"1": Decimal(1), "0": Decimal(0), "1.0": Decimal(1), "0.0": Decimal(0)}


@dataclass(frozen=True, slots=True)
class ListedMarket:
    """A market of the markets file, and the token whose book was recorded."""

    market: Market
    resolution: Resolution
    token: Outcome


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows of one market in one file."""

    received: Int64
    at: Int64
    bids: Ladder
    asks: Ladder


def read_btc5m(folder: Path) -> tuple[list[Recording], list[str]]:
    """Recordings of a folder, and notes on their limits."""
    listed = _listed(folder / MARKETS)
    parts: dict[str, list[_Part]] = {}
    dropped = [_read_day(file, listed, parts) for file in sorted(folder.glob(BOOKS))]
    recordings = [_joined(listed[slug], parts[slug]) for slug in sorted(parts)]
    unsettled = sum(r.resolution is not None and r.resolution.payout is None for r in recordings)
    notes = [
        "The recording has order books only, five levels deep: no reference price and no trades.",
        "A book counts as received at the later of the exchange's and the collector's time.",
        f"Outcomes are taken to be public {KNOWN_AFTER.seconds} s after the close; {unsettled} are unknown.",
    ]
    return recordings, notes + [note for note in dropped if note]


def _listed(file: Path) -> dict[str, ListedMarket]:
    found = {}
    for number, row in enumerate(read_csv(file, _MARKET_COLUMNS), 1):
        try:
            found[row["slug"]] = _listing(row)
        except (KeyError, ValueError, ArithmeticError, OSError) as damage:
            raise DataInvalid(
                f"{file.name} row {number} is no market with a book: {damage}.", next_step="Correct or fetch the file."
            ) from damage
    return found


def _listing(row: Mapping[str, str]) -> ListedMarket:
    token = _OUTCOMES[row["book_side"]]
    # The file names only the recorded token; the other id is a placeholder.
    own, other = row["book_asset_id"], f"{row['condition_id']}-other"
    market = Market(
        id=row["condition_id"],
        slug=row["slug"],
        question=f"Bitcoin Up or Down ({row['slug']})",
        yes_token=own if token is Outcome.YES else other,
        no_token=own if token is Outcome.NO else other,
        opens_at=datetime.fromtimestamp(int(row["start_ts"]), UTC),
        closes_at=datetime.fromtimestamp(int(row["end_ts"]), UTC),
    )
    check_market(market)
    payout = _PAYOUTS[row["outcome_up"]] if row["outcome_up"] else None
    verified = PayoutSource.OFFICIAL if row["outcome_verified"] == "True" else PayoutSource.INFERRED
    source = PayoutSource.UNRESOLVED if payout is None else verified
    return ListedMarket(market, Resolution(market.id, payout, source, market.closes_at + KNOWN_AFTER), token)


def _read_day(file: Path, listed: Mapping[str, ListedMarket], parts: dict[str, list[_Part]]) -> str:
    """Add a file's books to `parts` by slug; return the note on dropped rows."""
    table = read_parquet(file, ("slug", "event_ms", "recv_ms", *_LEVEL_COLUMNS)).combine_chunks()
    findings = RowFaults.of(file.name, np.arange(1, table.num_rows + 1))
    try:
        at, recv = (table[c].cast(pa.int64()).fill_null(0).to_numpy() for c in ("event_ms", "recv_ms"))
        sides = {name: _side(table, name) for name in ("bid", "ask")}
    except (pa.ArrowException, ValueError, TypeError) as damage:
        raise DataInvalid(f"{file.name} has columns of the wrong kind.", next_step="Fetch the file again.") from damage
    check_times(at, findings)
    check_times(recv, findings)
    for name, side in sides.items():
        check_side(side, name, findings)
    slugs = pc.dictionary_encode(table["slug"].fill_null("")).combine_chunks()
    names, codes = slugs.dictionary.to_pylist(), slugs.indices.to_numpy()
    findings.add(~np.isin(codes, [i for i, name in enumerate(names) if name in listed]), "an unknown market")
    dropped = findings.judge()
    bids, asks = ladder(sides["bid"], findings.bad), ladder(sides["ask"], findings.bad)
    # The later of the two times: a collector's clock behind the exchange's must not show a book early.
    received = np.maximum(at, recv)
    for code, name in enumerate(names):
        rows = np.flatnonzero((codes == code) & ~findings.bad)
        if len(rows):
            seen = steady(received[rows], file.name, findings.numbers[rows])
            parts.setdefault(name, []).append(_Part(seen, at[rows], bids.rows(rows), asks.rows(rows)))
    return dropped


def _side(table: pa.Table, name: str) -> RawSide:
    def cells(part: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        columns = [table[f"{name}{i}{part}"].cast(pa.float64()).to_numpy() for i in range(1, DEPTH + 1)]
        return np.stack(columns, axis=1)

    return RawSide(cells(""), cells("_size"))


def _joined(listed: ListedMarket, parts: Sequence[_Part]) -> Recording:
    """One market's books over all files, as YES books."""
    ordered = sorted(parts, key=lambda p: int(p.received[0]))
    received = np.maximum.accumulate(np.concatenate([p.received for p in ordered]))
    at = np.concatenate([p.at for p in ordered])
    bids, asks = Ladder.stacked([p.bids for p in ordered]), Ladder.stacked([p.asks for p in ordered])
    if listed.token is Outcome.NO:
        bids, asks = asks.mirrored(), bids.mirrored()
    return Recording(market=listed.market, received=received, at=at, bids=bids, asks=asks, resolution=listed.resolution)
