"""The search loop over two awaitables, `expand` and `judge`, the same for every policy.

`expand` grows a batch of nodes into children, `judge` gives each child a value in [0, 1] (0 is a hard fail, 1 a proof).
The policy requests expansions (`policies.py`), one batch grows them, the stop rules are checked (`stops.py`). Anytime:
whatever ends the search, the tree's incumbent stands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from agent.search.policies import Want, plan
from agent.search.stops import enough
from agent.search.tree import NEUTRAL, Judged, OutOfBudget, Policy, Tree, Visit

T = TypeVar("T")


class Chance(Protocol):
    """Source of random draws: a seeded generator."""

    def random(self) -> float:
        """The next number in [0, 1)."""
        ...


Expand = Callable[[Sequence[T], int, Chance | None], Awaitable[Sequence[Sequence[T]]]]
"""(nodes, children requested of each, chance) -> the children of each; fewer where there are fewer. Without chance the
likeliest come, best first; with it they are drawn by their probability."""
Judge = Callable[[Sequence[T]], Awaitable[Sequence[float]]]
Name = Callable[[T], Hashable]


def _unnamed(_: object) -> None:
    return None


async def search(
    root: T,
    expand: Expand[T],
    judge: Judge[T],
    policy: Policy,
    *,
    chance: Chance | None = None,
    answer: Name[T] = _unnamed,
    key: Name[T] = _unnamed,
    worth: Callable[[Tree[T]], str] = lambda _: "",
) -> Tree[T]:
    """Grow a tree until the policy requests nothing more, a stop rule fires, or the budget ends.

    `chance` is needed by policies that draw. `answer` is what a node answers, None where it is not complete: equal
    answers are votes for the same thing. `key` names a node's state: of two with the same key the later one is dropped
    (not by policies that draw, whose repeats are votes, nor where it is None). `worth` may end the search between two
    batches for a reason of the caller's own. The same arguments always give the same tree.
    """
    if policy.traits.draws and chance is None:
        raise ValueError(f"{policy.name} draws its children and needs a chance")
    tree: Tree[T] = Tree(policy)
    grower = _Grower(
        root=root, expand=expand, judge=judge, chance=chance if policy.traits.draws else None, answer=answer, key=key
    )
    while wants := plan(tree):
        room = policy.max_nodes - len(tree.visits)
        if room <= 0:
            tree.stop = "nodes"
            break
        try:
            await grower.grow(tree, wants[:room], room)
        except OutOfBudget as spent:
            tree.stop = spent.what
            break
        if reason := enough(tree) or worth(tree):
            tree.stop = reason
            break
    return tree


@dataclass(slots=True)
class _Grower(Generic[T]):
    root: T
    expand: Expand[T]
    judge: Judge[T]
    chance: Chance | None
    answer: Name[T]
    key: Name[T]
    seen: set[Hashable] = field(default_factory=set)

    async def grow(self, tree: Tree[T], wants: Sequence[Want], room: int) -> None:
        """Expand one batch: the requested children of every node in it, at most `room` in all."""
        parents, children = [w.parent for w in wants], wants[0].children
        items = [self.root if p is None else tree.visits[p].item for p in parents]
        families = await self.expand(items, children, self.chance)
        new = [
            (parent, child)
            for parent, family in zip(parents, families, strict=True)
            for child in family[:children]
            if self._unseen(child)
        ]
        made = [self._visit(tree, parent, child) for parent, child in new[:room]]
        values = await self._values(tree, made)
        # The tree changes only after both awaits: a budget that ends in `expand` or `judge` leaves it as the last whole
        # batch made it.
        tree.grown += parents
        tree.visits += [replace(v, value=x) for v, x in zip(made, values, strict=True)]
        tree.barren = 0 if any(values) else tree.barren + 1

    def _visit(self, tree: Tree[T], parent: int | None, child: T) -> Visit[T]:
        depth = 1 if parent is None else tree.visits[parent].depth + 1
        return Visit(child, parent, depth, NEUTRAL, self.answer(child))

    async def _values(self, tree: Tree[T], made: Sequence[Visit[T]]) -> list[float]:
        """The judge's value of each node that the policy judges, NEUTRAL of the others."""
        judged = tree.policy.traits.judged
        asked = [
            judged is Judged.EVERY
            or (judged is Judged.LEAVES and (v.depth >= tree.policy.depth or v.answer is not None))
            for v in made
        ]
        wanted = [v.item for v, ask in zip(made, asked, strict=True) if ask]
        found = iter(await self.judge(wanted) if wanted else ())
        return [next(found) if ask else NEUTRAL for ask in asked]

    def _unseen(self, child: T) -> bool:
        # Repeats of a policy that draws are votes: dropping them would bias the majority.
        if self.chance is not None or (key := self.key(child)) is None:
            return True
        if key in self.seen:
            return False
        self.seen.add(key)
        return True
