"""When a search has seen enough, from the tree alone: an answer is proved, nothing open can win, the majority will not
turn, or nothing grows that is worth anything. Budgets end a search elsewhere. Pure.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

from agent.search.policies import open_nodes
from agent.search.tree import Pick, Tree

BARREN = 2
"""Batches in a row without a child worth anything, after which the search is given up."""
_NORMAL = NormalDist()


def enough(tree: Tree[Any]) -> str:
    """The reason to stop now, or empty."""
    pick = tree.policy.traits.pick
    if tree.barren >= BARREN:
        return "barren"
    if any(tree.visits[i].value >= 1 for i in tree.finished()):
        return "proved"
    if pick is Pick.PATH and _out_of_reach(tree):
        return "nothing_better"
    if pick is not Pick.LEAF and tree.policy.flip and flip_chance(tree) < tree.policy.flip:
        return "settled"
    return ""


def _out_of_reach(tree: Tree[Any]) -> bool:
    """Whether even a perfect rest of any open path would end below the incumbent."""
    ends = tree.finished()
    if not ends:
        return False
    best = max(tree.strength(i) for i in ends)
    return all(bound(tree, i) <= best for i in open_nodes(tree))


def bound(tree: Tree[Any], index: int) -> float:
    """The largest strength that a path through an open node can still come to."""
    path = [tree.visits[i].value for i in tree.path(index)]
    short = [(sum(path) + more) / (len(path) + more) for more in (1, tree.policy.depth - len(path))]
    return max(short)


def flip_chance(tree: Tree[Any]) -> float:
    """How likely the most frequent answer is not really the most frequent: Beta(1 + for, 1 + against) below a half,
    by its normal approximation; 1 before there are two answers."""
    votes = tree.votes()
    total = sum(votes.values())
    if total < 2:
        return 1.0
    won = 1 + max(votes.values())
    lost = 1 + total - max(votes.values())
    mean = won / (won + lost)
    sd = (won * lost / ((won + lost) ** 2 * (won + lost + 1))) ** 0.5
    return _NORMAL.cdf((0.5 - mean) / sd)
