"""Values of an analysis: a file's columns, computed tables, and sentences that only repeat values of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

Cell = str | int | float | None


class ColumnKind(StrEnum):
    """Kind of a column's values. A category has few values that recur; a text has many."""

    NUMBER = "number"
    TIME = "time"
    CATEGORY = "category"
    FLAG = "flag"
    TEXT = "text"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file. `distinct` excludes missing values; `constant` is true for a single value. `remark` is a
    sentence where it looks like numbers and is not understood as such, else empty."""

    name: str
    kind: ColumnKind
    missing: int
    distinct: int
    remark: str = ""

    @property
    def constant(self) -> bool:
        return self.distinct <= 1


@dataclass(frozen=True, slots=True)
class Profile:
    """A file as a whole: its number of rows, and its columns in order."""

    rows: int
    columns: tuple[Column, ...]

    def of(self, *kinds: ColumnKind) -> tuple[Column, ...]:
        """Columns of these kinds with more than one value."""
        return tuple(c for c in self.columns if c.kind in kinds and not c.constant)


@dataclass(frozen=True, slots=True)
class Chart:
    """Form of a plot: `x` and `y` name two of the table's columns."""

    shape: str
    x: str
    y: str


@dataclass(frozen=True, slots=True)
class Table:
    """A computed result. Every number stated about it is one of its cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    chart: Chart | None = None

    def column(self, name: str) -> tuple[Cell, ...]:
        at = self.columns.index(name)
        return tuple(row[at] for row in self.rows)


@dataclass(frozen=True, slots=True)
class TableFinding:
    """Result of an operation: a table, sentences about it, and its weight from 0 (nothing beyond chance) upward."""

    operation: str
    about: tuple[str, ...]
    table: Table
    says: tuple[str, ...]
    weight: float


def number(value: Cell) -> str:
    """Format a cell: counts whole, others with four significant digits at least."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value.is_integer():
        return f"{int(value):,}"
    size = abs(value)
    return f"{value:,.2f}" if size >= 100 else f"{value:.4g}" if size >= 1e-4 else f"{value:.2e}"


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
