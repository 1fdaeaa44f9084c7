"""Space of a sweep: points that are all different, of the field's own kind; and sentences for what cannot be."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.research.space import Space, read_space
from agent.research.sweep import cut
from market.errors import Misconfigured
from strategies.base import Strategy
from strategies.baselines import LateFavourite, MarketMid, Threshold
from strategies.score import overfitting
from tests.fakes import market

KNOWN: dict[str, Strategy] = {"late_favourite": LateFavourite(), "threshold": Threshold(), "market_mid": MarketMid()}


def space(tmp_path: Path, text: str) -> Space:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return read_space(file, KNOWN)


def test_values_are_of_the_fields_own_kind(tmp_path: Path) -> None:
    made = space(
        tmp_path,
        "strategy: late_favourite\nparameters: {seconds: {from: 30, to: 90, step: 30}, low: ['0.5', '0.55']}\n",
    )
    assert made.choices == {"seconds": ("30", "60", "90"), "low": ("0.5", "0.55")}
    strategies = [made.made(point) for point in made.points(100, 1)]
    assert len(strategies) == len(set(strategies)) == made.size == 6
    assert LateFavourite(seconds=60, low=Decimal("0.55")) in strategies


@given(st.integers(1, 40), st.integers(0, 5))
def test_points_are_different_and_come_from_the_seed(count: int, seed: int) -> None:
    made = Space(Threshold(), {"low": tuple(f"0.{n}" for n in range(30, 40)), "high": ("0.5", "0.6", "0.7")})
    points = made.points(count, seed)
    assert points == made.points(count, seed)
    assert len({tuple(p.items()) for p in points}) == len(points) == min(count, 30)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "needs the keys strategy and parameters"),
        ("strategy: luck\nparameters: {a: [1]}", "there is no strategy luck"),
        ("strategy: threshold\nparameters: {depth: [1]}", "threshold has no field depth"),
        ("strategy: threshold\nparameters: {name: [x]}", "threshold has no field name"),
        ("strategy: threshold\nparameters: {low: much}", "the values of low are neither"),
        ("strategy: threshold\nparameters: {low: {from: 1, to: 0, step: 1}}", "the values of low are neither"),
        ("strategy: late_favourite\nparameters: {seconds: [a]}", "the values of seconds are neither"),
        ("strategy: threshold\nparameters: {}", "names no parameter"),
        ("strategy: [", "cannot be read as YAML"),
    ],
)
def test_a_space_that_cannot_be_swept_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said) as refused:
        space(tmp_path, text)
    assert refused.value.next_step


def test_what_is_kept_back_comes_last_and_shares_no_time_with_the_rest() -> None:
    markets = [market(n) for n in range(10)]
    tried, held = cut(markets, 0.2)
    assert (tried, held) == (markets[:8], markets[8:])
    assert cut(markets, 0.0) == (markets, [])
    long = market(7, seconds=900)
    late = [*markets[:7], long, market(7), market(8)]
    tried, held = cut(late, 0.2)
    assert all(m.closes_at <= held[0].opens_at for m in tried)


def test_a_choice_among_noise_is_overfitted_and_a_real_difference_is_not() -> None:
    chance = np.random.default_rng(5)
    noise = chance.normal(size=(20, 400))
    found = overfitting(noise)
    assert found is not None
    assert 0.25 < found < 0.85
    noise[3] += 1.0
    assert overfitting(noise) == 0.0
    assert overfitting(noise[:1]) is None
    assert overfitting(noise[:, :5]) is None
