"""Storage of a backtest: the result, every trade, the figures and the page, in one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from agent.research.figures import draw_backtest
from agent.research.forecasts import RecordedForecast
from agent.research.judging import Data, JudgedRun
from agent.research.page import backtest_page
from agent.research.report import Report
from storage.canonical import plain

_INSTANT = pa.timestamp("us", tz="UTC")
_PRICE = pa.decimal128(10, 6)
TRADES = pa.schema(
    {
        "strategy": pa.string(), "at": _INSTANT, "market": pa.string(), "slug": pa.string(), "outcome": pa.string(),
        "side": pa.string(), "price": _PRICE, "size": pa.int64(), "fee": pa.int64(), "evidence": pa.string(),
        "maker": pa.bool_(), "closes_at": _INSTANT, "pnl": pa.int64(), "pnl_at_mid": pa.int64(), "order": pa.string(),
    },
    metadata={"units": "size in micro-shares; fee and pnl in micro-dollars, pnl after fees, empty while unresolved"},
)  # fmt: skip

DECISIONS = pa.schema(
    {
        "decision": pa.string(), "at": _INSTANT, "market": pa.string(), "slug": pa.string(), "action": pa.string(),
        "reason": pa.string(), "mid": pa.float64(), "diffusion": pa.float64(), "probability": pa.float64(),
        "tokens": pa.int64(), "paid": pa.float64(),
    },
    metadata={"units": "probabilities of YES and what YES paid; empty where not known"},
)  # fmt: skip


def write_backtest(made: Report, data: Data, path: Path, *, figures: bool) -> list[Path]:
    """Write everything into a folder; returns the files written, the page last."""
    result, trades = path / "result.json", path / "trades.parquet"
    result.write_text(json.dumps(told(made), indent=2, sort_keys=True) + "\n")
    pq.write_table(_trades(made.tried, data), trades, compression="zstd")
    kept = [result, trades]
    if made.forecasts:
        kept.append(path / "decisions.parquet")
        pq.write_table(_decisions(made.forecasts), kept[-1], compression="zstd")
    drawn = draw_backtest(made, data, path) if figures else []
    shown = path / "report.html"
    shown.write_text(backtest_page(made, drawn), encoding="utf-8")
    return [*kept, *drawn, shown]


def told(made: Report) -> object:
    """The report as JSON types; trades and decisions are in files of their own."""
    return plain(replace(made, tried=tuple(replace(t, trades=()) for t in made.tried), forecasts=()))


def _decisions(made: Sequence[RecordedForecast]) -> pa.Table:
    return pa.Table.from_pylist([{name: getattr(f, name) for name in DECISIONS.names} for f in made], schema=DECISIONS)


def _trades(tried: Sequence[JudgedRun], data: Data) -> pa.Table:
    rows = [
        {
            "strategy": one.name,
            "at": t.fill.at,
            "market": t.fill.market_id,
            "slug": data.markets[t.fill.market_id].slug,
            "outcome": t.fill.outcome.value,
            "side": t.fill.side.value,
            "price": t.fill.price,
            "size": t.fill.size,
            "fee": t.fill.fee,
            "evidence": t.fill.evidence.value,
            "maker": t.fill.maker,
            "closes_at": t.closes_at,
            "pnl": t.pnl,
            "pnl_at_mid": t.at_mid,
            "order": t.fill.order_id,
        }
        for one in tried
        for t in one.trades
    ]
    return pa.Table.from_pylist(rows, schema=TRADES)
