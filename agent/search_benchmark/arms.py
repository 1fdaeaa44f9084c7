"""The benchmark's arms, and the search for one question by one arm: the trading agent's search, bound to a puzzle.

A node is a path of choices. Its value is 0 where the checker rules it out, 1 where the checker accepts its answer, next
to nothing where it rejects the answer (which says nothing against the rest of the tree, as a barren batch would), and
otherwise the model's own probability of its last choice. Arms differ in the policy, in who scores the labels, and in
the use of the checker's verdicts.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from agent.llm.engine import Prompt, Question
from agent.search.tree import POLICIES, Policy, Tree
from agent.search.walk import Chance, search
from agent.search_benchmark.asking import Scorer, TokenMeter
from agent.search_benchmark.task import BenchmarkTask, Path, Puzzle

NODES = 64
"""Maximum number of nodes of one tree search."""
SAMPLES = 64
"""Maximum number of chains, where tokens allow more."""
_UNSURE = 0.99


class Who(StrEnum):
    """The scorer of the labels."""

    MODEL = "model"
    LARGER = "larger model"
    NOBODY = "uniform draws"


class Verdicts(StrEnum):
    """Use of the checker's verdicts: exact, randomly permuted among the nodes of a batch, or none."""

    EXACT = "exact"
    SHUFFLED = "shuffled"
    NONE = "none"


class Role(StrEnum):
    """Role of an arm in the comparison."""

    SEARCH = "search"
    BASELINE = "baseline"
    PLACEBO = "placebo"
    LARGER = "larger"


@dataclass(frozen=True, slots=True)
class BenchmarkArm:
    """An arm. `text` arms write whole answers freely instead of choosing labels; `every` expands all labels of a node
    at once."""

    name: str
    policy: str
    role: Role
    who: Who = Who.MODEL
    verdicts: Verdicts = Verdicts.EXACT
    text: bool = False
    every: bool = False


ARMS = (
    BenchmarkArm("greedy", "greedy", Role.BASELINE, verdicts=Verdicts.NONE),
    BenchmarkArm("self-consistency", "self_consistency", Role.BASELINE),
    BenchmarkArm("best-of-n", "best_of_n", Role.BASELINE),
    BenchmarkArm("self-consistency, text", "self_consistency", Role.BASELINE, text=True),
    BenchmarkArm("best-of-n, text", "best_of_n", Role.BASELINE, text=True),
    BenchmarkArm("beam", "beam", Role.SEARCH),
    BenchmarkArm("dvts", "dvts", Role.SEARCH),
    BenchmarkArm("best-first", "best_first", Role.SEARCH),
    BenchmarkArm("random best-first", "best_first", Role.PLACEBO, Who.NOBODY),
    BenchmarkArm("every label, random order", "best_first", Role.PLACEBO, Who.NOBODY, every=True),
    BenchmarkArm("random chains", "best_of_n", Role.PLACEBO, Who.NOBODY),
    BenchmarkArm("best-first, shuffled verdicts", "best_first", Role.PLACEBO, verdicts=Verdicts.SHUFFLED),
    BenchmarkArm("best-first, no verdicts", "best_first", Role.PLACEBO, verdicts=Verdicts.NONE),
    BenchmarkArm("larger, greedy", "greedy", Role.LARGER, Who.LARGER, Verdicts.NONE),
    BenchmarkArm("larger, self-consistency", "self_consistency", Role.LARGER, Who.LARGER),
    BenchmarkArm("larger, text", "greedy", Role.LARGER, Who.LARGER, text=True),
)


@dataclass(frozen=True, slots=True)
class ArmPoint:
    """State of an arm after a batch. `charged` are tokens through the model, `generated` those it chose or wrote (a
    node for each label chosen), `checks` the verdicts requested."""

    charged: int
    generated: int
    checks: int
    correct: bool


@dataclass(frozen=True, slots=True)
class ArmOutcome:
    """Outcome of one arm on one question. `trail` has a point for every batch, the last one where it ended."""

    answer: str
    stop: str
    trail: tuple[ArmPoint, ...]

    def at(self, tokens: int) -> ArmPoint:
        """State at the last batch within `tokens`: the same as if that had been the limit."""
        within = [p for p in self.trail if p.charged <= tokens]
        return within[-1] if within else ArmPoint(0, 0, 0, correct=False)

    def at_nodes(self, nodes: int) -> ArmPoint:
        """State at the last batch within `nodes`."""
        within = [p for p in self.trail if p.generated <= nodes]
        return within[-1] if within else ArmPoint(0, 0, 0, correct=False)


@dataclass(frozen=True, slots=True)
class PathNode:
    """A path, its prompt as far as the last label, and the probability of that label."""

    path: Path
    prompt: Prompt
    probability: float = 1.0


