"""Reader of `btc5m_ladder_*.csv.gz`: both tokens' best prices and the spot price at seven offsets of each window.

Properties that the file does not state were established from its numbers, and are repeated in the feed's notes:

* *The clock.* Its times to close come from a clock that ran 20 s slow. The spot of the snapshots labelled 20 s is the
  next window's opening price (within a dollar in 115 of the 119 pairs at hand; 38 for the label 10 s, 60 for 30 s),
  and it is there that the sign of the move agrees best with the outcome. So receipt is taken to be 20 s later than
  recorded, which shows nothing early, and the snapshots labelled 20 and 10 s come after the close.
* *The sizes.* The recorded depth is that of a whole side. The size at the best price is bounded from below by the
  average prices of 5, 20 and 50 shares; the rest of the side is shown at the end of the scale, where nobody trades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np

from backtest.columns import Recording
from backtest.data_repair_checks import (
    Flags,
    Floats,
    RawSide,
    RowFaults,
    check_market,
    check_side,
    check_times,
    ladder,
    steady,
)
from backtest.reference import SCALE, ReferenceSeries
from backtest.snapshots import KNOWN_AFTER
from backtest.tables import read_csv
from market.clock import from_ms, to_ms
from market.columns import Int64
from market.errors import DataInvalid
from market.feed import ReferenceTick
from market.types import Market, PayoutSource, Resolution
from strategies.features import STEP

FILES = "btc5m_ladder_*.csv.gz"
SLOW_MS = 20_000
"""Delay of the collector's clock."""

_AT_CLOSE_MS = 2_000
_SECONDS = 300
_SHARES = (5, 20, 50)
_END_OF_SCALE = 0.999
_LARGEST = 1e12
_TRACE = 0.01
"""Shares shown if the averages prove none: there is an offer, of a size below any order's."""
_AVERAGES = tuple(f"{token}_vwap{n}" for token in ("up", "down") for n in _SHARES)
_QUOTES = ("up_bid", "up_ask", "up_bid_depth", "up_ask_depth", "down_bid", "down_ask")
_TERMS = ("start_ts", "slug", "outcome_up", "binance_open")
_COLUMNS = (*_TERMS, "sec_to_close_measured", "binance_spot", *_QUOTES, *_AVERAGES)
_PAYOUTS = {"1": Decimal(1), "0": Decimal(0), "": None}

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LadderFile:
    """Recordings of a file, notes on their limits, and the instants at which a replay can ask."""

    recordings: list[Recording]
    notes: list[str]
    instants: list[datetime]


@dataclass(frozen=True, slots=True)
class _Cells:
    """Parsed columns, (n,) each; `received` is in milliseconds since 1970."""

    starts: Int64
    received: Int64
    spots: Sequence[Decimal]
    quotes: Mapping[str, Floats]


def read_ladder(file: Path) -> LadderFile:
    """Read a file. Raises DataInvalid, in one sentence, if it cannot be used."""
    rows = read_csv(file, _COLUMNS)
    findings = RowFaults.of(file.name, np.arange(1, len(rows) + 1))
    cells = _cells(rows, findings)
    bids, asks = _bids(cells.quotes), _asks(cells.quotes)
    check_side(bids, "bid", findings)
    check_side(asks, "ask", findings)
    dropped = findings.judge()
    kept = np.flatnonzero(~findings.bad)
    if not len(kept):
        raise DataInvalid(f"{file.name} has no snapshots.", next_step="Fetch the file again.")
    cells.received[kept] = steady(cells.received[kept], file.name, findings.numbers[kept])
    series = _series(cells, kept)
    sides = ladder(bids, findings.bad), ladder(asks, findings.bad)
    recordings = []
    for start in np.unique(cells.starts[kept]).tolist():
        own = kept[cells.starts[kept] == start]
        market, resolution = _listing(rows[int(own[0])])
        times, (bid, ask) = cells.received[own], (side.rows(own) for side in sides)
        recordings.append(
            Recording(
                market=market, received=times, at=times, bids=bid, asks=ask, resolution=resolution, reference=series
            )
        )
    notes = _notes(recordings, series, _disagreements(cells.quotes, kept))
    return LadderFile(recordings, notes + ([dropped] if dropped else []), _instants(recordings))


