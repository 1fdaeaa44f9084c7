"""Lateness of cycles: a live agent on the wall clock, while every core is kept busy by somebody else.

python -m benchmarks.slots [--slots 200] [--cadence 5] [--idle]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.reports.funnel import latency
from tests.running import Agent, venue

GOAL_MS = 50.0


def _burn() -> None:
    while True:
        sum(range(10_000))


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """So many processes that never wait."""
    burners = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(cores)]
    for one in burners:
        one.start()
    try:
        yield
    finally:
        for one in burners:
            one.kill()
            one.join()


def measure(slots: int, cadence: int, cores: int) -> dict[str, object]:
    """Milliseconds from a slot to its cycle, of an agent at a loopback venue on the machine's time."""
    with tempfile.TemporaryDirectory() as folder, venue(speed=1) as (url, _):
        config = {"trading": {"cadence": cadence}, "service": {"backfill": False}}
        agent = Agent(url, Path(folder) / "home", ("agent", "join_best"), config)
        with agent.running() as process, busy(cores):
            while len(agent.happened("cycle/started")) < slots and process.poll() is None:
                time.sleep(1)
        begun, skipped = agent.happened("cycle/started")[:slots], agent.happened("cycle/skipped")
    line = latency("slots", [event["late"] * 1e3 for event in begun])
    return {
        "bench": "slots", "cadence_s": cadence, "busy_cores": cores, "slots": line.n, "skipped": len(skipped),
        "p50_ms": line.p50, "p99_ms": line.p99, "max_ms": max(e["late"] for e in begun) * 1e3, "goal_ms": GOAL_MS,
        "of_goal": (line.p99 or 0.0) / GOAL_MS,
    }  # fmt: skip


def main() -> None:
    """One JSON line; alone it is for a quick look, and not part of `python -m benchmarks`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--cadence", type=int, default=5)
    parser.add_argument("--idle", action="store_true", help="with the cores left alone")
    asked = parser.parse_args()
    cores = 0 if asked.idle else len(os.sched_getaffinity(0))
    print(json.dumps(measure(asked.slots, asked.cadence, cores)))


if __name__ == "__main__":
    main()
