"""Search policies: pure functions from the tree so far to the next batch of expansions.

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
    """An expansion request: grow `children` from the node at index `parent`, or from the root where it is None."""

    parent: int | None
    children: int


def plan(tree: Tree[Any]) -> Sequence[Want]:
    """The next batch of expansions by the tree's policy; empty ends the search."""
    return _WALKS[tree.policy.name](tree)


def subtree(tree: Tree[Any], index: int) -> int:
    """Index of the first-level ancestor of a node (the node itself at the first level)."""
    parent = tree.visits[index].parent
    while parent is not None:
        index, parent = parent, tree.visits[parent].parent
    return index


def open_nodes(tree: Tree[Any]) -> list[int]:
    """Indices of the nodes that can still be expanded: neither complete nor expanded yet."""
    grown = set(tree.grown)
    return [i for i in range(len(tree.visits)) if i not in grown and not tree.complete(i)]


def _best(tree: Tree[Any], among: Sequence[int], count: int) -> list[int]:
    """Indices of the `count` strongest nodes, in creation order; the earlier one wins a tie."""
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
    # Else one subtree with slightly higher values could take every batch: every third batch goes to the
    # least visited one.
    if among and len(tree.grown) % 3 == 0:
        visited = Counter(subtree(tree, i) for i in range(len(tree.visits)))
        fewest = min(visited[subtree(tree, i)] for i in among)
        among = [i for i in among if visited[subtree(tree, i)] == fewest]
    return [Want(i, policy.branching) for i in _best(tree, among, 1)]


def _chains(tree: Tree[Any]) -> Sequence[Want]:
    policy = tree.policy
    if growing := open_nodes(tree):
        return [Want(i, 1) for i in growing]
    # Every draw from the root is one chain, so expansions of the root count the chains.
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
