"""Claims against history: planted effects are found, noise is not, and thin history moves nothing."""

import random
from dataclasses import replace
from datetime import timedelta
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.belief import believe, lean
from strategies.claims import LADDER, Claim, Effect, decision, true_now
from strategies.features import BUCKETS
from strategies.verification import (
    NOTHING,
    AnalogArrays,
    Checked,
    Evidence,
    Finding,
    Verdict,
    check,
    multiplicity,
    self_support,
    weigh,
)
from tests.fakes import START

CLAIM = Claim("flow", "momentum", "rising", Effect.UP)


def history(n: int, lift: float, seed: int = 1) -> AnalogArrays:
    """Windows whose mids are off by `lift`."""
    rng = random.Random(seed)
    mids = [rng.uniform(0.2, 0.8) for _ in range(n)]
    return AnalogArrays.of([(m, float(rng.random() < m + lift)) for m in mids])


def test_a_planted_effect_is_supported_and_its_opposite_refuted() -> None:
    evidence = weigh(history(800, 0.2))
    assert check(CLAIM, evidence, true=True).verdict is Verdict.SUPPORTED
    down = Claim("flow", "momentum", "rising", Effect.DOWN)
    refuted = check(down, evidence, true=True)
    assert refuted.verdict is Verdict.REFUTED and refuted.finding is Finding.WRONG_SIGN
    assert evidence.log_bayes_factor > 0 and evidence.shift > 0


def test_a_calibrated_market_supports_no_direction() -> None:
    verdicts = [check(CLAIM, weigh(history(400, 0.0, s), trials=27), true=True).verdict for s in range(40)]
    assert verdicts.count(Verdict.SUPPORTED) <= 2


def test_claims_about_the_same_windows_do_not_share_their_doubt_away() -> None:
    """Two claims as sure as each other are no surer together, and a vague one beside a sure one adds doubt."""
    sure, vague = (check(CLAIM, weigh(history(n, 0.25)), true=True) for n in (800, 200))
    assert sure.verified and vague.verified
    assert lean([sure, sure])[1] == pytest.approx(lean([sure])[1])
    assert lean([sure])[1] < lean([sure, vague])[1] < lean([vague])[1]


def test_a_short_history_is_thin_whatever_it_says() -> None:
    checked = check(CLAIM, weigh(AnalogArrays.of([(0.5, 1.0)] * 49)), true=True)
    assert checked.verdict is Verdict.THIN and checked.finding is Finding.THIN_SUPPORT


def test_a_false_claim_is_false_before_history_is_asked() -> None:
    assert check(CLAIM, weigh(history(800, 0.2)), true=False).finding is Finding.FALSE_NOW


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.sampled_from([0.0, 1.0])), max_size=200), st.integers(1, 50))
def test_evidence_is_coherent(pairs: list[tuple[float, float]], trials: int) -> None:
    e = weigh(AnalogArrays.of(pairs), trials=trials)
    assert 0 <= e.low <= e.posterior <= e.high <= 1 and e.support == len(pairs)
    assert min(e.base_rate, e.rate) - 1e-9 <= e.posterior <= max(e.base_rate, e.rate) + 1e-9 or not pairs
    wider = weigh(AnalogArrays.of(pairs), trials=trials + 10)
    assert wider.low <= e.low and wider.high >= e.high


def test_where_there_is_a_diffusion_a_claim_must_beat_it_too() -> None:
    seen = history(800, 0.2)
    knew = AnalogArrays(seen.mids, seen.payouts, np.full(800, float(seen.payouts.mean())))
    assert check(CLAIM, weigh(seen), true=True).verdict is Verdict.SUPPORTED
    assert check(CLAIM, weigh(knew), true=True).verdict is Verdict.UNDECIDED
    assert weigh(knew).log_bayes_factor < 0 < weigh(seen).log_bayes_factor


def test_old_history_is_stale_and_history_of_the_future_is_a_leak() -> None:
    old = replace(history(800, 0.2), age=3600.0)
    judged = partial(check, CLAIM, true=True)
    assert judged(weigh(old), fresh_for=3599).finding is Finding.STALE
    assert judged(weigh(old), fresh_for=3600).verdict is Verdict.SUPPORTED
    leaked = judged(weigh(replace(old, age=-1.0)), fresh_for=3600)
    assert (leaked.verdict, leaked.finding) == (Verdict.LEAKED, Finding.LOOK_AHEAD)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_saying_yes_to_everything_counts_for_nothing(claimed: float, opposed: float) -> None:
    lean, apart = self_support(claimed, opposed)
    assert self_support(claimed, claimed)[0] == 0
    assert lean * (claimed - opposed) >= 0 and lean == -self_support(opposed, claimed)[0]
    assert apart == abs(claimed + opposed - 1)


def test_the_penalty_for_many_trials_grows() -> None:
    assert [multiplicity(n) for n in (1, 2)] == [0, 0] and 0 < multiplicity(3) < multiplicity(27) < 2


def test_every_rung_names_known_features_and_every_feature_has_a_rung() -> None:
    named = [f for rung in LADDER for f in rung.features]
    assert sorted(named) == sorted(BUCKETS)
    assert len(set(named)) == len(named)


def test_truth_now() -> None:
    assert true_now(CLAIM, {"momentum": "rising"}) and not true_now(CLAIM, {"momentum": "steady"})
    assert not true_now(CLAIM, {})


def checked(posterior: float, support: int, verdict: Verdict = Verdict.SUPPORTED) -> Checked:
    return Checked(CLAIM, Evidence(support, posterior, 0.5, 0.5, posterior, 0.5, 0.9, 0.9, 1.0), verdict, None)


def test_a_belief_is_shrunk_capped_and_empty_without_support() -> None:
    ends = START + timedelta(minutes=5)
    tenth = partial(believe, market_id="m", as_of=START, expires_at=ends, shrink=0.1)
    held = tenth([checked(0.7, 200)], max_shift=0.3)
    assert held.shift == pytest.approx(0.1 * 0.8473, abs=1e-3) and held.support == 200
    assert tenth([checked(0.9999, 200)], max_shift=0.1).shift == pytest.approx(0.1)
    thin, final = checked(0.7, 9, Verdict.THIN), Checked(decision("up"), NOTHING, Verdict.NOT_A_CLAIM, None)
    empty = tenth([thin, final], max_shift=0.3)
    assert empty.shift == 0 and empty.verified_share == 0 and empty.probability(0.37) == 0.37


def test_more_claims_do_not_add_up_to_more_than_the_best() -> None:
    whole = partial(believe, market_id="m", as_of=START, expires_at=START, shrink=1.0, max_shift=3.0)
    assert whole([checked(0.7, 200)] * 4).shift == pytest.approx(whole([checked(0.7, 200)]).shift)
