"""Results from the records: accuracies with intervals, paired comparisons, and curves over tokens and FLOPs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from agent.search_benchmark.arms import NODES, ArmOutcome, ArmPoint, BenchmarkArm, Role, Who
from agent.search_benchmark.experiment import ExperimentResult, TrialRecord
from agent.search_benchmark.task import Puzzle, blind, chance_of_guessing
from strategies.score import Interval, block_interval, mcnemar, paired_interval

MAIN = "best-first"
"""The search under comparison, chosen before the reported seeds were run."""
ALONE = "checker alone"
DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Line:
    """One arm at the budget. Means over questions; `flops` is 2 x parameters x tokens through the model."""

    arm: str
    role: str
    accuracy: Interval
    charged: float
    generated: float
    checks: float
    flops: float | None


@dataclass(frozen=True, slots=True)
class ArmComparison:
    """The main search against another arm on the same questions: difference in accuracy, and McNemar's p-value. `equal`
    names the matched quantity. `holds` is True if the interval lies above zero."""

    against: str
    equal: str
    budget: int
    difference: Interval
    p: float

    @property
    def holds(self) -> bool:
        return self.difference.low > 0


@dataclass(frozen=True, slots=True)
class Spot:
    """A point of an arm's curve: accuracy within `budget` charged tokens a question, and its mean cost."""

    budget: int
    generated: float
    flops: float | None
    accuracy: Interval


