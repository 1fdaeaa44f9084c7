"""Arithmetic chains: `7 x 8 + 2 - 3`, worked line by line, every digit a choice. Each line starts from the number
written before it, right or wrong; the checker is a calculator that looks at one digit at a time."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from random import Random

from agent.search_benchmark.task import Choice, Path

DIGITS = tuple("0123456789")
_LOW, _HIGH = 10, 99


@dataclass(frozen=True, slots=True)
class ArithmeticChain:
    """`first` x `second`, then each (sign, operand) in turn; every true result has two digits."""

    first: int
    second: int
    rest: tuple[tuple[str, int], ...]

    @property
    def opening(self) -> str:
        return f"{self.first} x {self.second}" + "".join(f" {sign} {n}" for sign, n in self.rest) + "\n"

    @property
    def depth(self) -> int:
        return 2 * (1 + len(self.rest))

    def choice(self, path: Path) -> Choice:
        line, unit = divmod(len(path), 2)
        if unit:
            return Choice("", DIGITS)
        lead = f"{self._left(path, line)} = "
        return Choice(lead if line == 0 else f"\n{lead}", DIGITS)

    def refuted(self, path: Path) -> bool:
        true = self.solution()
        return any(digit != right for digit, right in zip(path, true, strict=False))

    def answer(self, path: Path) -> Hashable:
        return int(path[-2] + path[-1]) if len(path) == self.depth else None

    def accepted(self, answer: Hashable) -> bool:
        return answer == self.results()[-1]

    def correct(self, answer: Hashable) -> bool:
        return answer == self.results()[-1]

    def key(self, path: Path) -> Hashable:
        return None

    def solution(self) -> Path:
        return tuple("".join(f"{value:02d}" for value in self.results()))

    def results(self) -> list[int]:
        """The true result of every line."""
        found = [self.first * self.second]
        for sign, n in self.rest:
            found.append(found[-1] + n if sign == "+" else found[-1] - n)
        return found

    def _left(self, path: Path, line: int) -> str:
        if line == 0:
            return f"{self.first} x {self.second}"
        sign, n = self.rest[line - 1]
        return f"{path[-2]}{path[-1]} {sign} {n}"


def chain(chance: Random, lines: int = 3) -> ArithmeticChain:
    """A product, then small steps up and down; every result lies between 10 and 99."""
    while True:
        rest = tuple((chance.choice("+-"), chance.randint(1, 3)) for _ in range(lines - 1))
        made = ArithmeticChain(chance.randint(2, 9), chance.randint(2, 9), rest)
        if all(_LOW <= value <= _HIGH for value in made.results()):
            return made
