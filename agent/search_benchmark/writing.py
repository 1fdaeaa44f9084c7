"""Free-text baselines: whole answers written freely after worked examples, then parsed strictly.

The number of samples is what the limit has room for, so that no sample is cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from agent.llm.engine import Prompt, Sampling
from agent.search.tree import POLICIES, Pick
from agent.search_benchmark.arms import ArmOutcome, ArmPoint, BenchmarkArm
from agent.search_benchmark.asking import Merged
from agent.search_benchmark.task import BenchmarkTask, Puzzle, read_path, written

TEMPERATURE = 0.7
MOST = 4
"""Maximum number of samples: more than the main budget has room for."""


def longest(task: BenchmarkTask, model: Merged) -> int:
    """Token limit of an answer: the longest worked example and a little more."""
    puzzles = task.questions(-1, task.examples)
    return max(model.tokens(written(p, p.solution())) for p in puzzles) + 2


async def write_answer(
    task: BenchmarkTask, puzzle: Puzzle, arm: BenchmarkArm, model: Merged, prefix: Prompt, *, seed: int, limit: int
) -> ArmOutcome:
    """Answer a question in free text. The tokens of a sample are the mean over the samples of the call."""
    opening, room = model.tokens(puzzle.opening), longest(task, model)
    several = POLICIES[arm.policy].draws
    count = min(MOST, max(1, (limit - opening) // room)) if several else 1
    sampling = Sampling(TEMPERATURE if several else 0.0, seed)
    made = await model.write(prefix.then(puzzle.opening), max_tokens=room, n=count, sampling=sampling)
    answers = [puzzle.answer(read_path(puzzle, text)) for text in made.texts]
    each = made.usage.generated / count
    checked = POLICIES[arm.policy].pick is Pick.LEAF
    trail = [
        ArmPoint(
            charged=opening + round(each * n),
            generated=round(each * n),
            checks=n if checked else 0,
            correct=puzzle.correct(_chosen(puzzle, answers[:n], checked=checked)),
        )
        for n in range(1, count + 1)
    ]
    said = made.texts[0] if count == 1 else str(_chosen(puzzle, answers, checked=checked))
    return ArmOutcome(said, "complete", tuple(trail))


def _chosen(puzzle: Puzzle, answers: Sequence[Hashable], *, checked: bool) -> Hashable:
    """The first answer that the checker accepts, or the most frequent readable one; else None."""
    readable = [a for a in answers if a is not None]
    if checked:
        return next((a for a in readable if puzzle.accepted(a)), None)
    return max(readable, key=Counter(readable).__getitem__, default=None)
