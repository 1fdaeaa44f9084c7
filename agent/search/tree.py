"""Values of a tree search: the policy's parameters, the visited nodes, and the choice of the incumbent.

Pure; depends on no model, market or database, and expands nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")

NEUTRAL = 0.5
"""Value of a node that is not judged."""


class OutOfBudget(Exception):
    """Raised by `expand` or `judge` to end the search: there is not enough left for the batch that was asked for."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Judged(StrEnum):
    """The nodes that the judge values."""

    EVERY = "every"
    LEAVES = "leaves"
    NONE = "none"


class Pick(StrEnum):
    """The rule that chooses the incumbent among complete nodes."""

    PATH = "path"
    LEAF = "leaf"
    VOTE = "vote"


@dataclass(frozen=True, slots=True)
class Traits:
    """Properties of a policy. `draws`: children are sampled by their probability, with repeats. `levelwise`: every
    batch lies one level below the one before, so that the deepest node tells how many batches remain."""

    draws: bool = False
    levelwise: bool = True
    judged: Judged = Judged.EVERY
    pick: Pick = Pick.PATH


POLICIES = {
    "greedy": Traits(),
    "self_consistency": Traits(True, False, Judged.NONE, Pick.VOTE),
    "best_of_n": Traits(True, False, Judged.LEAVES, Pick.LEAF),
    "beam": Traits(),
    "dvts": Traits(),
    "best_first": Traits(levelwise=False),
}
"""All policies by name; `agent/search/policies.py` implements them."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A name and its numbers. `depth` levels at most, `branching` children of a node, `width` paths (or subtrees, or
    chains at a time), `max_nodes` in all, `samples` chains. A search ends early once the chance that the most
    frequent answer is not the right majority is below `flip` (0 never ends it)."""

    name: str
    depth: int
    branching: int
    width: int
    max_nodes: int
    samples: int = 1
    flip: float = 0.05

    @classmethod
    def named(
        cls, name: str, *, depth: int, branching: int, width: int, max_nodes: int, samples: int = 1, flip: float = 0.05
    ) -> Policy:
        """A policy by its name. Raises ValueError for an unknown name."""
        if name not in POLICIES:
            raise ValueError(f"unknown search policy {name!r}")
        if name == "greedy":
            branching = width = 1
        return cls(
            name=name,
            depth=depth,
            branching=branching,
            width=width,
            max_nodes=max_nodes,
            samples=samples if POLICIES[name].draws else 1,
            flip=flip,
        )

    @property
    def traits(self) -> Traits:
        return POLICIES[self.name]


@dataclass(frozen=True, slots=True)
class Visit(Generic[T]):
    """A visited node. `parent` is an index into the tree's visits, None at the first level; `value` lies in [0, 1];
    `answer` is set where the node is complete."""

    item: T
    parent: int | None
    depth: int
    value: float
    answer: Hashable = None


@dataclass(slots=True)
class Tree(Generic[T]):
    """All nodes in creation order; `stop` is the reason the search ended. `grown` are the nodes that were
    expanded, in order (None is the root), and `barren` counts the latest batches without a child of positive value."""

    policy: Policy
    visits: list[Visit[T]] = field(default_factory=list)
    grown: list[int | None] = field(default_factory=list)
    barren: int = 0
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

    def deepest(self) -> int:
        return max((v.depth for v in self.visits), default=0)

    def complete(self, index: int) -> bool:
        """True if this node is not expanded any further: it is at full depth, or it gives an answer."""
        visit = self.visits[index]
        return visit.depth >= self.policy.depth or visit.answer is not None

    def finished(self) -> list[int]:
        """The complete nodes."""
        return [i for i in range(len(self.visits)) if self.complete(i)]

    def strength(self, index: int) -> float:
        """Mean value along the path to a node: one weak link weighs as much at any depth."""
        values = [self.visits[i].value for i in self.path(index)]
        return sum(values) / len(values)

    def votes(self) -> Counter[Hashable]:
        """Number of complete nodes by answer; nodes without an answer do not vote."""
        return Counter(a for i in self.finished() if (a := self.visits[i].answer) is not None)

    def incumbent(self) -> int | None:
        """Index of the node that stands if the search ends here; None before the first. By the policy: the complete
        node with the best path, or with the best value of its own, or the first one with the most frequent answer;
        where nothing is complete, the deepest node with the best path. The earliest wins a tie."""
        ends = self.finished()
        if not ends:
            level = self.leaves(self.deepest())
            return max(level, key=lambda i: (self.strength(i), -i), default=None)
        if self.policy.traits.pick is Pick.VOTE:
            votes = self.votes()
            return max(ends, key=lambda i: (votes[self.visits[i].answer], -i))
        if self.policy.traits.pick is Pick.LEAF:
            return max(ends, key=lambda i: (self.visits[i].value, -i))
        return max(ends, key=lambda i: (self.strength(i), -i))
