"""Time that a live start takes to verify the log: all of it at the first start, what a day added at the next.

python -m benchmarks.log_start [--records 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from benchmarks.review import filled
from market.clock import monotonic
from storage.store import open_store
from tests.integration.test_trading import planted, play

DAY = 288
"""Cycles of a day."""


async def measured(folder: Path, records: int) -> dict[str, object]:
    """Seconds of a first start, of one after a day's records more, and of one after none."""
    path = folder / "e.db"
    found: dict[str, object] = {"records": records}
    async with open_store(f"sqlite:///{path}") as store:
        run, _ = await filled(store, records)
        found["megabytes"] = round(path.stat().st_size / 1e6)
    for name, limit in (("first", records - DAY), ("a day later", DAY), ("nothing new", records)):
        async with open_store(f"sqlite:///{path}") as store:
            begun = monotonic()
            # Replayed runs have no account: its name is empty.
            done = await store.verify_account(run.about.account, most=limit)
            found[name] = {"seconds": round(monotonic() - begun, 3), "verified": done.verified, "left": done.left}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeclaw-log-start-") as folder:
        play(Path(folder) / "e.db", planted())
        print(json.dumps(asyncio.run(measured(Path(folder), asked.records)), indent=2))


if __name__ == "__main__":
    main()
