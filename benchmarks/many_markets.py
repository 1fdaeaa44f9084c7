"""A day of many markets with the scripted engine: each decided on in every cycle, killed on the way and resumed.

The recording is drawn from a seed and written in the product's own archive layout; the run is `World.agent`, as in
`edgeclaw backtest`, in a process of its own. Memory is that process's peak, disk the database's size.

Run: python -m benchmarks.many_markets [--markets 1000] [--kill]   (prints one JSON object a line)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from agent.app.engines import open_engine
from agent.app.recorded import PaperPlan, World
from agent.app.recordings import open_recording
from agent.config.load import load_config
from agent.host.memory import collect_seldom
from agent.trading.bus import LocalBus
from market.clock import from_ms
from market.types import UNIT, Market, PayoutSource, Resolution
from storage.store import open_store
from storage.ticks import SCHEMAS, TickArchive

BEGINS_MS = 1_782_864_000_000
"""2026-07-01 00:00 UTC."""
CYCLE_MS, STEP_MS = 300_000, 60_000
LASTING, LEVELS, AT_ONCE = 48, 3, 250
EFFECT = 15
"""Cents by which a market with a heavy side is worth more or less than its mid: something for claims to find."""


def written(markets: int, cycles: int, folder: Path, seed: int = 11) -> None:
    """An archive in which so many markets are open at every cycle, a book a minute in each; they last `LASTING` cycles,
    so that the later ones have a history to be verified against."""
    chance = np.random.default_rng(seed)
    archive, place = TickArchive(folder), folder / "day=2026-07-01"
    place.mkdir(parents=True)
    for number, first in enumerate(range(0, cycles, LASTING)):
        begins, span = BEGINS_MS + first * CYCLE_MS, min(LASTING, cycles - first) * CYCLE_MS
        names = [f"0x{number:02x}{n:06x}" for n in range(markets)]
        mids = _walks(markets, span // STEP_MS, chance)
        leaning = chance.choice([-1, 0, 1], markets, p=[0.1, 0.8, 0.1])
        opens, closes = from_ms(begins), from_ms(begins + span)
        ends = mids[:, -1] + EFFECT * leaning
        for name, chances in zip(names, ends.tolist(), strict=True):
            tokens = (f"{name}-yes", f"{name}-no")
            archive.market(Market(name, f"many-{name}", "", *tokens, opens, closes, tick=Decimal("0.01")))
            payout = Decimal(int(chance.random() * 100 < chances))
            archive.outcome(Resolution(name, payout, PayoutSource.OFFICIAL, closes + timedelta(minutes=2)))
        for part in range(0, markets, AT_ONCE):
            file = place / f"book-{number * 100 + part // AT_ONCE + 1:06}.parquet"
            these = slice(part, part + AT_ONCE)
            _books(names[these], mids[these], leaning[these], begins, chance, file)
    archive.flush()


def _walks(markets: int, rows: int, chance: np.random.Generator) -> npt.NDArray[np.int64]:
    """(markets, rows): mids in whole cents, each the chance that a random walk ends above zero."""
    steps = chance.normal(0, 1, (markets, rows + 1)).cumsum(axis=1)[:, :-1]
    left = np.sqrt(np.arange(rows, 0, -1))
    normal = NormalDist()
    mids: npt.NDArray[np.int64] = np.rint(100 * np.vectorize(normal.cdf)(steps / left)).astype(np.int64).clip(4, 96)
    return mids


def _books(
    names: Sequence[str],
    mids: npt.NDArray[np.int64],
    leaning: npt.NDArray[np.int64],
    begins: int,
    chance: np.random.Generator,
    file: Path,
) -> None:
    rows, mid = mids.shape[1], mids.ravel()
    at = np.tile(begins + np.arange(rows, dtype=np.int64) * STEP_MS + 50_000, len(names))
    offsets = np.arange(len(mid) + 1, dtype=np.int32) * LEVELS
    away = np.arange(1, LEVELS + 1)
    heavy = [np.repeat(np.where(leaning == side, 4, 1), rows * LEVELS) for side in (1, -1)]
    sizes = [chance.integers(10, 500, len(mid) * LEVELS) * weight * UNIT for weight in heavy]

    def prices(side: int) -> pa.Array:
        cents = (mid[:, None] + side * away).ravel()
        return pa.ListArray.from_arrays(offsets, pa.array((cents * 10_000).astype(np.int32)))

    def levels(which: int) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pa.array(sizes[which]))

    ids = pa.array(np.repeat(np.array(names, object), rows))
    columns = [ids, pa.array(at), pa.array(at * 1000), prices(-1), levels(0), prices(1), levels(1)]
    pq.write_table(pa.table(columns, schema=SCHEMAS["book"]), file, compression="zstd")


async def traded(folder: Path, database: Path) -> dict[str, object]:
    """The agent's run, from its beginning or from where it was killed."""
    config = load_config(None, {"edge.runtime": "scripted"}, profile="recorded")
    begun, cpu = time.monotonic(), time.process_time()
    feed = await open_recording(str(folder))
    read = time.monotonic() - begun
    async with open_store(f"sqlite:///{database}") as store, open_engine(config) as engine:
        run, _, log, _ = await World(PaperPlan(config, str(folder)), feed, store, LocalBus()).agent(engine)
        figures: dict[str, object] = {
            "found": log.compared,
            "records": log.appended + log.compared,
            "tokens": engine.usage.charged,
            "seconds": round(time.monotonic() - begun, 1),
            "reading": round(read, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "disk_mb": sum(f.stat().st_size for f in database.parent.glob(f"{database.name}*")) // 2**20,
            "head": run.head,
        }
        reasons = Counter(d.reason for d in await store.decisions(run.id, limit=10**9))
        return figures | {"reasons": dict(sorted(reasons.items())), "fills": len(await store.fills(run.id))}


def _child(folder: Path, database: Path) -> subprocess.Popen[str]:
    asked = [sys.executable, "-m", "benchmarks.many_markets", "--child", str(folder), str(database)]
    return subprocess.Popen(asked, stdout=subprocess.PIPE, text=True)  # noqa: S603


def _ended(child: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"the run ended with {child.returncode}")
    found: dict[str, Any] = json.loads(out)
    return found


async def _length(database: Path) -> int:
    """Number of records on disk."""
    async with open_store(f"sqlite:///{database}", read_only=True) as store:
        runs = await store.runs()
    return max((run.records for run in runs), default=0)


def one(markets: int, cycles: int, *, kill: bool) -> float:
    """Seconds of a run of so many markets; where asked for, another one is killed half way and goes on."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        written(markets, cycles, place / "data")
        whole = _ended(_child(place / "data", place / "whole.db"))
        said = {"bench": "many_markets", "markets": markets, "cycles": cycles}
        per_decision = round(whole["seconds"] * 1000 / (markets * cycles), 2)
        print(json.dumps(said | whole | {"ms_a_decision": per_decision}), flush=True)
        if kill:
            database = place / "killed.db"
            child = _child(place / "data", database)
            while child.poll() is None and (
                not database.exists() or asyncio.run(_length(database)) < whole["records"] // 2
            ):
                time.sleep(1)
            child.kill()
            child.wait()
            resumed = _ended(_child(place / "data", database))
            same = resumed["head"] == whole["head"]
            print(json.dumps(said | {"killed_at": resumed["found"], "same": same} | resumed), flush=True)
    return float(whole["seconds"])


def main() -> None:
    """All of the markets, half and a quarter: what the last two say of the first, and all three of ten thousand."""
    parser = argparse.ArgumentParser(description="A day of many markets with the scripted engine.")
    parser.add_argument("--markets", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=288)
    parser.add_argument(
        "--kill", action="store_true", help="also a run of the quarter that is killed half way and goes on"
    )
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(sys.argv[1:] if __name__ == "__main__" else [])
    if asked.child:
        collect_seldom()
        print(json.dumps(asyncio.run(traded(*asked.child))))
        return
    sizes = [asked.markets, asked.markets // 2, asked.markets // 4]
    seconds = [one(n, asked.cycles, kill=asked.kill and n == sizes[-1]) for n in sizes]
    slope, start = np.polyfit(sizes[1:], seconds[1:], 1)
    foretold = start + slope * sizes[0]
    slope, start = np.polyfit(sizes, seconds, 1)
    minutes = round((start + slope * 10_000) / 60)
    line = {"foretold": round(foretold, 1), "measured": seconds[0], "minutes_for_10000": minutes}
    print(json.dumps({"bench": "many_markets_scale", **line}))


if __name__ == "__main__":
    main()