def _cells(rows: Sequence[Row], findings: RowFaults) -> _Cells:
    starts = _integers([r["start_ts"] for r in rows])
    quotes = {name: _floats([r[name] for r in rows], name, findings) for name in (*_QUOTES, *_AVERAGES)}
    received = _received(rows, starts, findings)
    spots = _prices([r["binance_spot"] for r in rows], "spot", findings)
    opens = _prices([r["binance_open"] for r in rows], "opening", findings)
    findings.add(_apart(spots, opens), "a spot price far from its window's opening price")
    findings.add(_disputed(rows, starts), "terms that are no window's, or not those of its window above")
    findings.add(_repeated(starts, received), "a snapshot that is already above")
    return _Cells(starts, received, spots, quotes)


def _series(cells: _Cells, kept: Int64) -> ReferenceSeries:
    seen = [from_ms(at) for at in cells.received[kept].tolist()]
    return ReferenceSeries.of(
        [ReferenceTick(at, at, cells.spots[row]) for at, row in zip(seen, kept.tolist(), strict=True)]
    )


def _notes(recordings: Sequence[Recording], series: ReferenceSeries, disagreements: int) -> list[str]:
    late = sum(int(np.sum(r.received >= to_ms(r.market.closes_at))) for r in recordings)
    agreeing, pairs = _agreement(recordings, series)
    return [
        f"The collector's clock is taken to have been {SLOW_MS // 1000} s slow: so dated, the spot at a close is the "
        f"next window's opening price, within a dollar, in {agreeing} of {pairs} pairs. {late} snapshots come after "
        "the close.",
        "The reference price and the price to beat are Binance spot prices in USDT, a proxy of the settlement stream.",
        "Depth is recorded for whole sides: the best level shows the shares that recorded average prices prove, at "
        f"most {_SHARES[-1]}, and the rest of the side stands at the end of the scale.",
        f"The two tokens' books, read a moment apart, disagree in {disagreements} snapshots; the Up token's is used.",
        "An order meets the newest snapshot, which may be half a minute old; there are no trades.",
        f"Outcomes are taken to be public {KNOWN_AFTER.seconds} s after the close.",
    ]


def _agreement(recordings: Sequence[Recording], series: ReferenceSeries) -> tuple[int, int]:
    """(spots at a close that are the next window's opening price, such pairs): evidence for the clock correction."""
    opens = {to_ms(r.market.opens_at): r.market.price_to_beat for r in recordings}
    near = [
        abs(tick.price - opening) <= 1
        for closes, opening in opens.items()
        if opening is not None
        for tick in series.between(closes - _AT_CLOSE_MS, closes + _AT_CLOSE_MS)
    ]
    return sum(near), len(near)


def _listing(row: Row) -> tuple[Market, Resolution]:
    slug, opens_at = row["slug"], datetime.fromtimestamp(int(row["start_ts"]), UTC)
    market = Market(
        id=slug,
        slug=slug,
        question=f"Bitcoin Up or Down ({slug})",
        yes_token=f"{slug}-up",
        no_token=f"{slug}-down",
        opens_at=opens_at,
        closes_at=opens_at + timedelta(seconds=_SECONDS),
        price_to_beat=Decimal(row["binance_open"]),
    )
    check_market(market)
    payout = _PAYOUTS[row["outcome_up"]]
    source = PayoutSource.UNRESOLVED if payout is None else PayoutSource.OFFICIAL
    return market, Resolution(market.id, payout, source, market.closes_at + KNOWN_AFTER)


def _received(rows: Sequence[Row], starts: Int64, findings: RowFaults) -> Int64:
    """(n,) corrected times of receipt in milliseconds."""
    left = _floats([r["sec_to_close_measured"] for r in rows], "sec_to_close_measured", findings)
    inside = (left > 0) & (left <= _SECONDS)
    findings.add(~inside, "a time to close outside its window")
    ended = np.rint(np.where(inside, left, 0.0) * 1000).astype(np.int64)
    check_times(starts * 1000, findings)
    received: Int64 = (starts + _SECONDS) * 1000 - ended + SLOW_MS
    return received


def _asks(quotes: Mapping[str, Floats]) -> RawSide:
    proven = _proven(quotes["up_ask"], [quotes[f"up_vwap{n}"] for n in _SHARES])
    return _side(quotes["up_ask"], quotes["up_ask_depth"], proven, _END_OF_SCALE)


def _bids(quotes: Mapping[str, Floats]) -> RawSide:
    """Bids for Up are offers of Down: their size is proven where both books show the same price."""
    price, offer = quotes["up_bid"], quotes["down_ask"]
    proven = _proven(offer, [quotes[f"down_vwap{n}"] for n in _SHARES])
    return _side(price, quotes["up_bid_depth"], np.where(_same(price, 1 - offer), proven, 0.0), 1 - _END_OF_SCALE)


