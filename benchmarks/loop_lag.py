"""Event loop lag while cycles search and write: a 1 ms ticker beside real cycles with the real model."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import suppress
from pathlib import Path

from agent.app.engines import open_engine
from agent.app.recorded import PaperPlan, World
from agent.app.recordings import open_recording
from agent.config.load import load_config
from agent.reports.funnel import latency
from agent.trading.bus import LocalBus
from market.clock import monotonic
from storage.store import open_store

TICK, CYCLES = 0.001, 9


async def measure() -> dict[str, object]:
    """Milliseconds by which the ticker woke late, over the whole of the cycles."""
    config = load_config(None, profile="sample")
    feed = await open_recording("sample")
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = monotonic() + TICK
            await asyncio.sleep(TICK)
            late.append((monotonic() - due) * 1e3)

    with tempfile.TemporaryDirectory() as folder:
        async with open_store(f"sqlite:///{Path(folder) / 'bench.db'}") as store, open_engine(config) as engine:
            ticker = asyncio.create_task(tick())
            await World(PaperPlan(config, cycles=CYCLES), feed, store, LocalBus()).agent(engine)
            ticker.cancel()
            with suppress(asyncio.CancelledError):
                await ticker
    line = latency("loop lag", late)
    return {"bench": "loop_lag", "n": line.n, "p50_ms": line.p50, "p99_ms": line.p99, "max_ms": max(late)}


def main() -> None:
    """One JSON line; the goal is under 5 ms at the 99th percentile."""
    print(json.dumps(asyncio.run(measure())))


if __name__ == "__main__":
    main()
