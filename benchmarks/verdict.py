"""Latency of one verdict: a primed prefix, twenty new tokens, two labels. Never the same tokens twice.

Run: python -m benchmarks.verdict [THREADS ...]   (numbers of threads take turns; a JSON line for each)

Milliseconds are wall time from the event loop's side, `cpu` is what all threads burned together: on a busy machine the
first says how busy it was, the second what a verdict costs.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np

from agent.config.paths import home
from agent.decision import prompts
from agent.install import model_path
from agent.llm.engine import Prompt, Question
from agent.llm.llamacpp.context import THREADS
from agent.llm.llamacpp.engine import LlamaEngine, open_llamacpp
from market.clock import monotonic

ASKED, NEW = 200, 20
LABELS = (" up", " down")

Took = list[tuple[float, float]]
"""(wall, processor) milliseconds of each verdict."""


def question(number: int) -> Question:
    """Twenty tokens after the prefix: a digit is one token."""
    digits = f"{number:0{NEW - 7}d}"
    return Question(Prompt((*prompts.static().segments, f"now: {digits} so it will go")), LABELS)


async def verdict(engine: LlamaEngine, number: int) -> tuple[float, float]:
    """Milliseconds of one, everything but the prefix forgotten before."""
    await engine.forget()
    began, burned = monotonic(), time.process_time()
    usage = (await engine.classify([question(number)])).usage
    took = (monotonic() - began) * 1e3, (time.process_time() - burned) * 1e3
    if usage.prompt != NEW:
        raise RuntimeError(f"{usage.prompt} tokens were evaluated instead of {NEW}")
    return took


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def summary(took: Took) -> dict[str, float]:
    wall, cpu = np.array(took).T
    figures = {
        "p50_ms": np.median(wall),
        "p99_ms": np.quantile(wall, 0.99),
        "min_ms": wall.min(),
        "cpu_p50_ms": np.median(cpu),
        "cpu_min_ms": cpu.min(),
    }
    return {name: round(float(value), 1) for name, value in figures.items()}


async def measured(counts: Sequence[int]) -> list[dict[str, object]]:
    path = model_path(home(), "smollm2-135m")
    async with AsyncExitStack() as stack:
        engines = {n: await stack.enter_async_context(open_llamacpp(path, threads=n)) for n in counts}
        for engine in engines.values():
            await engine.prime(prompts.static())
            await verdict(engine, 0)
        took: dict[int, Took] = {n: [] for n in counts}
        for number in range(1, ASKED + 1):
            for n, engine in engines.items():
                took[n].append(await verdict(engine, number))
        return [
            {
                "bench": "verdict",
                "threads": n,
                "n": ASKED,
                **summary(took[n]),
                "library": engine.identity.library,
                "model": path.name,
                "cpu": cpu_model(),
            }
            for n, engine in engines.items()
        ]


def main() -> None:
    counts = [int(text) for text in sys.argv[1:] if text.isdigit()] or [THREADS]
    for line in asyncio.run(measured(counts)):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
