"""What an analysis is made of: a file's columns, computed tables, and sentences that only repeat what a table says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

Cell = str | int | float | None


class ColumnKind(StrEnum):
    """What a column holds. A category has few values that come back; a text has many."""

    NUMBER = "number"
    TIME = "time"
    CATEGORY = "category"
    FLAG = "flag"
    TEXT = "text"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file. `distinct` leaves missing values out; `constant` is true where there is one value alone."""

    name: str
    kind: ColumnKind
    missing: int
    distinct: int

    @property
    def constant(self) -> bool:
        return self.distinct <= 1


@dataclass(frozen=True, slots=True)
class Profile:
    """A file as a whole: how many rows there are, and its columns in their order."""

    rows: int
    columns: tuple[Column, ...]

    def of(self, *kinds: ColumnKind) -> tuple[Column, ...]:
        """The columns of these kinds that hold more than one value."""
        return tuple(c for c in self.columns if c.kind in kinds and not c.constant)


@dataclass(frozen=True, slots=True)
class Chart:
    """How a table is drawn: `x` and `y` name two of its columns."""

    shape: str
    x: str
    y: str


@dataclass(frozen=True, slots=True)
class Table:
    """A computed result. Every number that is said about it is one of its cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    chart: Chart | None = None

    def column(self, name: str) -> tuple[Cell, ...]:
        at = self.columns.index(name)
        return tuple(row[at] for row in self.rows)


@dataclass(frozen=True, slots=True)
class TableFinding:
    """What an operation found: a table, what it comes to in plain sentences, and how much it stands out, from 0
    (nothing that chance would not do) upward."""

    operation: str
    about: tuple[str, ...]
    table: Table
    says: tuple[str, ...]
    weight: float


def number(value: Cell) -> str:
    """A cell as it is written everywhere: counts whole, others with four significant digits at least."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value.is_integer():
        return f"{int(value):,}"
    size = abs(value)
    return f"{value:,.2f}" if size >= 100 else f"{value:.4g}" if size >= 1e-4 else f"{value:.2e}"


def listed(names: Sequence[str]) -> str:
    """Names as they are said: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
