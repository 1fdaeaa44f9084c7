"""Cost and yield of each search policy: the table behind the rule in `agent/decision/search_budget.py`.

Worlds are made up: fifteen hundred past windows with random features, one of which, as it is now, moved the outcome by
`LIFT` against the price. Each policy searches the same decisions with the embedded model; `found` is the share
of them in which the chosen path had a supported claim. Prints one JSON line a policy.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from agent.app.engines import open_engine
from agent.app.settings import decision_settings
from agent.config.load import load_config
from agent.decision.decide import make_decision
from agent.decision.inputs import Inputs, Learned, Settings
from agent.llm.engine import Engine
from agent.search.tree import Policy
from market.fees import schedule
from market.types import UNIT, Book, Level, Market, units
from storage.records import Observation
from storage.store import Store, open_store
from strategies.features import BUCKETS, SCALES, Features

DECISIONS, WINDOWS, LIFT, SEED = 40, 1500, 0.2, 7
NOW = datetime(2026, 9, 28, 9, 0, tzinfo=UTC)
SECONDS = 300
CANDIDATES = (
    ("greedy", 1, 1),
    ("beam", 1, 1),
    ("beam", 2, 1),
    ("beam", 3, 1),
    ("dvts", 2, 1),
    ("dvts", 3, 1),
    ("best_first", 2, 1),
    ("self_consistency", 4, 4),
    ("best_of_n", 4, 4),
)


def _drawn(chance: np.random.Generator) -> dict[str, str]:
    return {name: str(options[chance.integers(len(options))]) for name, options in BUCKETS.items()}


def _market(opens: datetime, number: int) -> Market:
    name = f"made-up-{number}"
    return Market(name, name, name, f"{name}-yes", f"{name}-no", opens, opens + timedelta(seconds=SECONDS))


async def planted(store: Store, number: int) -> Inputs:
    """One decision and its past, under a source of their own."""
    chance = np.random.default_rng([SEED, number])
    now, source = _drawn(chance), f"world-{number}"
    planted = list(BUCKETS)[chance.integers(len(BUCKETS))]
    rows = []
    for i in range(WINDOWS):
        opens = NOW - timedelta(seconds=SECONDS * (i + 3))
        buckets, mid = _drawn(chance), float(chance.uniform(0.35, 0.65))
        lifted = LIFT if buckets[planted] == now[planted] else 0.0
        paid = int(chance.random() < mid + lifted) * UNIT
        known = opens + timedelta(seconds=SECONDS + 60)
        state = (0.0,) * len(SCALES)
        rows.append(Observation(f"w{i}", opens, SECONDS, SECONDS, int(mid * UNIT), buckets, paid, known, True, state))
    await store.add_observations(source, rows)
    bid, ask = ((Level(units(p), 500 * UNIT),) for p in (490_000, 510_000))
    market = _market(NOW, number)
    book = Book(market.id, NOW, NOW, bid, ask)
    features = Features(500_000, SECONDS, now, (0.0,) * len(SCALES))
    fees, settings = schedule("crypto", NOW), decision_settings(load_config(None), counted_in_tokens=True)
    learned = Learned(settings.shrink)
    return Inputs(
        market, NOW, source, book, features, fees, 1000 * UNIT, 0, 0, 0, WINDOWS, "", settings, learned
    )  # fmt: skip


def _settings(settings: Settings, name: str, width: int, samples: int) -> Settings:
    policy = Policy.named(name, depth=5, branching=3, width=width, max_nodes=48, samples=samples)
    limits = replace(settings.limits, tokens=100_000)
    return replace(settings, policy=policy, frugal=False, correct=False, answer_tokens=0, limits=limits)


async def measured(engine: Engine, count: int) -> AsyncIterator[dict[str, object]]:
    async with open_store("sqlite://") as store:
        worlds = [await planted(store, n) for n in range(count)]
        for name, width, samples in CANDIDATES:
            tokens, nodes, found = 0, 0, 0
            for inputs in worlds:
                asked = replace(inputs, settings=_settings(inputs.settings, name, width, samples))
                made = await make_decision(asked, engine, store)
                path = made.forecast.path if made.forecast else ()
                tokens += made.budget.tokens
                nodes += len(made.forecast.tree.visits) if made.forecast else 0
                found += any(c.verified and c.claim.effect.sign for c in path)
            yield {
                "bench": "allocation",
                "policy": name,
                "width": width,
                "samples": samples,
                "decisions": count,
                "tokens": round(tokens / count, 1),
                "nodes": round(nodes / count, 1),
                "found": round(found / count, 3),
            }


async def run(count: int) -> None:
    async with open_engine(load_config(None)) as engine:
        async for line in measured(engine, count):
            print(json.dumps(line), flush=True)


def main() -> None:
    asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else DECISIONS))


if __name__ == "__main__":
    main()