def _proven(ask: Floats, averages: Sequence[Floats]) -> Floats:
    """Smallest size at the best ask that explains the average prices of the purchases: every share bought elsewhere
    cost at least a tick more."""
    tick = np.where((ask < 0.04) | (ask >= 0.96), 0.001, 0.01)
    found = np.zeros(len(ask))
    for shares, average in zip(_SHARES, averages, strict=True):
        dearer = np.rint((average - ask) * 1e6) / 1e6 / tick
        found = np.fmax(found, shares * (1 - np.maximum(dearer, 0.0)))
    return np.asarray(np.floor(found * 100 + 1e-6) / 100)


def _side(price: Floats, depth: Floats, proven: Floats, end: float) -> RawSide:
    """(n, 2): the best price with its proven size, and the rest of the side at the end of the scale."""
    total = np.where(depth > 0, depth, np.nan)
    whole = np.isnan(price) | (price >= end if end > 0.5 else price <= end)
    best = np.where(whole, total, np.minimum(np.maximum(proven, _TRACE), total))
    rest = np.rint((total - best) * 100) / 100
    prices, sizes = [price, np.where(rest > 0, end, np.nan)], [best, np.where(rest > 0, rest, np.nan)]
    return RawSide(np.stack(prices, axis=1), np.stack(sizes, axis=1))


def _same(one: Floats, other: Floats) -> Flags:
    return np.asarray(np.abs(one - other) < 1e-6)


def _disagreements(quotes: Mapping[str, Floats], kept: Int64) -> int:
    differ = np.zeros(len(quotes["up_bid"]), np.bool_)
    for one, other in (("up_bid", "down_ask"), ("up_ask", "down_bid")):
        here, there = np.isnan(quotes[one]), np.isnan(quotes[other])
        differ |= (here != there) | (~here & ~there & ~_same(quotes[one], 1 - quotes[other]))
    return int(differ[kept].sum())


def _disputed(rows: Sequence[Row], starts: Int64) -> Flags:
    """Rows whose terms are impossible or contradict the first row of their window."""
    first: dict[str, tuple[str, ...]] = {}
    found = []
    for row, start in zip(rows, starts.tolist(), strict=True):
        terms = tuple(row[c] for c in _TERMS)
        named = row["slug"] == f"btc-updown-5m-{start}" and start % _SECONDS == 0
        found.append(
            not named or row["outcome_up"] not in _PAYOUTS or first.setdefault(row["start_ts"], terms) != terms
        )
    return np.array(found, np.bool_)


def _repeated(starts: Int64, received: Int64) -> Flags:
    pairs = np.stack([starts, received], axis=1)
    first = np.zeros(len(pairs), np.bool_)
    first[np.unique(pairs, axis=0, return_index=True)[1]] = True
    return ~first


def _apart(spots: Sequence[Decimal], opens: Sequence[Decimal]) -> Flags:
    """Flags of prices in another unit: five minutes neither halve nor double a price."""
    return np.array([not spot < 2 * opening < 4 * spot for spot, opening in zip(spots, opens, strict=True)], np.bool_)


def _integers(cells: Sequence[str]) -> Int64:
    """Parse whole numbers of up to twelve digits; 0, which is no valid time, for anything else."""
    return np.array([int(c) if c.isdecimal() and len(c) <= 12 else 0 for c in cells], np.int64)


def _floats(cells: Sequence[str], name: str, findings: RowFaults) -> Floats:
    """Parse numbers: NaN for an empty cell; a cell without a plausible number is damage."""
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        with suppress(ValueError):
            values[row] = float(cell)
    values[~(np.abs(values) < _LARGEST)] = np.nan
    findings.add(np.isnan(values) & np.array([bool(c) for c in cells], np.bool_), f"no number in {name}")
    return values


def _prices(cells: Sequence[str], name: str, findings: RowFaults) -> list[Decimal]:
    """Parse prices exactly; one dollar for a damaged cell."""
    found, wrong = [], []
    for cell in cells:
        try:
            price = Decimal(cell)
            wrong.append(not (price.is_finite() and 0 < price < 10**9 and price == round(price, SCALE)))
        except InvalidOperation:
            wrong.append(True)
        found.append(Decimal(1) if wrong[-1] else price)
    findings.add(np.array(wrong, np.bool_), f"an impossible {name} price")
    return found


def _instants(recordings: Sequence[Recording]) -> list[datetime]:
    """For each snapshot of an open window the first close of a bar that contains it: features and book then agree."""
    width = STEP * 1000
    found = set()
    for one in recordings:
        closes = (one.received // width + 1) * width
        found |= set(closes[closes < to_ms(one.market.closes_at)].tolist())
    return [from_ms(at) for at in sorted(found)]
