"""Budgets: never one token too many, in any order of reservations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.budget import Budget, Limits
from agent.llm.engine import Usage
from agent.search.tree import OutOfBudget
from storage.records import Phase

calls = st.lists(st.tuples(st.sampled_from(list(Phase)), st.integers(0, 300), st.integers(0, 300)), max_size=40)


@given(limit=st.integers(0, 2000), cost=st.floats(0, 1e-4), calls=calls)
def test_reserving_first_never_passes_a_limit(limit: int, cost: float, calls: list[tuple[Phase, int, int]]) -> None:
    budget = Budget(Limits(tokens=limit, cost=cost))
    for phase, prompt, cached in calls:
        try:
            budget.reserve(prompt)
        except OutOfBudget:
            continue
        budget.settle(phase, Usage(prompt=prompt, cached=cached, calls=1))
    assert budget.tokens <= limit
    assert budget.dollars <= cost
    assert budget.room() <= limit - budget.tokens
    assert sum(r.prompt + r.generated for r in budget.ledger()) == budget.tokens


def test_a_passed_deadline_ends_the_search() -> None:
    with pytest.raises(OutOfBudget, match="deadline"):
        Budget(Limits(seconds=0.0)).reserve(1)
    assert Budget(Limits()).seconds_left() is None
