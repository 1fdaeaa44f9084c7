"""The bookkeeping of one cache for a tree of prompts: what is evaluated, what is shared, what each row may see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.llm.openvino.tree import KEPT, NONE, CacheRequest, CacheStep, CacheTree, Tokens
from market.errors import EngineUnavailable

prompt = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)
batches = st.lists(st.lists(prompt, min_size=1, max_size=6), min_size=1, max_size=6)


class World:
    """Content of a cache: each cell's token, and which cells it attended to."""

    def __init__(self) -> None:
        self.cells: list[tuple[int, list[int]]] = []

    def carry_out(self, tree: CacheTree, step: CacheStep) -> None:
        if step.flush:
            del self.cells[tree.floor :]
        first = tree.top - len(step.rows)
        assert first == len(self.cells)
        for row, line in zip(step.rows, tree.mask(first, tree.top), strict=True):
            assert set(np.unique(line)) <= {0.0, -np.inf}
            self.cells.append((row.token, [int(cell) for cell in np.flatnonzero(line == 0.0)]))

    def text(self, cell: int) -> Tokens:
        """The tokens a cell saw, itself last."""
        return tuple(self.cells[seen][0] for seen in self.cells[cell][1])


@given(batches, st.integers(8, 60))
def test_every_answer_has_seen_its_prompt_and_nothing_else(asked: list[list[Tokens]], room: int) -> None:
    tree, world = CacheTree(room), World()
    for prompts in asked:
        answered: set[Tokens] = set()
        for step in tree.steps([CacheRequest(tokens) for tokens in prompts]):
            world.carry_out(tree, step)
            assert tree.top <= room
            for want, (cell,) in step.asked.items():
                assert world.text(cell) == want.tokens
                answered.add(want.tokens)
            for at, row in enumerate(step.rows, start=tree.top - len(step.rows)):
                assert row.position == len(world.text(at)) - 1
                assert row.answers == NONE or world.text(row.answers) == world.text(at)
        assert answered == set(prompts)


@given(st.lists(prompt, min_size=1, max_size=6))
def test_a_shared_beginning_is_evaluated_once_and_a_second_time_not_at_all(prompts: list[Tokens]) -> None:
    tree, wanted = CacheTree(100), [CacheRequest(tokens) for tokens in prompts]
    (step,) = tree.steps(wanted)
    assert len(step.rows) == len({tokens[: at + 1] for tokens in prompts for at in range(len(tokens))})
    (again,) = tree.steps(wanted)
    assert again.rows == () and again.asked == step.asked


def test_counting_on_a_copy_changes_nothing() -> None:
    tree = CacheTree(100)
    list(tree.steps([CacheRequest((1, 2, 3))]))
    trial = tree.copy()
    assert sum(len(step.rows) for step in trial.steps([CacheRequest((1, 2, 4)), CacheRequest((5,))])) == 2
    assert (tree.top, trial.top) == (3, 5)
    assert tree.children.keys() < trial.children.keys() and tree.known == {2: None}


def test_a_cell_that_gave_no_logits_is_evaluated_once_more_when_they_are_wanted() -> None:
    tree = CacheTree(100)
    list(tree.steps([CacheRequest((1, 2, 3))]))
    (step,) = tree.steps([CacheRequest((1, 2)), CacheRequest((1, 2, 3), last=2)])
    assert [(row.token, row.parent, row.answers) for row in step.rows] == [(2, 0, 1)]
    assert step.asked[CacheRequest((1, 2, 3), last=2)] == (1, 2)
    assert [list(np.flatnonzero(line == 0)) for line in tree.mask(3, 4)] == [[0, 3]]


def test_primed_cells_outlive_every_flush_and_stay_known() -> None:
    tree = CacheTree(KEPT * 2)
    list(tree.steps([CacheRequest((1, 2, 3))]))
    tree.floor = tree.top
    for number in range(KEPT + 50):
        list(tree.steps([CacheRequest((1, 2, 3, number, 7))]))
    assert list(next(iter(tree.steps([CacheRequest((1, 2, 3))]))).rows) == []
    assert len(tree.known) <= KEPT + 1
    tree.cut(tree.floor)
    assert tree.children == {(NONE, 1): 0, (0, 2): 1, (1, 3): 2} and tree.known == {2: None}


def test_what_does_not_fit_is_answered_in_turns_or_refused_whole() -> None:
    tree = CacheTree(10)
    prompts = [CacheRequest((number,) * 4) for number in range(4)]
    steps = list(tree.steps(prompts))
    assert len(steps) > 1 and {want for step in steps for want in step.asked} == set(prompts)
    before = tree.copy()
    with pytest.raises(EngineUnavailable, match="11 tokens does not fit the context of 10"):
        list(tree.steps([CacheRequest(tuple(range(11)))]))
    with pytest.raises(EngineUnavailable):
        list(tree.steps([CacheRequest((1, 2))], spare=9))
    assert tree == before
    with pytest.raises(ValueError, match="more logits"):
        list(tree.steps([CacheRequest((1, 2), last=3)]))
