"""How much a beam search gains from shared prefixes: the same questions with forked prefixes in batches, and with a
full prefill for every branch. Prints one JSON line; it judges nothing."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Awaitable, Callable

from agent.install import model_path
from agent.llm.engine import Prompt, Question
from agent.llm.llamacpp.engine import LlamaEngine, opened
from agent.paths import home
from market.clock import monotonic

DEPTH, CHILDREN, WIDTH, REPEATS = 5, 3, 2, 3
LABELS = (" up", " down")
STATIC = Prompt(
    ("Judge the next five minutes of this market from the clues, one at a time, and say up or down. " * 14,)
)


def levels(state: Prompt) -> list[list[Question]]:
    """The questions of each depth of a beam; which branch survives does not matter for the cost."""
    beam, found = [state], []
    for depth in range(DEPTH):
        grown = [
            path.then(f"{name} clue at step {depth}: weighs as it did.") for path in beam for name in "ABC"[:CHILDREN]
        ]
        found.append([Question(path.then(" So it goes"), LABELS) for path in grown])
        beam = grown[:WIDTH]
    return found


async def shared(engine: LlamaEngine, work: list[list[Question]]) -> None:
    await engine.forget()
    for level in work:
        await engine.classify(level)


async def full_prefill(engine: LlamaEngine, work: list[list[Question]]) -> None:
    for level in work:
        for question in level:
            await engine.forget()
            await engine.classify([question])


async def timed(run: Callable[[LlamaEngine, list[list[Question]]], Awaitable[None]], engine: LlamaEngine) -> float:
    """Median seconds over the repeats."""
    took = []
    for repeat in range(REPEATS):
        prices = " ".join(f"{40 + (7 * at + repeat) % 20} cents," for at in range(26))
        work = levels(STATIC.then(f"Prices of late: {prices} and now?\n"))
        began = monotonic()
        await run(engine, work)
        took.append(monotonic() - began)
    return statistics.median(took)


async def measured() -> dict[str, object]:
    path = model_path(home(), "smollm2-135m")
    async with opened(path) as engine:  # nothing is primed: every branch starts from the first token
        full = await timed(full_prefill, engine)
    async with opened(path) as engine:
        await engine.prime(STATIC)
        fast = await timed(shared, engine)
    return {
        "bench": "beam_prefix_sharing",
        "shared_s": round(fast, 3),
        "full_prefill_s": round(full, 3),
        "ratio": round(full / fast, 2),
        "repeats": REPEATS,
    }


def main() -> None:
    print(json.dumps(asyncio.run(measured())))


if __name__ == "__main__":
    main()
