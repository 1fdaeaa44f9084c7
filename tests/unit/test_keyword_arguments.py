"""Classes with several arguments of one type take them by keyword: two numbers that change places are no type error."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "backtest", "market", "storage", "strategies", "tools")
SIMPLE = {"int": "int", "Micro": "int", **{name: name for name in ("float", "str", "Decimal", "datetime", "bool")}}
"""Annotations whose values are told apart by their place alone; micro-dollars are integers."""
ALIKE, POSITIONAL = 3, 3
"""A class with so many arguments of one type may be given so many by place."""
MOST = 5
"""No class is given more by place, whatever their types."""


@dataclass(frozen=True)
class Module:
    """A source file and what its names mean: other modules, or members of them."""

    name: str
    tree: ast.Module
    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, text: str) -> Module:
        module = cls(name, ast.parse(text))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                module.names.update({a.asname or a.name: a.name for a in node.names})
            elif isinstance(node, ast.ImportFrom) and node.module:
                module.names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
            elif isinstance(node, ast.ClassDef):
                module.names[node.name] = f"{name}.{node.name}"
        return module

    def meaning(self, node: ast.expr) -> str:
        """The full name of what an expression names, or nothing."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, "")
        if isinstance(node, ast.Attribute):
            return f"{self.meaning(node.value)}.{node.attr}"
        return ""


def _decorator(node: ast.ClassDef) -> ast.expr | None:
    """The one that makes a dataclass of it."""
    made = (d for d in node.decorator_list if "dataclass" in ast.unparse(d).split("(")[0])
    return next(made, None)


def _by_keyword_alone(value: ast.expr | None) -> bool:
    """True where a field takes no place in the call."""
    options = value.keywords if isinstance(value, ast.Call) and ast.unparse(value.func) == "field" else []
    return any((o.arg, ast.unparse(o.value)) in {("init", "False"), ("kw_only", "True")} for o in options)


def _fields(node: ast.ClassDef, decorator: ast.expr) -> dict[str, str]:
    """A dataclass's own arguments by place, with their annotations."""
    if "kw_only=True" in ast.unparse(decorator):
        return {}
    found = {}
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            kind = ast.unparse(one.annotation)
            if kind == "KW_ONLY":
                break
            if not kind.startswith("ClassVar") and not _by_keyword_alone(one.value):
                found[one.target.id] = kind
    return found


def _arguments(node: ast.ClassDef) -> dict[str, str] | None:
    """Arguments by place of a class that says which it takes, with their annotations."""
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            given = [*one.args.posonlyargs, *one.args.args][1:]
            return {a.arg: "" if a.annotation is None else ast.unparse(a.annotation) for a in given}
    decorator = _decorator(node)
    if decorator is not None:
        return _fields(node, decorator)
    named_tuple = any(ast.unparse(base) == "NamedTuple" for base in node.bases)
    return _fields(node, ast.Name("NamedTuple")) if named_tuple else None


def classes(modules: Sequence[Module]) -> dict[str, dict[str, str]]:
    """Every class by its full name with its arguments by place; a dataclass has those of its bases first."""
    nodes = {f"{m.name}.{n.name}": (m, n) for m in modules for n in ast.walk(m.tree) if isinstance(n, ast.ClassDef)}

    @lru_cache
    def arguments(name: str) -> dict[str, str] | None:
        module, node = nodes[name]
        own = _arguments(node)
        written = any(isinstance(n, ast.FunctionDef) and n.name == "__init__" for n in node.body)
        if own is not None and written:
            return own
        bases = [b for base in node.bases if (b := module.meaning(base)) in nodes]
        inherited = [taken for base in bases if (taken := arguments(base)) is not None]
        before = {name: kind for taken in inherited for name, kind in taken.items()}
        return {**before, **own} if own is not None else before if inherited else None

    return {name: taken for name in nodes if (taken := arguments(name)) is not None}


def alike(arguments: Mapping[str, str]) -> bool:
    """True where several arguments by place are of one simple type."""
    kinds = (kind.removesuffix(" | None") for kind in arguments.values())
    return max(Counter(SIMPLE[k] for k in kinds if k in SIMPLE).values(), default=0) >= ALIKE


def calls(module: Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call of something that has a name; `cls(...)` is a call of the class it stands in."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                own = isinstance(child.func, ast.Name) and child.func.id == "cls"
                yield inside if own else module.meaning(child.func), child
            yield from walk(child, f"{module.name}.{child.name}" if isinstance(child, ast.ClassDef) else inside)

    yield from walk(module.tree, "")


def by_place(modules: Sequence[Module]) -> list[str]:
    """Calls that give too many arguments by place, by file and line."""
    most = {name: POSITIONAL if alike(taken) else MOST for name, taken in classes(modules).items()}
    return [
        f"{module.name}:{call.lineno}: {name.rpartition('.')[2]} is given {len(call.args)} by place"
        for module in modules
        for name, call in calls(module)
        if name in most and len(call.args) > most[name]
    ]


def product() -> list[Module]:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in files]
    return [Module.read(n.removesuffix(".__init__"), p.read_text()) for n, p in zip(names, files, strict=True)]


def test_classes_with_several_arguments_of_one_type_are_called_by_keyword() -> None:
    assert by_place(product()) == []


SHAPES = """
from dataclasses import dataclass, field
from typing import NamedTuple

@dataclass
class Alike:
    a: int
    b: Micro
    c: int | None
    d: str = ""
    e: list[int] = field(init=False)

class Below(Alike):
    @classmethod
    def of(cls):
        return cls(1, 2, 3, "")

@dataclass(kw_only=True)
class Named:
    a: int
    b: int
    c: int

class Written:
    def __init__(self, a: str, b: str, c: str, d: str) -> None: ...

class Row(NamedTuple):
    a: float
    b: float
    c: float
    d: float

@dataclass
class Mixed:
    a: int
    b: str
    c: float
    d: int
    e: str
    f: float
"""
CALLS = """
import shapes
from shapes import Alike, Mixed, Row as R

def made():
    R(1.0, 2.0, 3.0, d=4.0)
    R(1.0, 2.0, 3.0, 4.0)
    Alike(1, 2, 3, "")
    shapes.Written("a", "b", "c", "d")
    Mixed(1, "", 2.0, 3, "")
    Mixed(1, "", 2.0, 3, "", 4.0)
    nobody(1, 2, 3, 4)
"""


def test_the_rule_sees_every_way_to_make_one() -> None:
    found = by_place([Module.read("shapes", SHAPES), Module.read("calls", CALLS)])
    assert found == [
        "shapes:16: Below is given 4 by place",
        "calls:7: Row is given 4 by place",
        "calls:8: Alike is given 4 by place",
        "calls:9: Written is given 4 by place",
        "calls:11: Mixed is given 6 by place",
    ]
