"""Tree search over two awaitables; has never heard of a model, a market or a database.

`expand` grows a batch of nodes into children, `judge` gives each child a value in [0, 1] (0 is a hard fail). Greedy and
beam are the same walk with another width and branching. The search is anytime: whatever stops it, the best complete
path seen so far stands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

Expand = Callable[[Sequence[T], int], Awaitable[Sequence[Sequence[T]]]]
"""(nodes, children wanted of each) -> the children of each, best first; fewer where there are fewer."""
Judge = Callable[[Sequence[T]], Awaitable[Sequence[float]]]


class OutOfBudget(Exception):
    """Raised by `expand` or `judge` to end the search: there is not enough left for the batch that was asked for."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True)
class Policy:
    """`greedy` follows one child, `beam` keeps `width` nodes of each level and grows `branching` from each."""

    name: str
    depth: int
    branching: int
    width: int
    max_nodes: int

    @classmethod
    def named(cls, name: str, *, depth: int, branching: int, width: int, max_nodes: int) -> Policy:
        if name == "greedy":
            return cls(name, depth, 1, 1, max_nodes)
        if name == "beam":
            return cls(name, depth, branching, width, max_nodes)
        raise ValueError(f"unknown search policy {name!r}")


@dataclass(frozen=True, slots=True)
class Visit(Generic[T]):
    """A node as the search met it. `parent` is an index into the tree's visits, None at the first level."""

    item: T
    parent: int | None
    depth: int
    value: float


@dataclass(slots=True)
class Tree(Generic[T]):
    """All nodes in the order they were made; `stop` says why the search ended."""

    visits: list[Visit[T]] = field(default_factory=list)
    stop: str = "complete"

    def path(self, index: int) -> list[int]:
        """Indices from the first level down to `index`."""
        found: list[int] = []
        at: int | None = index
        while at is not None:
            found.append(at)
            at = self.visits[at].parent
        return found[::-1]

    def leaves(self, depth: int) -> list[int]:
        return [i for i, v in enumerate(self.visits) if v.depth == depth]

    def incumbent(self) -> int | None:
        """The deepest node, and among those the one with the best path: mean value, earliest first on a tie."""
        if not self.visits:
            return None
        deepest = max(v.depth for v in self.visits)
        return max(self.leaves(deepest), key=lambda i: (self.strength(i), -i))

    def strength(self, index: int) -> float:
        """Mean value along the path to a node: one weak link weighs as much at any depth."""
        values = [self.visits[i].value for i in self.path(index)]
        return sum(values) / len(values)


async def search(root: T, expand: Expand[T], judge: Judge[T], policy: Policy) -> Tree[T]:
    """Grow a tree level by level until it is deep enough, nothing grows, or the budget ends."""
    tree: Tree[T] = Tree()
    level: list[tuple[int | None, T]] = [(None, root)]
    for depth in range(1, policy.depth + 1):
        room = policy.max_nodes - len(tree.visits)
        if room <= 0:
            tree.stop = "nodes"
            break
        try:
            made = await _grow(tree, level, expand, judge, policy.branching, depth, room)
        except OutOfBudget as spent:
            tree.stop = spent.what
            break
        if not made:
            tree.stop = "nothing_grows"
            break
        level = _best(tree, made, policy.width)
    return tree


async def _grow(
    tree: Tree[T],
    level: Sequence[tuple[int | None, T]],
    expand: Expand[T],
    judge: Judge[T],
    branching: int,
    depth: int,
    room: int,
) -> list[int]:
    """One level: every child of every kept node, at most `room` of them; returns their indices."""
    families = await expand([item for _, item in level], branching)
    grown = [
        (parent, child) for (parent, _), children in zip(level, families, strict=True) for child in children[:branching]
    ][:room]
    values = await judge([child for _, child in grown])
    first = len(tree.visits)
    for (parent, child), value in zip(grown, values, strict=True):
        tree.visits.append(Visit(child, parent, depth, value))
    return list(range(first, len(tree.visits)))


def _best(tree: Tree[T], made: Sequence[int], width: int) -> list[tuple[int | None, T]]:
    kept = sorted(made, key=lambda i: (-tree.strength(i), i))[:width]
    return [(i, tree.visits[i].item) for i in sorted(kept)]
