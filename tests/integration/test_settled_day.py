"""The diffusion over a recorded day of settled windows: as sharp as it is known to be, and calibrated."""

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from backtest.reference import ReferenceSeries
from market.clock import to_ms
from market.types import Market
from strategies.baselines import VOLATILITY_SPAN, p_up
from strategies.score import brier
from tests.fakes import market

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TWAP = market(seconds=300)
CHAINLINK = SHARED / "btcusd_chainlink_1s_2026-06-08.parquet"
HORIZONS = (240, 180, 120, 60, 30, 10)


def _series() -> ReferenceSeries:
    table = pq.ParquetFile(CHAINLINK).read(["ts_ms", "price_1e18", "recv_ms"])
    parts = np.array([divmod(int(text), 10**18) for text in table["price_1e18"].to_pylist()], np.int64)
    received = np.maximum.accumulate(table["recv_ms"].to_numpy())
    return ReferenceSeries(received, table["ts_ms"].to_numpy(), parts[:, 0], parts[:, 1])


def _windows() -> list[tuple[Market, int]]:
    found = []
    with (SHARED / "btc5m_chainlink_markets_2026-06-08.csv").open(newline="") as opened:
        for row in csv.DictReader(opened):
            if row["price_to_beat"] and row["outcome_up"]:
                opens = datetime.fromtimestamp(int(row["start_ts"]), UTC)
                struck = replace(
                    TWAP,
                    id=row["condition_id"],
                    opens_at=opens,
                    closes_at=opens + timedelta(seconds=300),
                    price_to_beat=Decimal(row["price_to_beat"]),
                )
                found.append((struck, int(float(row["outcome_up"]))))
    return found


@lru_cache(maxsize=1)
def _day() -> dict[int, tuple[list[float], list[int]]]:
    """(forecasts, outcomes) of a day of settled windows by seconds to the close."""
    series, span = _series(), VOLATILITY_SPAN
    made: dict[int, tuple[list[float], list[int]]] = {left: ([], []) for left in HORIZONS}
    for m, outcome in _windows():
        for left in HORIZONS:
            at = m.closes_at - timedelta(seconds=left)
            p = p_up(m, series.between(to_ms(at - span), to_ms(at)), at)
            if p is not None:
                made[left][0].append(p)
                made[left][1].append(outcome)
    return made


def _auc(ps: list[float], ys: list[int]) -> float:
    ups, downs = [p for p, y in zip(ps, ys, strict=True) if y], [p for p, y in zip(ps, ys, strict=True) if not y]
    wins = sum((u > d) + 0.5 * (u == d) for u in ups for d in downs)
    return wins / (len(ups) * len(downs))


@pytest.mark.skipif(not CHAINLINK.is_file(), reason="the recorded settlement stream is not on this machine")
def test_the_diffusion_forecasts_a_settled_day_as_well_as_it_should() -> None:
    """Known figures used the price at each instant; here it counts from its receipt, 1.3 s later."""
    known = json.loads((SHARED / "baseline_facts_dev.json").read_text())["chainlink_day_dev"]
    scores = {left: (float(brier(ps, ys).mean()), _auc(ps, ys)) for left, (ps, ys) in _day().items()}
    for left, (score, auc) in scores.items():
        assert len(_day()[left][0]) >= 280
        assert score < 0.25 and abs(score - known[f"t-{left}"]["gbm_brier"]) < 0.008
        assert auc > 0.7
    for earlier, later in pairwise(HORIZONS):
        assert scores[later][0] < scores[earlier][0] and scores[later][1] > scores[earlier][1]


@pytest.mark.skipif(not CHAINLINK.is_file(), reason="the recorded settlement stream is not on this machine")
def test_the_diffusion_is_calibrated_on_a_settled_day() -> None:
    ps = np.concatenate([p for p, _ in _day().values()])
    ys = np.concatenate([y for _, y in _day().values()])
    bins = np.digitize(ps, [0.1, 0.3, 0.5, 0.7, 0.9])
    shares = [float(ys[bins == b].mean()) for b in range(6)]
    told = [float(ps[bins == b].mean()) for b in range(6)]
    assert shares == sorted(shares)
    assert max(abs(s - t) for s, t in zip(shares, told, strict=True)) < 0.1
