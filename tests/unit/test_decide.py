"""Thinking about one market: gate, search within its budget, verification, one correction, belief, decision."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decision import prompts
from agent.decision.analogs import PlaceboHistory, look_back
from agent.decision.decide import Decision, make_decision
from agent.decision.gate import book_fault, gate
from agent.decision.inputs import Inputs, Learned
from agent.decision.record import written
from agent.llm.engine import Engine
from agent.llm.scripted import ScriptedEngine
from agent.search.tree import POLICIES, Policy
from market.fees import schedule
from market.types import UNIT, Book, Market, Outcome
from storage.records import Observation, Phase
from strategies.claims import DECISIONS, LADDER, Claim, Effect
from strategies.features import BUCKETS, SCALES, Features
from strategies.verification import Finding, Verdict
from tests.fakes import START, Remembered, book, levels, market
from tests.profiles import examples
from tests.values import decision_settings, limits

STATE = (0.0,) * len(SCALES)
BUCKETS_NOW = {name: options[-1] for name, options in BUCKETS.items()}
BOOK = book()
BEAM = Policy.named("beam", depth=5, branching=3, width=2, max_nodes=27)


def row(number: int, payout: int, *, mid: int = 500_000, buckets: dict[str, str] | None = None) -> Observation:
    m: Market = market(-1 - number)
    return Observation(
        m.id,
        m.opens_at,
        900,
        900,
        mid,
        buckets or BUCKETS_NOW,
        payout * UNIT,
        m.closes_at + timedelta(minutes=2),
        True,
        STATE,
    )


def lifted(n: int = 200, share: float = 0.9) -> Remembered:
    """A history in which everything that holds now was followed by Up far more often than priced."""
    return Remembered([row(i, int(i % 10 < share * 10)) for i in range(2, n + 2)])


def inputs(windows: int = 0, seen: Book | None = BOOK, **change: object) -> Inputs:
    made = decision_settings(BEAM, limits(tokens=4000), max_shift=0.5, shrink=0.5)
    made = replace(made, **change)  # type: ignore[arg-type]
    features, fees = Features(500_000, 900, BUCKETS_NOW, STATE), schedule("crypto", START)
    learned = Learned(made.shrink)
    return Inputs(market(), START, "source", seen, features, fees, 1000 * UNIT, 0, 0, 0, windows, "", made, learned)


def decision(given_inputs: Inputs, history: Remembered, engine: Engine | None = None) -> Decision:
    return asyncio.run(make_decision(given_inputs, engine or copycat(), history))


def copycat(
    effect: str = " up", decision: str = " up", fail_after: int | None = None, sure: float = 9.0
) -> ScriptedEngine:
    """A model that reads the present buckets off the prompt and always claims `effect`."""

    def rule(text: str, labels: tuple[str, ...]) -> list[float]:
        now = text.rsplit("now: ", 1)[1]
        told = [f"{text.rsplit(' ', 1)[1]}{label}" for label in labels]
        wanted = decision if text.endswith("decision") else effect
        return [sure if t in now or label == wanted else 1.0 for t, label in zip(told, labels, strict=True)]

    return ScriptedEngine(rule, fail_after=fail_after)


def legal(claim: Claim) -> bool:
    """Tell whether the ladder allows a claim."""
    if claim.decides:
        return claim.feature == "decision" and claim.bucket in DECISIONS
    rungs = {r.name: r.features for r in LADDER}
    return claim.feature in rungs.get(claim.rung, ()) and claim.bucket in BUCKETS[claim.feature]


def test_thin_history_shuts_the_gate_and_costs_nothing() -> None:
    made = decision(inputs(windows=49), lifted())
    assert (made.action, made.reason, made.forecast, made.budget.tokens) == ("abstain", "thin_history", None, 0)
    assert made.probability == made.mid == 0.5


def test_a_shadow_search_is_kept_and_never_traded_on() -> None:
    made = decision(inputs(windows=3, shadow=True), lifted())
    assert made.forecast is not None and made.forecast.tree.visits and made.budget.tokens > 0
    assert (made.action, made.reason, made.belief) == ("abstain", "thin_history", None)


def test_verified_claims_lead_to_an_order() -> None:
    made = decision(inputs(windows=200), lifted())
    assert made.forecast is not None
    assert [c.verdict for c in made.forecast.path[:4]] == [Verdict.SUPPORTED] * 4
    assert made.action == "take" and made.intent is not None and made.intent.outcome is Outcome.YES
    assert made.probability is not None and made.probability > 0.55
    assert made.belief is not None and made.belief.support == 200


DRAWN = Policy.named("self_consistency", depth=5, branching=1, width=1, max_nodes=27, samples=1)
"""One chain as the model would have it: nothing that history says has a hand in it."""


def test_claims_that_history_refutes_lead_to_none() -> None:
    asked = inputs(windows=200, correct=False, policy=DRAWN, frugal=False)
    made = decision(asked, lifted(), copycat(" down", " down", sure=1e9))
    assert made.forecast is not None
    assert {c.verdict for c in made.forecast.path[:4]} == {Verdict.REFUTED}
    assert made.action == "abstain" and made.reason == "no_verified_claim"


def test_history_has_the_last_word_on_which_claims_are_grown() -> None:
    made = decision(inputs(windows=200), lifted(), copycat(" down", " up"))
    assert made.forecast is not None
    assert {c.claim.effect for c in made.forecast.path[:4]} == {Effect.UP}
    bare = decision(inputs(windows=200, external=False, frugal=False, correct=False), lifted(), copycat(" down", " up"))
    assert bare.forecast is not None and {c.claim.effect for c in bare.forecast.path[:4]} == {Effect.DOWN}


def test_what_says_nothing_does_not_count_against_what_is_verified() -> None:
    """Of twelve and more features one moves the outcome: the claims about the others say "none"."""
    seen = [{f: b[-1 if f != "momentum" or i % 2 else 0] for f, b in BUCKETS.items()} for i in range(400)]
    paid = [int((i * 7) % 20 < (17 if i % 2 else 3)) for i in range(400)]
    made = decision(
        inputs(windows=400), Remembered([row(i + 2, paid[i], buckets=seen[i]) for i in range(400)]), copycat(" none")
    )
    assert made.forecast is not None and made.action == "take"
    said = [c for c in made.forecast.path if c.claim.effect.sign and not c.claim.decides]
    assert [c.claim.feature for c in said] == ["momentum"] and made.forecast.belief.verified_share == 1


def test_one_correction_on_a_finding_and_it_is_checked_too() -> None:
    asked = inputs(windows=200, policy=DRAWN, frugal=False)
    made = decision(asked, lifted(), copycat(" down", " abstain", sure=1e9))
    assert made.forecast is not None and made.forecast.correction is not None
    correction = made.forecast.correction
    assert correction.finding is Finding.WRONG_SIGN and made.budget.spent[Phase.CORRECT].charged > 0
    assert correction.replacement is None or correction.replacement.finding is None
    others = [c for i, c in enumerate(made.forecast.path) if i != correction.index]
    assert sum(c.verdict is Verdict.REFUTED for c in others) == 3, "one round, claim-local"


def test_a_false_claim_is_replaced_by_a_true_one() -> None:
    def liar(text: str, labels: tuple[str, ...]) -> list[float]:
        if "wrong:" in text:
            told = text.rsplit("wrong: ", 1)[1]
            return [9.0 if f" is{label} now" in told or label == " up" else 1.0 for label in labels]
        return [9.0 if label == " up" else 1.0 for label in labels]

    made = decision(inputs(windows=200), lifted(), ScriptedEngine(liar))
    assert made.forecast is not None and made.forecast.correction is not None
    assert made.forecast.correction.finding is Finding.FALSE_NOW
    replaced = made.forecast.correction.replacement
    assert replaced is not None and replaced.verdict is Verdict.SUPPORTED


def mostly_right(text: str, labels: tuple[str, ...]) -> list[float]:
    """Claims true things, "up" but for the first claim: history refutes one of four."""
    now, said = text.rsplit("now: ", 1)[1].split("\n", 1)
    told = [f"{text.rsplit(' ', 1)[1]}{label}" for label in labels]
    wanted = " up" if text.endswith("decision") or " down" in said or "wrong:" in said else " down"
    return [1e9 if t in now or label == wanted else 1.0 for t, label in zip(told, labels, strict=True)]


def test_a_spent_budget_never_opens_a_trade_by_dropping_a_refuted_claim() -> None:
    """With tokens for the search and none for a correction, the refuted claim still counts."""
    asked = inputs(windows=200, policy=DRAWN, frugal=False, answer_tokens=0)
    mended = decision(asked, lifted(), ScriptedEngine(mostly_right))
    assert mended.forecast is not None and mended.forecast.correction is not None and mended.action == "take"
    before = mended.budget.tokens - mended.budget.spent[Phase.CORRECT].charged
    for tokens in range(before, mended.budget.tokens):
        short = decision(
            replace(asked, settings=replace(asked.settings, limits=limits(tokens=tokens))),
            lifted(),
            ScriptedEngine(mostly_right),
        )
        assert short.forecast is not None and short.forecast.correction is None
        assert Verdict.REFUTED in [c.verdict for c in short.forecast.path]
        assert (short.action, short.reason) == ("abstain", "low_verified_share")


@examples(40)
@given(tokens=st.integers(0, 900), seed=st.integers(0, 10**6), width=st.integers(1, 4), self_verify=st.booleans())
def test_never_over_budget_by_a_token_and_always_an_answer(
    tokens: int, seed: int, width: int, self_verify: bool
) -> None:
    policy = replace(BEAM, width=width)
    asked = inputs(200, limits=limits(tokens=tokens), policy=policy, self_verify=self_verify)
    engine = ScriptedEngine(seed=seed)
    made = decision(asked, lifted(), engine)
    assert made.budget.tokens == engine.usage.charged <= tokens
    assert made.probability is not None and 0 < made.probability < 1
    if made.forecast is not None:
        assert all(legal(v.item.checked.claim) for v in made.forecast.tree.visits if v.item.checked)
        assert len(made.forecast.tree.visits) <= 27


@examples(15)
@given(seed=st.integers(0, 10**6))
def test_the_same_seed_writes_the_same_thought(seed: int) -> None:
    one, two = (written(decision(inputs(200), lifted(), ScriptedEngine(seed=seed))) for _ in range(2))
    assert one == two


def test_only_features_that_can_be_seen_are_offered() -> None:
    asked = inputs(windows=200)
    few = Features(500_000, 900, {k: v for k, v in BUCKETS_NOW.items() if k not in ("trend", "range", "bias")}, STATE)
    made = decision(replace(asked, features=few), lifted(), ScriptedEngine(seed=3))
    assert made.forecast is not None
    named = {v.item.checked.claim.feature for v in made.forecast.tree.visits if v.item.checked}
    assert named.isdisjoint({"trend", "range", "bias"}) and "volatility" in named


def test_a_row_from_the_future_is_never_read() -> None:
    late = [replace(r, known_at=START) for r in lifted().rows]
    made = decision(inputs(windows=200, frugal=False), Remembered(late))
    assert made.forecast is not None and {c.evidence.support for c in made.forecast.path} == {0}


@pytest.mark.parametrize("calls", [0, 1, 4, 7])
def test_a_dying_engine_leaves_the_incumbent_and_no_trade(calls: int) -> None:
    made = decision(inputs(windows=200), lifted(), copycat(fail_after=calls))
    assert made.forecast is not None and made.forecast.failed and made.forecast.tree.stop in ("engine", "complete")
    assert made.action == "abstain" and made.reason == "engine_unavailable" and made.belief is None


def test_a_passed_deadline_ends_the_search_and_keeps_what_there_is() -> None:
    made = decision(inputs(windows=200, limits=limits(seconds=0.0)), lifted())
    assert made.forecast is not None and made.forecast.tree.stop == "deadline" and made.action == "abstain"


def test_where_nothing_could_be_verified_no_token_is_spent() -> None:
    noise = Remembered([row(i, i % 2) for i in range(2, 202)])
    frugal, fixed = (decision(inputs(windows=200, frugal=f), noise) for f in (True, False))
    assert (frugal.forecast, frugal.reason, frugal.budget.tokens) == (None, "nothing_to_verify", 0)
    assert fixed.forecast is not None and fixed.reason == "no_verified_claim" and fixed.budget.tokens > 0


def test_a_search_ends_when_the_rungs_to_come_can_add_nothing() -> None:
    hopeless = {"momentum", "imbalance", "pressure", "lead", "spread", "bias", "activity", "gap"}
    seen = {k: v for k, v in BUCKETS_NOW.items() if k not in hopeless}
    made = decision(inputs(windows=200), Remembered([row(i, int(i % 10 < 9), buckets=seen) for i in range(2, 202)]))
    assert made.forecast is not None and made.forecast.tree.stop == "not_worth_it"
    assert made.forecast.tree.deepest() == 2 and made.action == "take"


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_finds_the_planted_effect_within_the_budget(name: str) -> None:
    policy = Policy.named(name, depth=5, branching=3, width=2, max_nodes=40, samples=4)
    engine = copycat(sure=1e6)
    made = decision(inputs(windows=200, policy=policy, frugal=False), lifted(), engine)
    assert made.forecast is not None and made.forecast.policy == name
    assert made.action == "take" and made.intent is not None and made.intent.outcome is Outcome.YES
    assert made.budget.tokens == engine.usage.charged <= 4000


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_no_policy_is_ended_for_a_rung_that_it_would_have_come_back_to(name: str) -> None:
    """Only the first rung has something to find: that ends a search which goes down level by level, and no other."""
    seen = {k: v for k, v in BUCKETS_NOW.items() if k in LADDER[0].features}
    history = Remembered([row(i, int(i % 10 < 9), buckets=seen) for i in range(2, 202)])
    policy = Policy.named(name, depth=5, branching=3, width=2, max_nodes=40, samples=4)
    made = decision(inputs(windows=200, policy=policy), history, copycat(sure=1e6))
    assert made.forecast is not None and made.forecast.policy == name
    if name in ("greedy", "beam", "dvts"):
        assert made.forecast.tree.stop == "not_worth_it" and made.forecast.tree.deepest() == 1
    else:
        assert made.forecast.tree.stop != "not_worth_it" and made.forecast.tree.deepest() > 1


def test_claims_are_held_to_as_many_trials_as_buckets_were_weighed() -> None:
    asked = inputs(windows=200, policy=replace(BEAM, max_nodes=1), frugal=False)
    made, features = decision(asked, lifted()), asked.features
    assert made.forecast is not None and features is not None
    claim, past = made.forecast.path[0].claim, asyncio.run(look_back(asked, features, lifted(), 1))
    assert made.forecast.path[0].evidence == past.evidence(claim.feature, claim.bucket, len(features.buckets))


def test_a_redrawn_history_supports_nothing_of_a_real_effect() -> None:
    seen = [{f: b[-1 if i % 2 == 0 else 0] for f, b in BUCKETS.items()} for i in range(400)]
    history = Remembered([row(i + 2, int(i % 2 == 0), buckets=seen[i]) for i in range(400)])
    real = decision(inputs(windows=400, frugal=False), history)
    placebo = asyncio.run(make_decision(inputs(windows=400, frugal=False), copycat(), PlaceboHistory(history, 7)))
    assert real.action == "take" and placebo.reason == "no_verified_claim"


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (None, "no_book"),
        (book(bids=()), "one_sided_book"),
        (book(asks=()), "one_sided_book"),
        (book(bids=levels(("0.52", 1)), asks=levels(("0.51", 1))), "crossed_book"),
        (book(bids=levels(("0.01", 1)), asks=levels(("0.99", 1))), "placeholder_book"),
        (book(START - timedelta(seconds=16)), "stale_book"),
    ],
)
def test_the_gate_names_what_is_wrong_with_a_book(seen: Book | None, reason: str) -> None:
    made = decision(inputs(200, seen, shadow=True), lifted())
    assert (made.action, made.reason, made.forecast) == ("abstain", reason, None)


def test_the_gate_shuts_where_no_edge_could_pay() -> None:
    dear = book(bids=levels(("0.30", 10)), asks=levels(("0.70", 10)))
    assert gate(inputs(200, dear)).reason == "edge_below_costs"
    assert gate(replace(inputs(200), blocked="halted")).reason == "halted"
    assert gate(replace(inputs(200), features=None)).reason == "no_features"
    assert book_fault(book()) == ""


def test_nothing_from_outside_reaches_a_prompt() -> None:
    text = prompts.opening(BUCKETS_NOW).text
    assert "now: " in text and market().question not in text and market().slug not in text
    assert {r.name for r in LADDER} <= set(prompts.static().text.split())


def test_the_fee_in_force_is_kept_with_the_decision() -> None:
    body = written(decision(inputs(windows=200), lifted())).body
    edge = body["edge"]
    assert isinstance(edge, dict) and Decimal(str(edge["fee_rate"])) == Decimal("0.07")
