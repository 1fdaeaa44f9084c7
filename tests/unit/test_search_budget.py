"""Search budget of a decision: more edge, more search; what earned nothing is not tried for ever."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.decision.gate import Gate
from agent.decision.inputs import Earned, Inputs, Learned
from agent.decision.search_budget import TABLE, allocate, chance_of_finding, disagreement, kind, prize
from agent.search.tree import Policy
from market.fees import schedule
from market.types import UNIT
from strategies.features import Features
from tests.fakes import START, book, market
from tests.values import decision_settings, limits

BEAM = Policy.named("beam", depth=5, branching=3, width=2, max_nodes=27)
OPEN = Gate("", plausible=0.05, cost=0.02)
FRESH = Learned(0.1)


def inputs(price: float = 5e-8, *, diffusion: float | None = None, learned: Learned = FRESH) -> Inputs:
    settings = decision_settings(BEAM, limits(token_price=price))
    features, fees = Features(500_000, 900, {}, (), diffusion), schedule("crypto", START)
    return Inputs(market(), START, "s", book(), features, fees, 100 * UNIT, 0, 0, 0, 99, "", settings, learned)


def tokens(bought: Policy | None) -> int:
    return 0 if bought is None else next(c.tokens for c in TABLE if (c.policy, c.width) == (bought.name, bought.width))


def test_cheap_tokens_buy_the_full_policy_and_dear_ones_less_and_less() -> None:
    bought = [allocate(inputs(10.0 ** (e / 4)), OPEN) for e in range(-32, 0)]
    assert bought[0] == BEAM and bought[-1] is None
    spent = [tokens(b) for b in bought]
    assert spent == sorted(spent, reverse=True) and len(set(spent)) > 2


def test_a_fixed_strategy_and_a_shut_gate_keep_the_configured_policy() -> None:
    dear = inputs(1.0)
    assert allocate(replace(dear, settings=replace(dear.settings, frugal=False)), OPEN) == BEAM
    assert allocate(dear, Gate("thin_history", 0.05, 0.02)) == BEAM


def test_searches_that_found_nothing_make_the_next_one_less_likely() -> None:
    never, often = Earned(5000, 0, 0.0, 0.0), Earned(500, 250, 0.01, 0.1)
    assert chance_of_finding(never) < chance_of_finding(None) < chance_of_finding(often)
    prices = [10.0 ** (e / 4) for e in range(-32, 0)]
    state = kind(inputs(), OPEN)
    before, after = (
        sum(allocate(inputs(p, learned=Learned(0.1, earned=e)), OPEN) is not None for p in prices)
        for e in ({}, {state: never})
    )
    assert after < before


def test_searches_that_lost_to_the_mid_are_worth_next_to_nothing() -> None:
    lost, won = Earned(400, 200, -0.05, 0.2), Earned(400, 200, 0.05, 0.2)
    assert chance_of_finding(lost) < 0.001 < 0.4 < chance_of_finding(won)


def test_states_are_told_apart_by_edge_and_by_how_far_the_baselines_disagree() -> None:
    agreed, disputed = inputs(diffusion=0.51), inputs(diffusion=0.60)
    assert [kind(i, OPEN) for i in (inputs(), agreed, disputed)] == ["fair/alone", "fair/agreed", "fair/disputed"]
    assert kind(inputs(), Gate("", 0.02, 0.02)) == "slim/alone" and kind(inputs(), Gate("", 0.2, 0.02)) == "wide/alone"
    assert disagreement(inputs()) is None and prize(agreed, OPEN) == prize(disputed, OPEN) / 2


@given(st.floats(0, 0.2), st.floats(0, 0.2), st.floats(1e-9, 1e-2))
def test_nothing_is_bought_where_no_edge_is_left_after_costs(plausible: float, cost: float, price: float) -> None:
    bought = allocate(inputs(price), Gate("", plausible, cost))
    assert plausible > cost or bought is None
    assert bought is None or bought.max_nodes == BEAM.max_nodes


def test_the_table_rises_in_tokens_and_in_what_is_found() -> None:
    assert [c.tokens for c in TABLE] == sorted(c.tokens for c in TABLE)
    assert [c.found for c in TABLE] == sorted(c.found for c in TABLE)
