"""Budgets: never one token too many, in any order of reservations; energy beside it, which only live feeds heed."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decision.budget import Budget, Electricity
from agent.llm.engine import Usage
from agent.search.tree import OutOfBudget
from market.clock import monotonic
from storage.records import Phase
from tests.values import limits

calls = st.lists(st.tuples(st.sampled_from(list(Phase)), st.integers(0, 300), st.integers(0, 300)), max_size=40)


@given(limit=st.integers(0, 2000), cost=st.floats(0, 1e-4), calls=calls)
def test_reserving_first_never_passes_a_limit(limit: int, cost: float, calls: list[tuple[Phase, int, int]]) -> None:
    budget = Budget(limits(tokens=limit, cost=cost))
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
        Budget(limits(seconds=0.0)).reserve(1)
    assert Budget(limits()).seconds_left() is None


@dataclass
class Dial:
    """A meter that shows what it was set to."""

    at: float | None = 0.0
    source: str = "a dial"

    def joules(self) -> float | None:
        return self.at


PER_JOULE = 1e-6
"""Dollars, by the price of `power`."""


def power(dial: Dial) -> Electricity:
    return Electricity(dial, kwh_price=3.6e6 * PER_JOULE)


def call(budget: Budget, dial: Dial, phase: Phase, tokens: int, joules: float) -> None:
    """One call of the engine that draws `joules`."""
    budget.reserve(tokens, phase)
    assert dial.at is not None
    dial.at += joules
    budget.settle(phase, Usage(prompt=tokens, calls=1))


LIVE = limits(tokens=10_000, seconds=3600.0, cost=100 * PER_JOULE, token_price=1e-12)


def test_what_a_phase_draws_is_its_cost_and_what_lies_between_is_nobodys() -> None:
    dial = Dial()
    budget = Budget(LIVE, electricity=power(dial))
    call(budget, dial, Phase.SEARCH, 10, 20.0)
    dial.at = 1000.0
    call(budget, dial, Phase.VERIFY, 5, 3.0)
    call(budget, dial, Phase.SEARCH, 10, 10.0)
    assert budget.timings() == {"joules:search": 30.0, "joules:verify": 3.0}
    assert budget.dollars == pytest.approx(33 * PER_JOULE)
    costs = {row.phase: row.micro_usd for row in budget.ledger()}
    assert costs[Phase.SEARCH] == pytest.approx(30.0) and costs[Phase.CORRECT] == 0.0


def test_a_call_that_never_came_back_has_drawn_too() -> None:
    dial = Dial()
    budget = Budget(LIVE, electricity=power(dial))
    budget.reserve(10, Phase.ANSWER)
    dial.at = 4.0
    budget.close()
    dial.at = 9.0
    budget.close()
    budget.reserve(10, Phase.SEARCH)
    dial.at = 11.0
    budget.reserve(10, Phase.VERIFY)
    assert budget.timings() == {"joules:answer": 4.0, "joules:search": 2.0} and budget.tokens == 0


def test_a_phase_with_a_failed_reading_is_counted_by_tokens_and_shows_no_joules() -> None:
    dial = Dial()
    budget = Budget(limits(seconds=3600.0, token_price=1e-6), electricity=power(dial))
    call(budget, dial, Phase.SEARCH, 10, 20.0)
    dial.at = None
    budget.reserve(7, Phase.SEARCH)
    dial.at = 50.0
    budget.settle(Phase.SEARCH, Usage(prompt=7, calls=1))
    call(budget, dial, Phase.SEARCH, 3, 1.0)
    call(budget, dial, Phase.VERIFY, 1, 2.0)
    assert budget.timings() == {"joules:verify": 2.0}
    assert budget.dollars == pytest.approx(20 * 1e-6 + 2 * PER_JOULE)


def test_live_the_call_that_would_pass_the_limit_by_energy_is_not_made() -> None:
    dial = Dial()
    electricity = power(dial)
    budget = Budget(LIVE, electricity=electricity)
    call(budget, dial, Phase.SEARCH, 10, 60.0)
    budget.reserve(6, Phase.SEARCH)
    budget.close()
    with pytest.raises(OutOfBudget, match="cost"):
        budget.reserve(7, Phase.SEARCH)
    with pytest.raises(OutOfBudget, match="cost"):
        budget.reserve(7, Phase.VERIFY)
    assert budget.stops == {2: "cost", 3: "cost"}, "a phase without a measurement is as dear as the dearest"
    following = Budget(LIVE, electricity=electricity)
    with pytest.raises(OutOfBudget, match="cost"):
        following.reserve(17, Phase.SEARCH)
    following.reserve(16, Phase.SEARCH)


def test_one_odd_reading_does_not_forbid_the_model_for_good() -> None:
    dial, times = Dial(), [0.0]
    electricity = Electricity(dial, kwh_price=3.6e6 * PER_JOULE, clock=lambda: times[-1])
    call(Budget(LIVE, electricity=electricity), dial, Phase.SEARCH, 1, 1e9)
    for later in (0.0, 3599.0):
        times.append(later)
        with pytest.raises(OutOfBudget, match="cost"):
            Budget(LIVE, electricity=electricity).reserve(1)
    times.append(3601.0)
    call(Budget(LIVE, electricity=electricity), dial, Phase.SEARCH, 1, 1.0)
    Budget(LIVE, electricity=electricity).reserve(100)


def test_recorded_feeds_and_replays_heed_no_meter() -> None:
    dear = Electricity(Dial(), kwh_price=1e12, rates=dict.fromkeys(Phase, (1e9, monotonic())))
    recorded = Budget(limits(seconds=None), electricity=dear)
    again = Budget(limits(seconds=0.0), electricity=dear, replayed={1: "deadline", 3: "cost"})
    for budget in (recorded, again):
        budget.reserve(10)
    with pytest.raises(OutOfBudget, match="deadline"):
        again.reserve(1)
    again.reserve(1)
    with pytest.raises(OutOfBudget, match="cost"):
        again.reserve(1)
    assert recorded.stops == {} and again.stops == {1: "deadline", 3: "cost"}


def test_the_price_of_tokens_holds_whatever_the_meter_says() -> None:
    free = Electricity(Dial(), kwh_price=0.0)
    budget = Budget(limits(seconds=3600.0, cost=10e-6, token_price=1e-6), electricity=free)
    budget.reserve(10)
    with pytest.raises(OutOfBudget, match="cost"):
        budget.reserve(11)
