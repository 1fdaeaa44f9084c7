"""The ladder: pairs of losses, intervals by window, and a placebo that exposes a habit."""

import numpy as np
import pytest

from agent.evaluation.ladder import DecisionCost, LadderArm, Truth, constant_lean, ladder
from strategies.logit import logit, sigmoid
from strategies.score import block_interval, cluster_means


def world(windows: int, per_window: int, seed: int = 5) -> tuple[LadderArm, Truth]:
    """A calibrated mid over windows of several decisions that share one outcome."""
    rng = np.random.default_rng(seed)
    forecasts, outcomes, within = {}, {}, {}
    for w in range(windows):
        p = float(rng.uniform(0.2, 0.8))
        won = float(rng.random() < p)
        for d in range(per_window):
            key = f"{rng.integers(10**9)}-{w}-{d}"
            forecasts[key], outcomes[key], within[key] = p, won, f"w{w}"
    return LadderArm("market mid", forecasts), Truth(outcomes, within, per_day=288)


def test_the_mid_gains_nothing_over_itself_and_an_empty_rung_says_why() -> None:
    mid, truth = world(10, 3)
    base, empty = ladder([mid, LadderArm("diffusion")], truth)
    assert (
        (base.n, base.windows) == (30, 10) and base.gain is not None and (base.gain.low, base.gain.high) == (0.0, 0.0)
    )
    assert empty.n == 0 and "reference" in empty.note and empty.gain is None


def test_knowing_the_outcome_is_a_gain_and_noise_is_a_loss() -> None:
    mid, truth = world(60, 3)
    oracle = LadderArm("oracle", {d: 0.9 if y else 0.1 for d, y in truth.outcomes.items()})
    rng = np.random.default_rng(1)
    noise = LadderArm("noise", {d: sigmoid(logit(p) + rng.normal(0, 1.5)) for d, p in mid.forecasts.items()})
    _, good, bad = ladder([mid, oracle, noise], truth)
    assert good.gain is not None and good.gain.low > 0 and good.days is not None and good.days < 1
    assert bad.gain is not None and bad.gain.high < 0 and bad.days is None


def test_decisions_of_one_window_are_one_observation_whatever_their_ids() -> None:
    windows = [f"w{i}" for i in range(40) for _ in range(3)]
    gains = np.repeat(np.random.default_rng(2).normal(size=40), 3)
    alone, clustered = block_interval(gains), block_interval(gains, windows)
    assert alone and clustered
    assert clustered.high - clustered.low == pytest.approx(3**0.5 * (alone.high - alone.low), rel=0.2)
    assert cluster_means(gains, windows).tolist() == pytest.approx(gains[::3].tolist())


def test_windows_of_unequal_size_and_interleaved_order_are_kept_apart() -> None:
    assert cluster_means(np.array([1.0, 5.0, 3.0]), ["a", "b", "a"]).tolist() == [2.0, 5.0]


def test_a_constant_lean_matches_a_habit_and_not_a_skill() -> None:
    mid, truth = world(80, 1)
    lucky = Truth(dict.fromkeys(truth.outcomes, 1.0), truth.windows, 288)
    habit = LadderArm("habit", {d: sigmoid(logit(p) + 0.3) for d, p in mid.forecasts.items()})
    rungs = ladder([mid, habit, constant_lean(habit, mid)], lucky)
    assert rungs[1].gain is not None and rungs[2].gain is not None
    assert rungs[1].gain.mean == pytest.approx(rungs[2].gain.mean) and rungs[1].gain.mean > 0
    skill = LadderArm(
        "skill", {d: sigmoid(logit(p) + (0.5 if truth.outcomes[d] else -0.5)) for d, p in mid.forecasts.items()}
    )
    _, real, placebo = ladder([mid, skill, constant_lean(skill, mid)], truth)
    assert real.gain is not None and placebo.gain is not None and real.gain.low > placebo.gain.high


def test_only_decisions_with_an_outcome_are_scored() -> None:
    mid, truth = world(10, 2)
    known = Truth(dict(list(truth.outcomes.items())[:7]), truth.windows, 288)
    assert ladder([mid], known)[0].n == 7
    with pytest.raises(ValueError, match="at least the mid"):
        ladder([], truth)


def test_costs_are_per_decision_that_was_made() -> None:
    mid, truth = world(4, 1)
    costs = {d: DecisionCost(100 * i, 0.001 * i, 10.0 * i) for i, d in enumerate(mid.forecasts)}
    rung = ladder([mid, LadderArm("model", dict(mid.forecasts), costs)], truth)[1]
    assert (rung.tokens, rung.milliseconds) == (150, 15) and rung.dollars == pytest.approx(0.0015)