@dataclass(frozen=True, slots=True)
class Curve:
    arm: str
    role: str
    spots: tuple[Spot, ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal in words, and whether it holds; None if not tested."""

    sentence: str
    holds: bool | None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Result of a task. `guessing` is the accuracy of uniform choices, `budget` the main budget in charged tokens a
    question, and `alone` the accuracy of the checker without any model, in as many nodes as a tree may have."""

    task: str
    title: str
    checks: str
    questions: int
    guessing: float
    budget: int
    alone: float | None
    lines: tuple[Line, ...]
    versus: tuple[ArmComparison, ...]
    curves: tuple[Curve, ...]
    goals: tuple[Goal, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Budgets at which results are stated, `main` among them, and the number of parameters by scorer."""

    main: int
    budgets: tuple[int, ...]
    parameters: dict[Who, int | None]


def results(found: ExperimentResult, grid: Grid) -> list[TaskResult]:
    """One result for each task, in order."""
    return [_task(found, grid, name) for name in dict.fromkeys(r.task for r in found.records)]


def _task(found: ExperimentResult, grid: Grid, name: str) -> TaskResult:
    task = next(t for t in found.setup.tasks if t.name == name)
    by_arm = _by_arm([r for r in found.records if r.task == name])
    arms = [a for a in found.setup.arms if a.name in by_arm]
    puzzles = [p for s in found.setup.seeds for p in task.questions(s, found.setup.count)]
    alone, beside = _alone(puzzles, by_arm[MAIN], grid.budgets) if MAIN in by_arm else (None, ())
    versus = (*_comparisons(arms, by_arm, grid), *beside)
    lines = tuple(_line(a, by_arm, grid) for a in arms)
    guessing = sum(map(chance_of_guessing, puzzles)) / len(puzzles)
    return TaskResult(
        task=task.name,
        title=task.title,
        checks=task.checks,
        questions=len(puzzles),
        guessing=guessing,
        budget=grid.main,
        alone=alone,
        lines=lines,
        versus=versus,
        curves=tuple(_curve(a, by_arm, grid) for a in arms),
        goals=_goals(arms, lines, versus, grid.main, guessing),
    )


def _alone(
    puzzles: Sequence[Puzzle], main: Sequence[ArmOutcome], budgets: Sequence[int]
) -> tuple[float, tuple[ArmComparison, ...]]:
    """The checker alone: its accuracy in as many nodes as a tree may have, and the main search against it at the nodes
    that the search made on the same question."""
    whole = [blind(p, NODES, Random(at)) for at, p in enumerate(puzzles)]  # noqa: S311 - not for secrets
    found = []
    for budget in budgets:
        points = [o.at(budget) for o in main]
        nodes = [p.generated for p in points]
        right = [blind(p, n, Random(at)) for at, (p, n) in enumerate(zip(puzzles, nodes, strict=True))]  # noqa: S311 - not for secrets
        found.append(_versus(ALONE, "nodes", budget, [p.correct for p in points], right))
    return sum(whole) / len(whole), tuple(found)


def _points(arm: BenchmarkArm, by_arm: dict[str, list[ArmOutcome]], budget: int) -> list[ArmPoint]:
    """State of an arm at a budget; of an arm without a model, at the nodes that the main search had made by then."""
    outcomes = by_arm[arm.name]
    if arm.who is not Who.NOBODY or MAIN not in by_arm:
        return [o.at(budget) for o in outcomes]
    return [o.at_nodes(m.at(budget).generated) for o, m in zip(outcomes, by_arm[MAIN], strict=True)]


def _by_arm(records: Sequence[TrialRecord]) -> dict[str, list[ArmOutcome]]:
    """Outcomes by arm, each in the order of the questions."""
    found: dict[str, list[ArmOutcome]] = {}
    for record in sorted(records, key=lambda r: (r.seed, r.number)):
        found.setdefault(record.arm, []).append(record.outcome)
    return found


def _line(arm: BenchmarkArm, by_arm: dict[str, list[ArmOutcome]], grid: Grid) -> Line:
    points = _points(arm, by_arm, grid.main)
    n = len(points)
    return Line(
        arm=arm.name,
        role=arm.role.value,
        accuracy=_rate(points),
        charged=sum(p.charged for p in points) / n,
        generated=sum(p.generated for p in points) / n,
        checks=sum(p.checks for p in points) / n,
        flops=_flops(arm, points, grid.parameters),
    )


def _flops(arm: BenchmarkArm, points: Sequence[ArmPoint], parameters: dict[Who, int | None]) -> float | None:
    """2 P for each token through the model, mean over questions; None for a model of unknown size."""
    size = 0 if arm.who is Who.NOBODY else parameters.get(arm.who)
    return None if size is None else 2.0 * size * sum(p.charged for p in points) / len(points)


def _rate(points: Sequence[ArmPoint]) -> Interval:
    import numpy as np

    found = block_interval(np.array([p.correct for p in points], np.float64), draws=DRAWS)
    if found is None:
        raise ValueError("an accuracy needs at least one question")
    return found


def _curve(arm: BenchmarkArm, by_arm: dict[str, list[ArmOutcome]], grid: Grid) -> Curve:
    spots = []
    for budget in grid.budgets:
        points = _points(arm, by_arm, budget)
        generated = sum(p.generated for p in points) / len(points)
        spots.append(Spot(budget, generated, _flops(arm, points, grid.parameters), _rate(points)))
    return Curve(arm.name, arm.role.value, tuple(spots))


def _comparisons(
    arms: Sequence[BenchmarkArm], by_arm: dict[str, list[ArmOutcome]], grid: Grid
) -> tuple[ArmComparison, ...]:
    """The main search against every other arm: at each budget, and against arms without a model at equal nodes."""
    return tuple(
        _versus(
            arm.name,
            "nodes" if arm.who is Who.NOBODY else "tokens",
            budget,
            [p.correct for p in _points(main, by_arm, budget)],
            [p.correct for p in _points(arm, by_arm, budget)],
        )
        for main in arms
        if main.name == MAIN
        for arm in arms
        if arm.role is not Role.SEARCH
        for budget in grid.budgets
    )


def _versus(name: str, equal: str, budget: int, ours: Sequence[bool], theirs: Sequence[bool]) -> ArmComparison:
    difference = paired_interval(ours, theirs, draws=DRAWS)
    if difference is None:
        raise ValueError("a comparison needs at least one question")
    return ArmComparison(name, equal, budget, difference, mcnemar(ours, theirs))


def _goals(
    arms: Sequence[BenchmarkArm], lines: Sequence[Line], versus: Sequence[ArmComparison], budget: int, guessing: float
) -> tuple[Goal, ...]:
    """Goals of the benchmark. Each holds where it holds against every arm it names; None where none of them was run. A
    larger model counts only where it does better than guessing."""

    def beats(sentence: str, wanted: Callable[[BenchmarkArm], bool]) -> Goal:
        names = [a.name for a in arms if wanted(a)]
        names += [ALONE] if "same nodes" in sentence else []
        there = [v for v in versus if v.budget == budget and v.against in names]
        return Goal(sentence, all(v.holds for v in there) if there else None)

    chosen = [a for a in arms if a.role is Role.BASELINE]
    larger = any(line.role == Role.LARGER.value and line.accuracy.low > guessing for line in lines)
    return (
        beats("above random moves: same checker, same nodes", lambda a: a.who is Who.NOBODY),
        beats("above self-consistency at equal tokens", lambda a: a in chosen and a.policy == "self_consistency"),
        beats(
            "above best-of-n with the exact checker at equal tokens", lambda a: a.policy == "best_of_n" and a in chosen
        ),
        beats("above itself with shuffled or no verdicts", lambda a: a.role is Role.PLACEBO and a.who is Who.MODEL),
        beats("above the larger model without search", lambda a: larger and a.role is Role.LARGER),
    )
