"""A two-label verdict on 20 new tokens after a hot prefix: OpenVINO at each precision beside the embedded engine.

All arms take turns within one run, two threads each, and so see the same machine. Prints one JSON line per arm, with
how far its answers are from unrounded arithmetic on the same weights (OpenVINO at f32): a speed without that says
nothing. The processor time of all threads is given too, because it hardly knows what else the machine does.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import process_time

from agent.config.paths import home
from agent.decision.prompts import static
from agent.install import model_path
from agent.llm.engine import Engine, Question
from agent.llm.llamacpp.engine import open_llamacpp as llama_opened
from agent.llm.logits import Logits
from agent.llm.openvino import acceptance, runtime
from agent.llm.openvino.engine import open_openvino as openvino_opened
from agent.llm.openvino.network import Precision, loaded
from market.clock import monotonic

REPEATS, WARM_UP, THREADS, NEW_TOKENS = 200, 5, 2, 20
LABELS = (" yes", " no")


def verdict(engine: Engine, number: int) -> Question:
    """A question of exactly NEW_TOKENS tokens after the static prompt, like no earlier one."""
    said = f"\nTick {number}: bid {30 + number % 40}"
    while (short := NEW_TOKENS - engine.tokens_needed([static().then(said)])) > 0:
        said += " up" * short
    return Question(static().then(said), LABELS)


async def timed(engine: Engine, number: int) -> tuple[float, float]:
    """Milliseconds on the clock and of the processor for one verdict; whatever the last one cached is gone."""
    await engine.forget()
    question = verdict(engine, number)
    began, worked = monotonic(), process_time()
    answers = await engine.classify([question])
    took = (monotonic() - began) * 1000, (process_time() - worked) * 1000
    if answers.usage.prompt != NEW_TOKENS:
        raise AssertionError(f"{answers.usage.prompt} tokens were evaluated, not {NEW_TOKENS}")
    return took


async def taken(path: Path, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Timings of each verdict by `timed`, by arm."""
    async with AsyncExitStack() as stack:
        arms: dict[str, Engine] = {
            "llamacpp": await stack.enter_async_context(llama_opened(path, threads=THREADS, context=2048))
        }
        for precision in Precision:
            engine = openvino_opened(path, precision=precision, threads=THREADS, context=2048)
            arms[f"openvino {precision}"] = await stack.enter_async_context(engine)
        for arm in arms.values():
            await arm.prime(static())
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
        for number in range(WARM_UP + repeats):
            for name, arm in arms.items():
                took[name].append(await timed(arm, number))
    return {name: values[WARM_UP:] for name, values in took.items()}


def divergences(path: Path) -> dict[str, float]:
    """Nats from unrounded arithmetic, by arm."""
    embedded = acceptance.reference(path)
    found = {}
    exact: Sequence[Logits] = ()
    for precision in Precision:  # F32 comes first
        network = loaded(path, precision, THREADS)
        rows = acceptance.answers(network, embedded.tokens, len(embedded.logits))
        exact = exact or rows
        found[f"openvino {precision}"] = acceptance.divergence(exact, rows)
    return {"llamacpp": acceptance.divergence(exact, embedded.logits), **found}


def main(repeats: int = REPEATS) -> None:
    """One JSON line per arm."""
    if not runtime.installed():
        print(json.dumps({"bench": "verdict_openvino", "skipped": runtime.INSTALL}))
        return
    path = model_path(home(), "smollm2-135m")
    took, apart = asyncio.run(taken(path, repeats)), divergences(path)
    base = statistics.median(wall for wall, _ in took["llamacpp"])
    for name, values in took.items():
        ordered = sorted(wall for wall, _ in values)
        line = {
            "bench": "verdict_openvino",
            "arm": name,
            "threads": THREADS,
            "new_tokens": NEW_TOKENS,
            "n": len(ordered),
            "p50_ms": round(statistics.median(ordered), 1),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)], 1),
            "least_ms": round(ordered[0], 1),
            "cpu_ms": round(statistics.median(worked for _, worked in values), 1),
            "times_faster": round(base / statistics.median(ordered), 2),
            "divergence_nats": round(apart[name], 5),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
