"""Tokens of a decision: claims chosen from labels, against the same tree with thoughts of 48 written tokens a node.

Chosen tokens are counted on real decisions of the sample with the embedded model. The written arm is the same
prompts, the same number of nodes and the same one-token verdicts, with 48 generated tokens where ours has three chosen
labels; it is arithmetic on counted nodes, because nothing would make a model write exactly 48.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from agent.app.engines import open_engine
from agent.app.recorded import PaperPlan, World
from agent.app.recordings import open_recording
from agent.config.load import load_config
from agent.decision.prompts import opening
from agent.llm.engine import Engine
from agent.trading.bus import LocalBus
from storage.decisions import RecordedDecision
from storage.records import Phase, RecordKind
from storage.store import Store, open_store

WRITTEN, CYCLES = 48, 6


async def measure() -> dict[str, object]:
    """Run some cycles of the sample and count."""
    config = load_config(None, profile="sample")
    feed = await open_recording("sample")
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(f"sqlite:///{Path(folder) / 'bench.db'}") as store, open_engine(config) as engine:
            run, *_ = await World(PaperPlan(config, cycles=CYCLES), feed, store, LocalBus()).agent(engine)
            return await _count(store, engine, run.id)


async def _count(store: Store, engine: Engine, run_id: str) -> dict[str, object]:
    chosen = nodes = prompts = verdicts = 0
    ledger = await store.ledger(run_id)
    for record in await store.records(run_id, RecordKind.DECISION):
        decision = RecordedDecision.of(record)
        if decision.search is None or decision.features is None:
            continue
        await engine.forget()
        prompts += engine.tokens_needed([opening(decision.features)])
        nodes += len(decision.search.nodes)
        rows = {r.phase: r.prompt + r.generated for r in ledger[record.key]}
        chosen += rows[Phase.SEARCH] + rows[Phase.VERIFY]
        verdicts += rows[Phase.VERIFY]
    written = prompts + WRITTEN * nodes + verdicts
    return {
        "bench": "tokens_per_decision",
        "nodes": nodes,
        "chosen_tokens": chosen,
        "written_tokens": written,
        "ratio": chosen / written,
        "ratio_without_prompt": (chosen - prompts) / (WRITTEN * nodes + verdicts),
    }


def main() -> None:
    """One JSON line."""
    print(json.dumps(asyncio.run(measure())))


if __name__ == "__main__":
    main()
