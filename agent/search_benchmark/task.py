"""Tasks: questions made from a seed, answered by closed choices, with an exact checker. Independent of any model."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from random import Random
from typing import Protocol

Path = tuple[str, ...]
"""The labels chosen so far, from the first on."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The text forced before a choice, and the labels to choose from."""

    lead: str
    labels: tuple[str, ...]


class Puzzle(Protocol):
    """One question. A path is complete after `depth` choices or where it has an answer."""

    @property
    def opening(self) -> str:
        """The question in words, appended to the worked examples."""
        ...

    @property
    def depth(self) -> int: ...

    def choice(self, path: Path) -> Choice:
        """The next choice below an incomplete path."""
        ...

    def refuted(self, path: Path) -> bool:
        """True if the checker can already rule the path out. Never true of a path that can still be right."""
        ...

    def answer(self, path: Path) -> Hashable:
        """The answer of a complete path; None for an incomplete one."""
        ...

    def accepted(self, answer: Hashable) -> bool:
        """The checker's verdict on an answer, from what the search may be told."""
        ...

    def correct(self, answer: Hashable) -> bool:
        """True if the answer is right: the score, which is never shown to a search."""
        ...

    def key(self, path: Path) -> Hashable:
        """Key of the state that a path leads to, None where every path is a state of its own."""
        ...

    def solution(self) -> Path:
        """A path to a right answer: for the worked examples and the tests."""
        ...


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """A generator of questions, and the width of their search. `checks` describes the checker."""

    name: str
    title: str
    checks: str
    branching: int
    width: int
    examples: int
    make: Callable[[Random], Puzzle]

    def questions(self, seed: int, count: int) -> list[Puzzle]:
        """`count` questions, always the same ones for a seed."""
        # A seed per question: the n-th one does not depend on how many are made.
        return [self.make(Random(f"{self.name}:{seed}:{at}")) for at in range(count)]  # noqa: S311 - not for secrets

    def prefix(self) -> str:
        """Worked examples from a seed of their own, in the form that a search continues."""
        return "".join(f"{p.opening}{written(p, p.solution())}\n\n" for p in self.questions(-1, self.examples))


def written(puzzle: Puzzle, path: Path) -> str:
    """A path as text: every lead and label."""
    return "".join(puzzle.choice(path[:at]).lead + label for at, label in enumerate(path))


def read_path(puzzle: Puzzle, text: str) -> Path:
    """The path spelled by a text, as far as it keeps to the form."""
    path: Path = ()
    while len(path) < puzzle.depth and puzzle.answer(path) is None:
        choice = puzzle.choice(path)
        rest = text.removeprefix(choice.lead)
        label = max((x for x in choice.labels if rest.startswith(x)), key=len, default=None)
        if label is None or not text.startswith(choice.lead):
            return path
        path, text = (*path, label), rest.removeprefix(label)
    return path


def chance_of_guessing(puzzle: Puzzle, *, draws: int = 400, seed: int = 0) -> float:
    """Accuracy of uniform choices, from `draws` of them."""
    chance = Random(seed)  # noqa: S311 - not for secrets
    return sum(puzzle.correct(puzzle.answer(_guessed(puzzle, chance))) for _ in range(draws)) / draws


def _guessed(puzzle: Puzzle, chance: Random) -> Path:
    path: Path = ()
    while len(path) < puzzle.depth and puzzle.answer(path) is None:
        path = (*path, chance.choice(puzzle.choice(path).labels))
    return path


def blind(puzzle: Puzzle, nodes: int, chance: Random) -> bool:
    """The checker without a model: depth first through every label in random order, skipping what it rules out, until
    it accepts an answer or `nodes` labels were tried; True if that answer is right."""
    stack: list[Path] = [()]
    while stack:
        path = stack.pop()
        labels = puzzle.choice(path).labels
        for label in chance.sample(labels, len(labels)):
            if nodes == 0:
                return False
            nodes -= 1
            child = (*path, label)
            if (answer := puzzle.answer(child)) is None:
                stack += [] if puzzle.refuted(child) else [child]
            elif puzzle.accepted(answer):
                return puzzle.correct(answer)
    return False
