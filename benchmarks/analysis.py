"""Time to look through a large table, beside the time to only read its file.

python -m benchmarks.analysis [--rows 2000000]

Sales with planted facts, as CSV and as Parquet: read, profiled, and every operation tried on every column that it may
be about. No model is asked; what that takes does not depend on the rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import polars as pl

from agent.analysis.choosing import scan
from market.clock import monotonic
from tests.planted import sales
from tools.analysis.reading import profile, read_table

T = TypeVar("T")


def timed(what: Callable[[], T]) -> tuple[T, float]:
    """Result of the call and its seconds."""
    begun = monotonic()
    made = what()
    return made, monotonic() - begun


def measure(path: Path, alone: Callable[[Path], pl.DataFrame]) -> dict[str, object]:
    """Seconds by step, and all of them as a multiple of reading the file and nothing else."""
    _, bare = timed(lambda: alone(path))
    frame, reading = timed(lambda: read_table(path))
    seen, profiling = timed(lambda: profile(frame))
    found, looking = timed(lambda: scan(frame, seen))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {
        "bench": "analysis", "format": path.suffix[1:], "rows": frame.height, "megabytes": path.stat().st_size / 1e6,
        "polars_read_s": bare, "read_s": reading, "profile_s": profiling, "scan_s": looking, "findings": len(found),
        "ratio": (reading + profiling + looking) / bare, "peak_mb": peak,
    }  # fmt: skip


def main() -> None:
    """One JSON line a format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    asked, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        table = sales(Path(folder) / "sales.csv", rows=asked.rows)
        packed = Path(folder) / "sales.parquet"
        pl.read_csv(table).write_parquet(packed)
        print(json.dumps(measure(packed, pl.read_parquet)))
        print(json.dumps(measure(table, pl.read_csv)))


if __name__ == "__main__":
    main()
