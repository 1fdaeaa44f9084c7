"""The benchmark's tasks, with the difficulty chosen on development seeds, and the record of those trials."""

from __future__ import annotations

import json
from importlib import resources
from typing import TypedDict

from agent.search_benchmark.arithmetic import chain
from agent.search_benchmark.countdown import countdown
from agent.search_benchmark.query import lookup
from agent.search_benchmark.task import BenchmarkTask

ARITHMETIC = BenchmarkTask(
    "arithmetic", "Arithmetic chains", "a calculator, digit by digit", branching=4, width=2, examples=12, make=chain
)
QUERY = BenchmarkTask(
    "query",
    "Questions to a table",
    "SQLite, clause by clause, on another week than counts",
    branching=4,
    width=3,
    examples=16,
    make=lookup,
)
COUNTDOWN = BenchmarkTask(
    "countdown", "Countdown", "the exact result, at the end alone", branching=3, width=3, examples=10, make=countdown
)
TASKS = {task.name: task for task in (ARITHMETIC, QUERY, COUNTDOWN)}

BUDGET = 60
"""Charged tokens a question: the budget of the main comparison, set before the reported seeds were run."""
BUDGETS = (20, 30, 60, 120, 240)


class Trial(TypedDict):
    """A trial on a development seed, and its result."""

    task: str
    seed: int
    tried: str
    found: str


def trials() -> list[Trial]:
    """Trials made while the tasks were tuned."""
    found: list[Trial] = json.loads((resources.files("agent.search_benchmark") / "trials.json").read_text())
    return found
