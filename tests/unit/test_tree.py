"""The search over small made-up trees: no model, no market."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.search.tree import OutOfBudget, Policy, Tree, search


def run(policy: Policy, values: dict[str, float], *, batches: int = 99) -> Tree[str]:
    """Search the tree of all words over abc, valued by a table (0.5 where it says nothing)."""
    left = [batches]

    async def expand(words: Sequence[str], n: int) -> list[list[str]]:
        if left[0] == 0:
            raise OutOfBudget("tokens")
        left[0] -= 1
        return [[w + c for c in "abc"[:n]] for w in words]

    async def judge(words: Sequence[str]) -> list[float]:
        return [values.get(w, 0.5) for w in words]

    return asyncio.run(search("", expand, judge, policy))


def beam(width: int = 2, branching: int = 3, depth: int = 3, nodes: int = 999) -> Policy:
    return Policy.named("beam", depth=depth, branching=branching, width=width, max_nodes=nodes)


def test_beam_finds_what_greedy_walks_past() -> None:
    values = {"a": 0.6, "b": 0.55, "aa": 0.1, "ab": 0.1, "ac": 0.1, "ba": 0.9}
    tree = run(beam(depth=2), values)
    best = tree.incumbent()
    assert best is not None and tree.visits[best].item == "ba"
    greedy = run(Policy.named("greedy", depth=2, branching=3, width=9, max_nodes=99), values)
    best = greedy.incumbent()
    assert best is not None and greedy.visits[best].item == "aa"


def test_beam_of_two_with_three_children_makes_27_nodes_in_five_levels() -> None:
    assert len(run(beam(depth=5), {}).visits) == 3 + 4 * 6


def test_a_spent_budget_leaves_the_best_path_so_far() -> None:
    tree = run(beam(depth=5), {"a": 0.9, "ab": 0.9}, batches=2)
    assert tree.stop == "tokens"
    best = tree.incumbent()
    assert best is not None and tree.visits[best].item == "ab"


def test_no_budget_at_all_is_an_empty_tree() -> None:
    tree = run(beam(), {}, batches=0)
    assert tree.incumbent() is None and tree.visits == [] and tree.stop == "tokens"


@given(
    width=st.integers(1, 4),
    branching=st.integers(1, 3),
    depth=st.integers(1, 4),
    nodes=st.integers(1, 40),
    seed=st.dictionaries(st.text("abc", min_size=1, max_size=4), st.floats(0, 1)),
)
def test_never_more_nodes_than_allowed_and_the_same_tree_again(
    width: int, branching: int, depth: int, nodes: int, seed: dict[str, float]
) -> None:
    policy = beam(width, branching, depth, nodes)
    tree = run(policy, seed)
    assert len(tree.visits) <= nodes
    for level in range(1, depth + 1):
        parents = {tree.visits[i].parent for i in tree.leaves(level)}
        assert len(parents) <= width
    assert [v.item for v in run(policy, seed).visits] == [v.item for v in tree.visits]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown search policy"):
        Policy.named("mcts", depth=1, branching=1, width=1, max_nodes=1)
