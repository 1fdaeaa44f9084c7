"""Whether what a text says is in the tables it is about: every number, each to the digits that it is written with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tools.analysis.table import Cell, Table

_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])", re.IGNORECASE)


def unsupported(text: str, tables: Sequence[Table]) -> list[str]:
    """Numbers of a text that no cell and no name of these tables has, as they are written. A number stands for a cell
    that rounds to it."""
    left = text
    for name in sorted(_texts(tables), key=len, reverse=True):
        left = left.replace(name, " ")
    known = list(_numbers(tables))
    return [said for said in _NUMBER.findall(left) if not any(_rounds(cell, said) for cell in known)]


def _texts(tables: Sequence[Table]) -> set[str]:
    """What stands in the tables in words, times among them, that has a digit in it."""
    found = {name for t in tables for name in (t.title, *t.columns)}
    found |= {cell for t in tables for row in t.rows for cell in row if isinstance(cell, str)}
    return {text for text in found if any(c.isdigit() for c in text)}


def _numbers(tables: Sequence[Table]) -> Iterator[float]:
    cells: Iterator[Cell] = (cell for t in tables for row in t.rows for cell in row)
    return (float(cell) for cell in cells if isinstance(cell, int | float))


def _rounds(cell: float, said: str) -> bool:
    """Whether a cell, rounded to the digits of what was said, is what was said."""
    plain = said.replace(",", "").replace("\u2212", "-").rstrip(".")
    value = float(plain)
    mantissa, _, exponent = plain.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    half = 0.5 * 10.0 ** (int(exponent or 0) - decimals)
    return abs(cell - value) <= half * (1 + 1e-9)
