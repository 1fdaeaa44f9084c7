"""Cost of a thousand decisions on this box: by token price, and by the energy that was measured, side by side.

The embedded model decides on the sample, searched as its profile has it. Where energy cannot be read the reason stands
in its place. `priced_watts` is the draw at which a second of the engine costs what its tokens are priced at: a box that
draws less is cheaper than its token price says.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from agent.app.engines import open_electricity, open_engine
from agent.app.recorded import PaperPlan, World
from agent.app.recordings import open_recording
from agent.config.load import load_config
from agent.reports.cost import InferencePrices, Rhythm, cost
from agent.trading.bus import LocalBus
from storage.store import open_store

CYCLES = 6


async def measure() -> dict[str, object]:
    """Run some cycles of the sample; figures are for a thousand such decisions."""
    config = load_config(None, profile="sample")
    prices = config.edge.cost
    feed = await open_recording("sample")
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_store(f"sqlite:///{Path(folder) / 'bench.db'}") as store,
            open_engine(config) as engine,
            open_electricity(config) as (electricity, seen),
        ):
            run, *_ = await World(PaperPlan(config, cycles=CYCLES), feed, store, LocalBus(), electricity).agent(engine)
            ledger, timings = await store.ledger(run.id), await store.timings(run.id)
    made = cost(ledger, timings, Rhythm(288, 1), InferencePrices(prices.token_price, prices.kwh_price, None), seen.said)
    tokens = sum(p.tokens for p in made.phases) / made.decisions
    by_tokens = tokens * prices.token_price
    by_energy = made.dollars if made.by_energy == made.asked > 0 else None
    return {
        "bench": "cost_of_1000_decisions",
        "decisions": made.decisions,
        "tokens": tokens * 1000,
        "engine_seconds": made.seconds * 1000,
        "dollars_by_tokens": by_tokens * 1000,
        "dollars_by_energy": by_energy * 1000 if by_energy is not None else None,
        "energy": seen.said,
        "ratio": by_energy / by_tokens if by_energy is not None else None,
        "priced_watts": by_tokens / prices.kwh_price * 3.6e6 / made.seconds,
    }


def main() -> None:
    """One JSON line."""
    print(json.dumps(asyncio.run(measure())))


if __name__ == "__main__":
    main()
