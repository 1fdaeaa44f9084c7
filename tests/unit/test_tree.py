"""The search over small made-up trees: no model, no market."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.search.policies import subtree
from agent.search.stops import flip_chance
from agent.search.tree import POLICIES, OutOfBudget, Policy, Tree
from agent.search.walk import Chance, search


def run(
    policy: Policy,
    values: dict[str, float],
    *,
    batches: int = 99,
    seed: int = 0,
    answers: bool = False,
    key: Callable[[str], str | None] = lambda _: None,
) -> Tree[str]:
    """Search the tree of all words over abc, valued by a table (0.5 where it says nothing); a word's answer is its
    last letter once it is long enough."""
    left = [batches]

    async def expand(words: Sequence[str], n: int, chance: Chance | None) -> list[list[str]]:
        if left[0] == 0:
            raise OutOfBudget("tokens")
        left[0] -= 1
        if chance is None:
            return [[w + c for c in "abc"[:n]] for w in words]
        return [[w + "abc"[int(chance.random() * 3)] for _ in range(n)] for w in words]

    async def judge(words: Sequence[str]) -> list[float]:
        return [values.get(w, 0.5) for w in words]

    def answer(word: str) -> str | None:
        return word[-1] if answers and len(word) == policy.depth else None

    return asyncio.run(search("", expand, judge, policy, chance=Random(seed), answer=answer, key=key))


def named(name: str, **numbers: int) -> Policy:
    given = {"depth": 3, "branching": 3, "width": 2, "max_nodes": 999, **numbers}
    return Policy.named(name, **given)


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


def test_dvts_keeps_its_subtrees_apart() -> None:
    values = {"a": 0.9, "aa": 0.9, "ab": 0.9, "aaa": 0.9, "b": 0.1, "c": 0.1}
    tree = run(named("dvts", width=3), values)
    tops = {subtree(tree, i) for i in tree.leaves(3)}
    assert len(tops) == 3 and len(tree.visits) == 3 + 9 + 9
    kept = run(named("beam", width=2), values)
    assert {kept.visits[subtree(kept, i)].item for i in kept.leaves(3)} == {"a"}


def test_best_first_returns_to_what_it_left_behind() -> None:
    values = {"a": 0.9, "aa": 0.0, "ab": 0.0, "ac": 0.0, "b": 0.8, "ba": 0.9, "baa": 0.9}
    tree = run(named("best_first"), values)
    best = tree.incumbent()
    assert best is not None and tree.visits[best].item == "baa"


def test_best_first_stops_when_nothing_open_can_win() -> None:
    values = dict.fromkeys(("a", "aa", "aaa"), 0.99) | dict.fromkeys(("b", "c", "ab", "ac", "aab", "aac"), 0.01)
    tree = run(named("best_first"), values)
    assert tree.stop == "nothing_better" and len(tree.visits) == 9


def test_self_consistency_takes_the_most_frequent_answer_and_asks_no_judge() -> None:
    tree = run(named("self_consistency", samples=12, width=4, flip=0), {}, answers=True)
    votes = tree.votes()
    best = tree.incumbent()
    assert best is not None and votes[tree.visits[best].answer] == max(votes.values())
    assert sum(votes.values()) == 12 and {v.value for v in tree.visits} == {0.5}


def test_a_majority_that_will_not_turn_ends_the_sampling() -> None:
    policy = Policy.named("self_consistency", depth=1, branching=1, width=1, max_nodes=99, samples=50)
    seeds = [run(policy, {}, answers=True, seed=s) for s in range(20)]
    settled = [t for t in seeds if t.stop == "settled"]
    assert settled and all(flip_chance(t) < policy.flip and len(t.visits) < 50 for t in settled)


def test_best_of_n_takes_the_answer_the_judge_likes_best_and_judges_nothing_else() -> None:
    values = {a + b + c: 0.9 if c == "b" else 0.1 for a in "abc" for b in "abc" for c in "abc"} | {"a": 0.0, "b": 0.0}
    tree = run(named("best_of_n", samples=12), values, answers=True)
    best = tree.incumbent()
    assert best is not None and tree.visits[best].answer == "b"
    assert all(v.value == 0.5 for v in tree.visits if v.depth < 3)


@pytest.mark.parametrize("name", POLICIES)
def test_a_proof_ends_any_search_that_asks(name: str) -> None:
    everything = {a + b + c: 1.0 for a in "abc" for b in "abc" for c in "abc"}
    tree = run(named(name, samples=4), everything, answers=True)
    assert tree.stop in {"proved", "settled", "complete"}
    assert (tree.stop == "proved") == (name != "self_consistency")


def test_two_barren_batches_give_the_search_up() -> None:
    worthless = {a + b: 0.0 for a in ("", *"abc") for b in "abc"}
    assert run(beam(depth=5), worthless).stop == "barren"


def test_of_two_nodes_in_the_same_state_the_later_is_dropped() -> None:
    tree = run(beam(width=9, depth=2), {}, key=lambda word: "".join(sorted(word)))
    assert sorted(v.item for v in tree.visits) == ["a", "aa", "ab", "ac", "b", "bb", "bc", "c", "cc"]


def test_a_policy_that_draws_needs_a_chance() -> None:
    async def nothing(nodes: Sequence[str], *_: object) -> list[list[str]]:
        return [[] for _ in nodes]

    async def judge(nodes: Sequence[str]) -> list[float]:
        return [0.5 for _ in nodes]

    with pytest.raises(ValueError, match="needs a chance"):
        asyncio.run(search("", nothing, judge, named("best_of_n")))
    assert asyncio.run(search("", nothing, judge, named("best_first"))).visits == []


@given(
    name=st.sampled_from(sorted(POLICIES)),
    width=st.integers(1, 4),
    branching=st.integers(1, 3),
    depth=st.integers(1, 4),
    nodes=st.integers(1, 40),
    samples=st.integers(1, 6),
    seed=st.integers(0, 9),
    values=st.dictionaries(st.text("abc", min_size=1, max_size=4), st.floats(0, 1)),
)
def test_every_policy_stays_within_its_nodes_and_grows_the_same_tree_again(
    name: str, width: int, branching: int, depth: int, nodes: int, samples: int, seed: int, values: dict[str, float]
) -> None:
    policy = Policy.named(name, depth=depth, branching=branching, width=width, max_nodes=nodes, samples=samples)
    tree, again = (run(policy, values, seed=seed, answers=True) for _ in range(2))
    assert len(tree.visits) <= nodes and tree.deepest() <= depth
    assert all(v.parent is None or tree.visits[v.parent].depth == v.depth - 1 for v in tree.visits)
    assert (tree.visits, tree.stop, tree.incumbent()) == (again.visits, again.stop, again.incumbent())
    assert (tree.incumbent() is None) == (not tree.visits)


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
