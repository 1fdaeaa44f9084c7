"""A setting is chosen that saves enough and forecasts no worse, and what is promised comes from other windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.app.settings import decision_settings
from agent.config.load import nested, turned
from agent.config.schema import Config
from agent.research.optimising import KNOBS, Setting, Target, choose, front, parsed_goal
from agent.research.trials import knobs
from market.errors import Misconfigured
from strategies.score import Interval, ratio_interval


def setting(amount: float, gain: float, saved: float, width: float = 0.01, name: object = 1) -> Setting:
    less = Interval(saved, saved - 0.05, saved + 0.05)
    return Setting({"edge.budget.nodes": name}, 10, 5, amount, less, Interval(gain, gain - width, gain + width), 0)


@pytest.mark.parametrize("text", ["reduce-by 50%", "reduce-by=50%", "50%", "0.5", " reduce-by  50% "])
def test_a_goal_in_words(text: str) -> None:
    assert parsed_goal(text.strip()) == 0.5


@pytest.mark.parametrize("text", ["", "half", "reduce-by 0%", "100%", "-5%", "reduce-by 120%"])
def test_a_goal_that_is_none(text: str) -> None:
    with pytest.raises(Misconfigured, match="is not understood"):
        parsed_goal(text)


def test_the_best_forecast_among_what_saves_enough_is_chosen() -> None:
    cheap, good, dear = setting(1, -0.005, 0.9), setting(4, 0.0, 0.6), setting(9, 0.02, 0.1)
    assert choose([cheap, good, dear], 0.5) is good


def test_of_equals_the_one_that_changes_least_is_chosen() -> None:
    small, much = setting(4, 0.0, 0.6), setting(1, 0.0, 0.9)
    more = Setting({**much.values, "edge.correct": False}, 10, 5, 1, much.less, much.gain, 0)
    assert choose([more, small], 0.5) is small


def test_what_forecasts_worse_beyond_chance_is_not_chosen() -> None:
    assert choose([setting(1, -0.5, 0.9)], 0.5) is None


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-1, 1)), max_size=30))
def test_nothing_beats_the_front_in_both(points: list[tuple[float, float]]) -> None:
    made = [setting(a, g, 0.5, name=n) for n, (a, g) in enumerate(points)]
    kept = front(made)
    for one in made:
        assert any(k.amount <= one.amount and k.gain.mean >= one.gain.mean for k in kept)  # type: ignore[union-attr]
    for k in kept:
        better = [o for o in made if o.amount < k.amount and o.gain.mean >= k.gain.mean]  # type: ignore[union-attr]
        assert not better


def test_every_knob_is_a_key_and_every_value_does() -> None:
    for name, values in KNOBS.items():
        for value in values:
            made = turned(Config(), {name: value})
            assert decision_settings(made, counted_in_tokens=True)


def test_a_patch_is_the_tree_of_a_file() -> None:
    assert nested({"edge.budget.nodes": 4, "edge.correct": False}) == {
        "edge": {"budget": {"nodes": 4}, "correct": False}
    }


def test_a_ratio_draws_clusters() -> None:
    over, under = np.array([1.0, 1.0, 2.0, 0.0]), np.array([2.0, 2.0, 4.0, 0.0])
    found = ratio_interval(over, under, ["a", "a", "b", "c"])
    assert found == Interval(0.5, 0.5, 0.5)
    assert ratio_interval(over, np.zeros(4), ["a", "a", "b", "c"]) is None


def test_threads_are_turned_where_time_counts_and_the_usual_number_is_no_change() -> None:
    assert "edge.threads" not in knobs(Config(), Target.TOKENS, 2)
    assert list(knobs(Config(), Target.LATENCY, 2)["edge.threads"]) == [0, 1]
    assert list(knobs(turned(Config(), {"edge.threads": 1}), Target.ENERGY, 4)["edge.threads"]) == [1, 2, 4]
    fast = turned(Config(), {"edge.runtime": "openvino"})
    assert "edge.precision" in knobs(fast, Target.LATENCY, 2)
