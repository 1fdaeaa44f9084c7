"""Learning from outcomes, and its time: strictly after they were known, once a window, and from abstentions too."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decision.decide import Decision, make_decision
from agent.learning.learner import OnlineLearner, Sample
from market.types import PayoutSource, Resolution
from strategies.calibration import IDENTITY, CalibrationKind
from strategies.conformal import Band
from tests.fakes import START, Remembered
from tests.unit.test_decide import copycat, decision, inputs, lifted

MINUTE = timedelta(minutes=1)


def ended(number: int, payout: str | None, at: datetime) -> Resolution:
    source = PayoutSource.UNRESOLVED if payout is None else PayoutSource.OFFICIAL
    return Resolution(f"m{number}", None if payout is None else Decimal(payout), source, at)


def searched() -> Decision:
    return decision(inputs(windows=200, frugal=False), lifted(), copycat())


def gated() -> Decision:
    return decision(inputs(windows=1), Remembered())


def lived(windows: int, made: Decision, payout: str = "1") -> OnlineLearner:
    learner = OnlineLearner(0.1)
    for n in range(windows):
        learner.decided(f"m{n}", made)
        learner.ended(ended(n, payout if n % 4 else "0", START + n * MINUTE), {})
    return learner


def test_nothing_is_learnt_before_the_first_outcome() -> None:
    learned = OnlineLearner(0.1).learned(START)
    assert (learned.weight, learned.calibration, learned.earned) == (0.1, IDENTITY, {})


def test_an_outcome_counts_only_after_it_was_known() -> None:
    learner = lived(60, gated())
    last = START + 59 * MINUTE
    assert learner.learned(last).calibration.n == 59
    assert learner.learned(last + timedelta(microseconds=1)).calibration.n == 60
    assert learner.learned(START).calibration is IDENTITY


@given(st.integers(0, 80), st.integers(0, 80))
def test_what_comes_later_changes_nothing_that_was_learnt(known: int, later: int) -> None:
    at = START + known * MINUTE
    assert lived(known, GATED).learned(at) == lived(known + later, GATED).learned(at)


@pytest.mark.parametrize("later", [0, 1, 7, 20, 33])
def test_the_newest_windows_are_learnt_from_and_no_more_are_kept_for_long(
    later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.learning.learner.NEWEST", 60)
    at, long, short = START + 200 * MINUTE, lived(200 + later, GATED), OnlineLearner(0.1)
    for n in range(140, 200):
        short.decided(f"m{n}", GATED)
        short.ended(ended(n, "1" if n % 4 else "0", START + n * MINUTE), {})
    assert long.learned(at) == short.learned(at) and short.learned(at).calibration.n == 60
    assert long.scored()[0] == 60 and len(lived(500, GATED).known) <= 180


GATED = gated()


def test_abstentions_calibrate_too_and_a_window_counts_once() -> None:
    once, often = lived(100, GATED), OnlineLearner(0.1)
    for n in range(100):
        for _ in range(5):
            often.decided(f"m{n}", GATED)
        often.ended(ended(n, "1" if n % 4 else "0", START + n * MINUTE), {})
    at = START + timedelta(days=1)
    one, five = once.learned(at).calibration, often.learned(at).calibration
    assert one.kind is CalibrationKind.PLATT and one.applied(0.5) > 0.52
    assert (five.kind, five.n) == (one.kind, one.n)
    assert abs(five.applied(0.5) - one.applied(0.5)) < 1e-6


def test_leans_that_were_right_are_believed_more_and_wrong_ones_less() -> None:
    made = searched()
    sample = Sample.of(made)
    assert sample is not None and sample.searched and sample.found and sample.lean > 0
    at = START + timedelta(days=1)
    assert lived(200, made).learned(at).weight > 0.15
    assert lived(200, made, payout="0").learned(at).weight < 0.06


def test_a_window_says_once_how_much_of_a_lean_was_right() -> None:
    """However many decisions it had, and whichever of the windows had more of them."""
    made, at = searched(), START + timedelta(days=1)
    for of_a_loss in (10, 1):
        often = OnlineLearner(0.1)
        for n in range(60):
            for _ in range(10 if n % 4 else of_a_loss):
                often.decided(f"m{n}", made)
            often.ended(ended(n, "1" if n % 4 else "0", START + n * MINUTE), {})
        assert often.learned(at).weight == lived(60, made).learned(at).weight


def test_what_search_earned_is_kept_by_kind_of_state() -> None:
    made = searched()
    (earned,) = lived(40, made).learned(START + timedelta(days=1)).earned.values()
    assert (earned.n, earned.found) == (40, 40) and earned.gain > 0 and earned.sd > 0
    assert lived(40, GATED).learned(START + timedelta(days=1)).earned == {}


def test_a_window_without_an_outcome_or_a_price_teaches_nothing() -> None:
    learner = OnlineLearner(0.1)
    learner.decided("m0", GATED)
    learner.ended(ended(0, None, START), {})
    learner.ended(ended(9, "1", START), {})
    blind = asyncio.run(_blind())
    learner.decided("m1", blind)
    learner.ended(ended(1, "1", START), {})
    assert learner.learned(START + MINUTE).calibration.n == 0 and Sample.of(blind) is None


async def _blind() -> Decision:
    return await make_decision(replace(inputs(), features=None), copycat(), Remembered())


def test_a_band_that_is_missed_too_often_is_asked_for_at_a_wider_level() -> None:
    sample = Sample.of(GATED)
    assert sample is not None
    banded = replace(sample, band=Band(0.4, 0.6), seconds_left=90)
    assert banded.seen({30: 0.59}).missed is False and banded.seen({40: 0.61}).missed is True
    assert banded.seen({50: 0.61}).missed is None and sample.seen({30: 0.9}).missed is None
    level = {}
    for name, mid in (("hit", 0.5), ("miss", 0.9)):
        learner = OnlineLearner(0.1)
        for n in range(30):
            learner.waiting[f"m{n}"] = [banded]
            learner.ended(ended(n, "1", START), {30: mid})
        level[name] = learner.learned(START + MINUTE).alpha
    assert level["miss"] < 0.1 < level["hit"]
