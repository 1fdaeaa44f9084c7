"""Stop rules of a search, from the tree alone: an answer is proved, nothing open can win, the majority is settled, or
expansions yield nothing of value. Budgets end a search elsewhere. Pure."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

from agent.search.policies import open_nodes
from agent.search.tree import Pick, Tree

BARREN = 2
"""Consecutive batches without a child of positive value after which the search stops."""
_NORMAL = NormalDist()


def enough(tree: Tree[Any]) -> str:
    """The reason to stop now, or an empty string."""
    pick = tree.policy.traits.pick
    if tree.barren >= BARREN:
        return "barren"
    # 1 is a proof by the judge's own scale, so no other answer can be better.
    if any(tree.visits[i].value >= 1 for i in tree.finished()):
        return "proved"
    if pick is Pick.PATH and _out_of_reach(tree):
        return "nothing_better"
    if pick is not Pick.LEAF and tree.policy.flip and flip_chance(tree) < tree.policy.flip:
        return "settled"
    return ""


def _out_of_reach(tree: Tree[Any]) -> bool:
    """True if even a perfect continuation of every open path would end below the incumbent."""
    ends = tree.finished()
    if not ends:
        return False
    best = max(tree.strength(i) for i in ends)
    return all(bound(tree, i) <= best for i in open_nodes(tree))


def bound(tree: Tree[Any], index: int) -> float:
    """Upper bound on the strength of a complete path through an open node."""
    path = [tree.visits[i].value for i in tree.path(index)]
    # Strength is a mean: with every further node worth 1 it is monotone in their number, so one of the two ends (one
    # more, or down to full depth) is the largest.
    short = [(sum(path) + more) / (len(path) + more) for more in (1, tree.policy.depth - len(path))]
    return max(short)


def flip_chance(tree: Tree[Any]) -> float:
    """Probability that the leading answer is not the true majority: Beta(1 + for, 1 + against) below one half, by its
    normal approximation; 1.0 with fewer than two votes."""
    votes = tree.votes()
    total = sum(votes.values())
    if total < 2:
        return 1.0
    won = 1 + max(votes.values())
    lost = 1 + total - max(votes.values())
    mean = won / (won + lost)
    sd = (won * lost / ((won + lost) ** 2 * (won + lost + 1))) ** 0.5
    return _NORMAL.cdf((0.5 - mean) / sd)
