"""Gain from searching several markets at the same time: their searches one after the other, and side by side
with the questions of all in one batch. Both ways take turns; answers and charges must be the same.

Run: python -m benchmarks.together   (prints one JSON object a line)
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Sequence

from agent.config.paths import home
from agent.decision import prompts
from agent.install import model_path
from agent.llm.engine import Engine
from agent.llm.llamacpp.context import THREADS
from agent.llm.llamacpp.engine import CONTEXT, SEQUENCES, open_llamacpp
from agent.llm.together import Conversation, SharedEngine
from benchmarks.tree_search import NOW, Calls, product_calls
from benchmarks.verdict import cpu_model
from market.clock import monotonic

ROUNDS, MOST = 7, 4
SEEN = (
    NOW,
    NOW | {"drift": "down", "imbalance": "sellers", "momentum": "falling"},
    NOW | {"activity": "quiet", "spread": "wide", "pressure": "fading"},
    NOW | {"bias": "above", "trend": "noisy", "volatility": "calm"},
)

Said = list[tuple[object, int]]


async def asked(engine: Engine, calls: Calls) -> Said:
    """Answer to each call, and its charge."""
    answers = [await engine.classify(questions) for questions in calls]
    return [(a.probabilities, a.usage.charged) for a in answers]


async def apart(engine: Engine, searches: Sequence[Calls]) -> list[Said]:
    said = []
    for calls in searches:
        await engine.forget()
        said.append(await asked(engine, calls))
    return said


async def beside(together: SharedEngine, searches: Sequence[Calls]) -> list[Said]:
    async def one(talk: Conversation, calls: Calls) -> Said:
        said = await asked(talk, calls)
        talk.leave()
        return said

    async with together.conversations(len(searches)) as talks:
        return list(await asyncio.gather(*(one(t, c) for t, c in zip(talks, searches, strict=True))))


async def measured() -> None:
    path = model_path(home(), "smollm2-135m")
    async with open_llamacpp(path, context=2 * CONTEXT, sequences=2 * SEQUENCES) as engine:
        await engine.prime(prompts.static())
        searches = [await product_calls(engine, seen) for seen in SEEN]
        for count in (2, MOST):
            together, took, same = SharedEngine(engine, count), list[tuple[float, float]](), True
            for _ in range(ROUNDS):
                begun = monotonic()
                one = await apart(engine, searches[:count])
                between = monotonic()
                other = await beside(together, searches[:count])
                took.append((between - begun, monotonic() - between))
                same = same and one == other
            line = {
                "bench": "together",
                "markets": count,
                "questions": sum(len(q) for calls in searches[:count] for q in calls),
                "same": same,
                "apart_s": round(statistics.median(a for a, _ in took), 3),
                "together_s": round(statistics.median(t for _, t in took), 3),
                "apart_over_together": round(statistics.median(a / t for a, t in took), 2),
                "threads": THREADS,
                "cpu": cpu_model(),
            }
            print(json.dumps(line), flush=True)


def main() -> None:
    asyncio.run(measured())


if __name__ == "__main__":
    main()
