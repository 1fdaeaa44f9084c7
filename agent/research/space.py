"""Parameter space of a sweep: a strategy and, for some of its fields, the values to try."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np

from market.errors import Misconfigured
from storage.yaml_files import read_yaml
from strategies.base import Strategy

_MOST = 10_000
"""Maximum number of values of one field."""
Point = Mapping[str, str]
"""A value for every field, as text."""


@dataclass(frozen=True, slots=True)
class Space:
    """Parameter space of a strategy. `choices` are each field's values, in order, as text."""

    strategy: Strategy
    choices: Mapping[str, tuple[str, ...]]

    @property
    def size(self) -> int:
        return math.prod(map(len, self.choices.values()))

    def points(self, count: int, seed: int) -> list[Point]:
        """All points if there are no more than `count`, else that many different ones, drawn from a seed."""
        if self.size <= count:
            return [self._at(n) for n in range(self.size)]
        chosen = np.random.default_rng(seed).choice(self.size, count, replace=False)
        return [self._at(int(n)) for n in sorted(chosen.tolist())]

    def _at(self, number: int) -> Point:
        point = {}
        for name, values in self.choices.items():
            number, at = divmod(number, len(values))
            point[name] = values[at]
        return point

    def made(self, point: Point) -> Strategy:
        """The strategy at a point."""
        values = {name: _typed(getattr(self.strategy, name), text) for name, text in point.items()}
        made: Any = self.strategy
        changed: Strategy = replace(made, **values)
        return changed


def _typed(like: object, text: str) -> object:
    """A text converted to the type of a field's present value."""
    if isinstance(like, bool):
        return text == "True"
    if isinstance(like, int):
        return int(text)
    return Decimal(text) if isinstance(like, Decimal) else type(like)(text)  # type: ignore[call-arg]


def read_space(file: Path, known: Mapping[str, Strategy]) -> Space:
    """The space in a YAML file. Raises Misconfigured in one sentence."""
    try:
        tree: Any = read_yaml(file)
    except (OSError, ValueError):
        raise Misconfigured(f"the space {file} cannot be read as YAML.", next_step=_SEE) from None
    if (
        not isinstance(tree, dict)
        or set(tree) != {"strategy", "parameters"}
        or not isinstance(tree["parameters"], dict)
    ):
        raise Misconfigured(f"the space {file.name} needs the keys strategy and parameters.", next_step=_SEE)
    strategy = known.get(str(tree["strategy"]))
    if strategy is None:
        raise Misconfigured(f"there is no strategy {tree['strategy']}.", next_step=f"Choose one of {', '.join(known)}.")
    if not is_dataclass(strategy):
        raise Misconfigured(f"the strategy {strategy.name} has no fields to choose.", next_step="Make it a dataclass.")
    names = [f.name for f in fields(strategy) if f.name not in ("name", "once")]
    choices = {}
    for name, asked in tree["parameters"].items():
        if name not in names:
            raise Misconfigured(f"{strategy.name} has no field {name}.", next_step=f"It has {', '.join(names)}.")
        choices[str(name)] = _values(str(name), asked, getattr(strategy, name))
    if not choices:
        raise Misconfigured(f"the space {file.name} names no parameter.", next_step=_SEE)
    return Space(strategy, choices)


_SEE = "See docs/backtest.md."


def _values(name: str, asked: object, like: object) -> tuple[str, ...]:
    """A list of values, or `{from, to, step}` with both ends."""
    try:
        texts = _stepped(asked) if isinstance(asked, dict) else [str(v) for v in _listed(asked)]
        for text in texts:
            _typed(like, text)
    except (KeyError, TypeError, ValueError, InvalidOperation):
        raise Misconfigured(
            f"the values of {name} are neither a list nor {{from, to, step}} of its kind.", next_step=_SEE
        ) from None
    if not 0 < len(texts) <= _MOST:
        raise Misconfigured(f"{name} has {len(texts)} values.", next_step=f"Between 1 and {_MOST} are possible.")
    return tuple(dict.fromkeys(texts))


def _listed(asked: object) -> Sequence[object]:
    if not isinstance(asked, list):
        raise TypeError
    return asked


def _stepped(asked: Mapping[str, object]) -> list[str]:
    first, last, step = (Decimal(str(asked[key])) for key in ("from", "to", "step"))
    if step <= 0 or last < first or set(asked) != {"from", "to", "step"}:
        raise ValueError
    count = int((last - first) / step) + 1
    # One value more than the limit suffices for the caller to refuse it.
    return [str(first + n * step) for n in range(min(count, _MOST + 1))]
