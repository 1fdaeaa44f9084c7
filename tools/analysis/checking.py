"""Verification of a text against its tables: every number, to the digits that it is written with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tools.analysis.table import Cell, Table

_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])", re.IGNORECASE)


def unsupported(text: str, tables: Sequence[Table]) -> list[str]:
    """Numbers of a text without a matching cell or name in these tables, as written. A number matches a cell that
    rounds to it."""
    left = text
    # Longest first, so that a name that contains another is removed as a whole.
    for name in sorted(_texts(tables), key=len, reverse=True):
        left = left.replace(name, " ")
    known = list(_numbers(tables))
    return [said for said in _NUMBER.findall(left) if not any(_rounds(cell, said) for cell in known)]


def _texts(tables: Sequence[Table]) -> set[str]:
    """Texts of the tables that contain a digit, times among them."""
    found = {name for t in tables for name in (t.title, *t.columns)}
    found |= {cell for t in tables for row in t.rows for cell in row if isinstance(cell, str)}
    return {text for text in found if any(c.isdigit() for c in text)}


def _numbers(tables: Sequence[Table]) -> Iterator[float]:
    cells: Iterator[Cell] = (cell for t in tables for row in t.rows for cell in row)
    return (float(cell) for cell in cells if isinstance(cell, int | float))


def _rounds(cell: float, said: str) -> bool:
    """True if a cell, rounded to the digits of the number as written, equals it."""
    plain = said.replace(",", "").replace("\u2212", "-").rstrip(".")
    value = float(plain)
    mantissa, _, exponent = plain.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    half = 0.5 * 10.0 ** (int(exponent or 0) - decimals)
    return abs(cell - value) <= half * (1 + 1e-9)
