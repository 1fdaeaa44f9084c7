"""Countdown: make a target from a few numbers, each used once. A state is the numbers that remain; a move puts two of
them together. Integers alone: results are positive and divisions leave no remainder. Sums are done by the machine; what
is chosen is which numbers and which sign. The checker sees nothing before the end, where it is exact."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from agent.search_benchmark.task import Choice, Path

SIGNS = ("+", "-", "x", "/")
Numbers = tuple[int, ...]
Step = tuple[int, str, int]


def result(a: int, sign: str, b: int) -> int | None:
    """Result of a move; None where it is not legal. The larger number stands first; multiplication and division by one
    are excluded."""
    if sign == "+":
        return a + b if a >= b else None
    if sign == "-":
        return a - b if a > b else None
    if b < 2 or a < b:
        return None
    if sign == "x":
        return a * b
    return a // b if a % b == 0 else None


def moves(numbers: Numbers) -> Iterator[tuple[Step, Numbers]]:
    """Every legal move and the numbers after it, in ascending order."""
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i == j:
                continue
            for sign in SIGNS:
                if (made := result(a, sign, b)) is not None:
                    rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
                    yield (a, sign, b), tuple(sorted([*rest, made]))


@lru_cache(maxsize=65_536)
def solve(numbers: Numbers, target: int) -> frozenset[tuple[Step, ...]]:
    """All sequences of moves that leave exactly the target, by exhaustive search. `numbers` in ascending order."""
    if len(numbers) == 1:
        return frozenset({()} if numbers[0] == target else ())
    return frozenset((step, *more) for step, after in moves(numbers) for more in solve(after, target))


@dataclass(frozen=True, slots=True)
class Countdown:
    """Three single digits and a target. A path is: first number, sign, second number, and the sign of the last move,
    whose numbers are the two that remain, the larger one first."""

    numbers: Numbers
    target: int
    depth: int = 4

    @property
    def opening(self) -> str:
        return f"numbers {' '.join(map(str, self.numbers))}, target {self.target}:"

    def choice(self, path: Path) -> Choice:
        if len(path) == 3:
            high, low = self._left(path)
            return Choice(
                f" = {self._made(path)}, {high}", _labels(s for s in SIGNS if result(high, s, low) is not None)
            )
        fitting = [step for step, _ in moves(self.numbers) if _spelled(step)[: len(path)] == path]
        lead = "" if len(path) == 1 else " "  # a digit's blank is a token of its own
        return Choice(lead, tuple(dict.fromkeys(_spelled(step)[len(path)] for step in fitting)))

    def refuted(self, path: Path) -> bool:
        return False

    def answer(self, path: Path) -> Hashable:
        """The value reached, with the moves that reached it."""
        if len(path) < self.depth:
            return None
        high, low = self._left(path)
        return result(high, path[3].strip(), low)

    def accepted(self, answer: Hashable) -> bool:
        return answer == self.target

    def correct(self, answer: Hashable) -> bool:
        return answer == self.target

    def key(self, path: Path) -> Hashable:
        if len(path) == 3:
            return self._left(path)
        return (self._left(path), path[3]) if len(path) == self.depth else None

    def solution(self) -> Path:
        first, (_, sign, _) = min(solve(self.numbers, self.target))
        return (*_spelled(first), f" {sign}")

    def _made(self, path: Path) -> int:
        made = result(int(path[0]), path[1].strip(), int(path[2]))
        if made is None:
            raise ValueError(f"{''.join(path)} is no legal move")
        return made

    def _left(self, path: Path) -> tuple[int, int]:
        rest = list(self.numbers)
        rest.remove(int(path[0]))
        rest.remove(int(path[2]))
        a, b = self._made(path), rest[0]
        return max(a, b), min(a, b)


def countdown(chance: Random) -> Countdown:
    """A puzzle that has a solution, with a target of two digits."""
    while True:
        numbers = tuple(sorted(chance.sample(range(1, 10), 3)))
        reached = sorted({last for _, after in moves(numbers) for _, (last,) in moves(after) if 10 <= last <= 99})
        if reached:
            return Countdown(numbers, chance.choice(reached))


def _spelled(step: Step) -> Path:
    a, sign, b = step
    return str(a), f" {sign}", str(b)


def _labels(signs: Iterator[str]) -> tuple[str, ...]:
    return tuple(f" {sign}" for sign in signs)
