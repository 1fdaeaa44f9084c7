"""Result of a run, for its summary."""

from __future__ import annotations

from dataclasses import dataclass

from agent.llm.engine import Engine, ModelIdentity, Usage
from storage.records import Run
from strategies.base import Strategy


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of `run_paper`. `energy` describes its measurement, or the reason for none."""

    run: Run
    appended: int
    compared: int
    ticks: tuple[float, ...]
    engine: ModelIdentity
    used: Usage
    halted: str
    baselines: tuple[tuple[Strategy, Run], ...]
    energy: str = ""


def since(engine: Engine, primed: Usage) -> Usage:
    """Usage since the engine was primed."""
    used = engine.usage
    return Usage(
        prompt=used.prompt - primed.prompt,
        cached=used.cached - primed.cached,
        generated=used.generated - primed.generated,
        calls=used.calls,
    )
