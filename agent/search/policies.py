"""Which nodes to grow next: every search policy as a pure function of the tree so far.

`greedy` follows the best child. `beam` keeps the `width` best of each level. `dvts` grows `width` subtrees that never
compete with each other. `best_first` always grows the most promising open node, wherever it is, and every third time
the best of the subtree least visited. `self_consistency` and `best_of_n` draw `samples` independent chains, `width` at
a time; the first takes the most frequent answer and asks no judge, the second the answer the judge likes best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.search.tree import Tree


@dataclass(frozen=True, slots=True)
class Want:
    """Grow `children` from the node at index `parent`, or from the root where it is None."""

    parent: int | None
    children: int


def plan(tree: Tree[Any]) -> Sequence[Want]:
    """What to grow next, all of it in one batch; nothing ends the search."""
    return _WALKS[tree.policy.name](tree)


def subtree(tree: Tree[Any], index: int) -> int:
    """The first-level node above a node."""
    parent = tree.visits[index].parent
    while parent is not None:
        index, parent = parent, tree.visits[parent].parent
    return index


def open_nodes(tree: Tree[Any]) -> list[int]:
    """Nodes that could still be grown: not complete and not grown yet."""
    grown = set(tree.grown)
    return [i for i in range(len(tree.visits)) if i not in grown and not tree.complete(i)]


def _best(tree: Tree[Any], among: Sequence[int], count: int) -> list[int]:
    """The `count` strongest nodes, in the order they were made; the earlier one on a tie."""
    return sorted(sorted(among, key=lambda i: (-tree.strength(i), i))[:count])


def _from_root(tree: Tree[Any], children: int) -> list[Want]:
    return [] if tree.grown else [Want(None, children)]


def _beam(tree: Tree[Any]) -> Sequence[Want]:
    policy, level = tree.policy, tree.deepest()
    if not level:
        return _from_root(tree, policy.branching)
    among = [i for i in open_nodes(tree) if tree.visits[i].depth == level]
    return [Want(i, policy.branching) for i in _best(tree, among, policy.width)]


def _dvts(tree: Tree[Any]) -> Sequence[Want]:
    policy = tree.policy
    if not tree.visits:
        return _from_root(tree, policy.width)
    level = tree.deepest()
    families: dict[int, list[int]] = {}
    for i in open_nodes(tree):
        if tree.visits[i].depth == level:
            families.setdefault(subtree(tree, i), []).append(i)
    return [Want(i, policy.branching) for top in sorted(families) for i in _best(tree, families[top], 1)]


def _best_first(tree: Tree[Any]) -> Sequence[Want]:
    policy = tree.policy
    if not tree.visits:
        return _from_root(tree, policy.branching)
    among = [i for i in open_nodes(tree) if tree.visits[i].value > 0]
    if among and len(tree.grown) % 3 == 0:
        visited = Counter(subtree(tree, i) for i in range(len(tree.visits)))
        fewest = min(visited[subtree(tree, i)] for i in among)
        among = [i for i in among if visited[subtree(tree, i)] == fewest]
    return [Want(i, policy.branching) for i in _best(tree, among, 1)]


def _chains(tree: Tree[Any]) -> Sequence[Want]:
    policy = tree.policy
    if growing := open_nodes(tree):
        return [Want(i, 1) for i in growing]
    started = tree.grown.count(None)
    return [Want(None, 1)] * min(policy.width, policy.samples - started)


_WALKS: Mapping[str, Callable[[Tree[Any]], Sequence[Want]]] = {
    "greedy": _beam,
    "self_consistency": _chains,
    "best_of_n": _chains,
    "beam": _beam,
    "dvts": _dvts,
    "best_first": _best_first,
}
