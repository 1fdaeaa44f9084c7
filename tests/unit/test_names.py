"""One class, one name: whoever searches for a class finds the one that is meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "backtest", "market", "storage", "strategies", "tools")
VAGUE = {"opened", "read", "draw", "write", "keep", "load", "tell", "heed", "obey", "think"}
"""Names that a module function may not have: each stood in several modules and meant another thing in each."""


def top_level() -> Iterator[tuple[str, ast.stmt]]:
    """Every statement at the top of a module of the product, with the module's path."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for statement in ast.parse(path.read_text(encoding="utf-8")).body:
                yield path.relative_to(ROOT).as_posix(), statement


def test_no_second_public_class_of_one_name() -> None:
    places = defaultdict(list)
    for module, statement in top_level():
        if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
            places[statement.name].append(module)
    assert len(places) > 500, "the classes were found"
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_functions_say_what_they_open_read_or_draw() -> None:
    functions = [
        (module, statement.name)
        for module, statement in top_level()
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [found for found in functions if found[1] in VAGUE] == []
