"""Benchmark run: every arm on every question.

Questions are taken a few at a time, all arms of a model side by side, so that their label questions share batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from agent.llm.engine import Engine, ModelIdentity, Prompt, Usage
from agent.search_benchmark.arms import ARMS, ArmOutcome, BenchmarkArm, Who, solve
from agent.search_benchmark.asking import Merged, Uniform
from agent.search_benchmark.task import BenchmarkTask, Puzzle
from agent.search_benchmark.writing import write_answer

CONTEXT, SEQUENCES = 4096, 112
"""Cells and sequences of a context in which a group of questions fits."""
_GROUP = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under test. `parameters` is None where they cannot be counted; `open` loads it afresh."""

    name: str
    parameters: int | None
    open: Callable[[], AbstractAsyncContextManager[Engine]]


@dataclass(frozen=True, slots=True)
class Setup:
    """Size of the experiment: `count` questions of every task and seed, every arm up to `limit` charged tokens."""

    tasks: tuple[BenchmarkTask, ...]
    seeds: tuple[int, ...]
    count: int
    limit: int
    arms: tuple[BenchmarkArm, ...] = ARMS


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One arm's outcome on question `number` of a seed."""

    task: str
    seed: int
    number: int
    arm: str
    outcome: ArmOutcome


@dataclass(slots=True)
class ExperimentResult:
    """Records, model identities, token counts of each task's worked examples, and the engines' actual usage."""

    setup: Setup
    records: list[TrialRecord] = field(default_factory=list)
    models: dict[str, ModelIdentity] = field(default_factory=dict)
    prefixes: dict[tuple[str, str], int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


Heard = Callable[[str, int, int], None]
"""(title, number done, total)."""


async def run(setup: Setup, small: Subject, larger: Subject | None, heard: Heard = lambda *_: None) -> ExperimentResult:
    """Run every arm on every question. The arms of a larger model are left out without one."""
    found = ExperimentResult(setup)
    for task in setup.tasks:
        for subject in (small, larger):
            if subject is not None:
                await _examine(found, task, subject, _arms(setup, subject is larger), heard)
    return found


def _arms(setup: Setup, larger: bool) -> list[BenchmarkArm]:
    return [a for a in setup.arms if (a.who is Who.LARGER) == larger]


async def _examine(
    found: ExperimentResult, task: BenchmarkTask, subject: Subject, arms: Sequence[BenchmarkArm], heard: Heard
) -> None:
    setup = found.setup
    prefix = Prompt((task.prefix(),))
    asked = [(s, n, p) for s in setup.seeds for n, p in enumerate(task.questions(s, setup.count))]
    title = f"{task.title}, {subject.name}"
    heard(title, 0, len(asked))
    async with subject.open() as engine:
        found.models[subject.name] = engine.identity
        found.prefixes[task.name, subject.name] = (await engine.prime(prefix)).prompt
        model, done = Merged(engine), 0
        for group in _groups(asked):
            work = [_one(task, q, arm, model, prefix, setup.limit) for q in group for arm in arms]
            found.records += await asyncio.gather(*work)
            await model.forget()
            done += len(group)
            heard(title, done, len(asked))
        found.usage += engine.usage


async def _one(
    task: BenchmarkTask, question: tuple[int, int, Puzzle], arm: BenchmarkArm, model: Merged, prefix: Prompt, limit: int
) -> TrialRecord:
    seed, number, puzzle = question
    if arm.text:
        outcome = await write_answer(task, puzzle, arm, model, prefix, seed=1000 * seed + number, limit=limit)
    else:
        scorer = Uniform(seed) if arm.who is Who.NOBODY else model
        # one stream of chance for all arms: those that draw see the same draws
        outcome = await solve(task, puzzle, arm, scorer, prefix, seed=f"{task.name}:{seed}:{number}", limit=limit)
    return TrialRecord(task.name, seed, number, arm.name, outcome)


def _groups(asked: Sequence[tuple[int, int, Puzzle]]) -> Iterator[Sequence[tuple[int, int, Puzzle]]]:
    for at in range(0, len(asked), _GROUP):
        yield asked[at : at + _GROUP]
