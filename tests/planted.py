"""Data files of common shapes with planted facts: sales, a sensor's log, trades."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

BEGIN = datetime(2026, 1, 1)  # noqa: DTZ001 - a file of the world names no zone
GAP = (datetime(2026, 3, 2, 4), datetime(2026, 3, 2, 7, 30))  # noqa: DTZ001
SPIKE = (datetime(2026, 3, 5, 12), 85.5)  # noqa: DTZ001
CHANGED = datetime(2026, 7, 1)  # noqa: DTZ001
STUCK = 240


def sales(path: Path, rows: int = 6000, seed: int = 1) -> Path:
    """A year of orders as CSV: West has most revenue, units double in July, a discount sells more, 37 discounts are
    missing and 12 rows repeat."""
    chance = np.random.default_rng(seed)
    days = np.sort(chance.integers(0, 365, rows))
    region = chance.choice(["North", "East", "South", "West"], rows, p=[0.18, 0.18, 0.18, 0.46])
    discount = chance.integers(0, 31, rows).astype(float)
    later = days >= (CHANGED - BEGIN).days
    units = np.round((10 + 0.5 * discount + chance.normal(0, 1.5, rows)) * np.where(later, 2.0, 1.0)).clip(1)
    price = np.round(chance.uniform(5, 15, rows), 2)
    frame = pl.DataFrame({
        "date": [(BEGIN + timedelta(days=int(d))).date() for d in days], "region": region,
        "product": chance.choice(["Anvil", "Brush", "Chain", "Drill"], rows), "units": units.astype(int),
        "discount": discount, "revenue": np.round(units * price, 2),
    })  # fmt: skip
    lacking = chance.choice(rows, 37, replace=False)
    holes = pl.Series([i in set(lacking.tolist()) for i in range(rows)])
    frame = frame.with_columns(pl.when(holes).then(None).otherwise(pl.col("discount")).alias("discount"))
    twice = frame.drop_nulls().unique(maintain_order=True).head(12)
    pl.concat([frame, twice]).write_csv(path)
    return path


def sensor(path: Path, seed: int = 2) -> Path:
    """Eight days of minutes as Parquet: silent for three and a half hours, one spike, a pressure that stands still, and
    humidity that falls when it gets warm."""
    chance = np.random.default_rng(seed)
    at = [datetime(2026, 3, 1) + timedelta(minutes=m) for m in range(8 * 24 * 60)]  # noqa: DTZ001
    hours = np.array([(t - at[0]).total_seconds() / 3600 for t in at])
    warm = 18 + 6 * np.sin(2 * np.pi * hours / 24) + chance.normal(0, 0.4, len(at))
    damp = 70 - 1.8 * (warm - 18) + chance.normal(0, 0.8, len(at))
    pressure = 1013 + chance.normal(0, 0.6, len(at)).cumsum() * 0.05 + chance.normal(0, 0.05, len(at))
    pressure[6000 : 6000 + STUCK] = 1011.25
    warm[at.index(SPIKE[0])] = SPIKE[1]
    frame = pl.DataFrame({"time": at, "temperature": warm, "humidity": damp, "pressure": pressure})
    frame.filter(~pl.col("time").is_between(*GAP, closed="none")).write_parquet(path)
    return path


def trades(path: Path, rows: int = 1500, seed: int = 3) -> Path:
    """Trades as Excel or CSV: carol seldom wins, one trade is by far the largest, and the fee follows the size."""
    chance = np.random.default_rng(seed)
    who = chance.choice(["alice", "bob", "carol", "dave"], rows)
    size = np.round(chance.gamma(3, 30, rows), 2)
    size[777] = 9_500.0
    frame = pl.DataFrame({
        "time": [datetime(2026, 5, 1) + timedelta(minutes=7 * n) for n in range(rows)], "trader": who,  # noqa: DTZ001
        "side": chance.choice(["buy", "sell"], rows), "size": size, "fee": np.round(0.018 * size + 0.01, 4),
        "won": chance.random(rows) < np.where(who == "carol", 0.2, 0.55),
    })  # fmt: skip
    frame.write_excel(path) if path.suffix == ".xlsx" else frame.write_csv(path)
    return path