@dataclass(slots=True)
class Solver:
    """`expand` and `judge` for one question."""

    puzzle: Puzzle
    meter: TokenMeter
    verdicts: Verdicts
    deal: Random
    checks: int = 0
    trail: list[ArmPoint] = field(default_factory=list)

    async def expand(self, nodes: Sequence[PathNode], wanted: int, chance: Chance | None) -> list[list[PathNode]]:
        """The likeliest labels after each node, or draws of them."""
        choices = [self.puzzle.choice(n.path) for n in nodes]
        prompts = [n.prompt.then(c.lead) if c.lead else n.prompt for n, c in zip(nodes, choices, strict=True)]
        rows = await self.meter.ask([Question(p, c.labels) for p, c in zip(prompts, choices, strict=True)])
        return [
            [
                PathNode((*n.path, c.labels[i]), p.then(c.labels[i]), row[i])
                for i in (_top(row, wanted) if chance is None else _drawn(row, wanted, chance))
            ]
            for n, c, p, row in zip(nodes, choices, prompts, rows, strict=True)
        ]

    async def judge(self, nodes: Sequence[PathNode]) -> list[float]:
        if self.verdicts is Verdicts.NONE:
            return [_doubtful(n) for n in nodes]
        self.checks += len(nodes)
        found = [self._holds(n) for n in nodes]
        if self.verdicts is Verdicts.SHUFFLED:
            # The same verdicts at random nodes: the placebo keeps their number and destroys their information.
            self.deal.shuffle(found)
        return [self._value(n, holds) for n, holds in zip(nodes, found, strict=True)]

    def answer(self, node: PathNode) -> Hashable:
        return self.puzzle.answer(node.path)

    def key(self, node: PathNode) -> Hashable:
        return self.puzzle.key(node.path)

    def note(self, tree: Tree[PathNode]) -> str:
        """Append the search's present state to the trail; never ends the search."""
        standing = _standing(tree)
        right = standing is not None and self.puzzle.correct(self.answer(standing))
        self.trail.append(
            ArmPoint(charged=self.meter.evaluated, generated=len(tree.visits), checks=self.checks, correct=right)
        )
        return ""

    def _holds(self, node: PathNode) -> bool:
        answer = self.answer(node)
        return not self.puzzle.refuted(node.path) if answer is None else self.puzzle.accepted(answer)

    def _value(self, node: PathNode, holds: bool) -> float:
        if self.answer(node) is None:
            return _doubtful(node) if holds else 0.0
        return 1.0 if holds else 1 - _UNSURE


async def solve(
    task: BenchmarkTask,
    puzzle: Puzzle,
    arm: BenchmarkArm,
    scorer: Scorer,
    prefix: Prompt,
    *,
    seed: str,
    limit: int | None = None,
) -> ArmOutcome:
    """Answer a question by search. `limit` is in charged tokens; the same arguments give the same outcome."""
    meter = TokenMeter(scorer, limit, base=len(prefix.segments))
    solver = Solver(puzzle, meter, arm.verdicts, Random(f"{seed}:deal"))  # noqa: S311 - not for secrets
    policy = _policy(arm, task, puzzle.depth)
    tree = await search(
        PathNode((), prefix.then(puzzle.opening)),
        solver.expand,
        solver.judge,
        policy,
        chance=Random(seed),  # noqa: S311 - not for secrets
        answer=solver.answer,
        key=solver.key,
        worth=solver.note,
    )
    solver.note(tree)
    standing = _standing(tree)
    said = "" if standing is None else "".join(standing.path)
    return ArmOutcome(said, tree.stop, tuple(solver.trail))


def _policy(arm: BenchmarkArm, task: BenchmarkTask, depth: int) -> Policy:
    """The arm's policy. Chains are drawn one after the other, so that a token limit cuts them as late as possible.
    Those that ask the model may have more nodes than a tree; the random ones may not, or the comparison would not be at
    equal nodes."""
    chains = POLICIES[arm.policy].draws
    nodes = SAMPLES * depth if chains and arm.who is not Who.NOBODY else NODES
    width = 1 if chains else task.width
    branching = NODES if arm.every else task.branching
    return Policy.named(
        arm.policy, depth=depth, branching=branching, width=width, max_nodes=nodes, samples=SAMPLES, flip=0.0
    )


def _standing(tree: Tree[PathNode]) -> PathNode | None:
    """The incumbent, if it has an answer."""
    index = tree.incumbent()
    return None if index is None or tree.visits[index].answer is None else tree.visits[index].item


def _doubtful(node: PathNode) -> float:
    """The model's own probability, clipped so that it is never a proof nor a refutation."""
    return min(max(node.probability, 1 - _UNSURE), _UNSURE)


def _top(row: Sequence[float], wanted: int) -> list[int]:
    """Indices of the largest entries; the earlier one on a tie."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))[:wanted]


def _drawn(row: Sequence[float], wanted: int, chance: Chance) -> list[int]:
    """Indices drawn by their probability."""
    return [_place(row, chance.random()) for _ in range(wanted)]


def _place(row: Sequence[float], at: float) -> int:
    for index, share in enumerate(row):
        at -= share
        if at < 0:
            return index
    return len(row) - 1
