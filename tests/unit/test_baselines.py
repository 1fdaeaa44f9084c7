"""The diffusion that a forecast has to beat: volatility from irregular ticks, and the dated rules of a window."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.clock import to_ms
from market.feed import ReferenceTick
from market.types import Market
from strategies.baselines import (
    average_diffusion,
    average_price,
    diffusion,
    p_up,
    realised_volatility,
)
from tests.fakes import START, after, market, prices

SIGMA = 1e-4
TWAP = market(seconds=300)
INSTANT = replace(TWAP, opens_at=START - timedelta(days=90), closes_at=START - timedelta(days=90, seconds=-300))


def ticks(*pairs: tuple[float, float], origin: datetime = START, lag: float = 1.0) -> list[ReferenceTick]:
    """Ticks from (seconds after `origin`, price)."""
    made = []
    for seconds, price in pairs:
        at = origin + timedelta(seconds=seconds)
        made.append(ReferenceTick(at, at + timedelta(seconds=lag), Decimal(repr(price))))
    return made


def walk(seed: int, gaps: Sequence[float], sigma: float = SIGMA, origin: datetime = START) -> list[ReferenceTick]:
    """A driftless log-price seen after each of these gaps."""
    chance = np.random.default_rng(seed)
    steps = chance.normal(0, sigma, len(gaps)) * np.sqrt(gaps)
    path = 65_000 * np.exp(np.cumsum(steps))
    return ticks(*zip(np.cumsum(gaps).tolist(), path.tolist(), strict=True), origin=origin)


def test_volatility_is_recovered_from_irregular_ticks() -> None:
    gaps = np.random.default_rng(1).exponential(25, 4_000).tolist()
    found = realised_volatility(walk(2, gaps))
    assert found == pytest.approx(SIGMA, rel=0.05)


def test_duplicates_and_ticks_a_moment_apart_change_nothing() -> None:
    made = walk(3, [12.0] * 200)
    doubled = [t for tick in made for t in (tick, tick)]
    assert realised_volatility(doubled) == realised_volatility(made)
    jitter = [
        t
        for tick in made
        for t in (tick, replace(tick, at=tick.at + timedelta(milliseconds=1), price=tick.price * Decimal("1.01")))
    ]
    assert realised_volatility(jitter) == realised_volatility(made)


def test_the_last_received_of_two_prices_of_one_instant_counts() -> None:
    made = walk(4, [10.0] * 30)
    wrong = [replace(t, received_at=t.received_at - timedelta(milliseconds=1), price=Decimal(1)) for t in made]
    assert realised_volatility([*made, *wrong]) == realised_volatility(made)


def test_a_half_life_follows_a_change_of_regime() -> None:
    calm = walk(5, [10.0] * 400)
    last = float(calm[-1].price) / 65_000
    wild = walk(6, [10.0] * 100, 3 * SIGMA, calm[-1].at)
    made = [*calm, *(replace(t, price=t.price * Decimal(repr(last))) for t in wild)]
    flat, faded = realised_volatility(made), realised_volatility(made, half_life=300)
    assert flat is not None and faded is not None
    assert flat < 1.9 * SIGMA < 2.4 * SIGMA < faded < 3.6 * SIGMA


@pytest.mark.parametrize(
    "made", [[], walk(7, [10.0] * 11)[:10], walk(7, [0.5] * 100), ticks(*((s * 10, 5.0) for s in range(50)))]
)
def test_too_few_ticks_or_a_price_that_never_moved_have_no_volatility(made: list[ReferenceTick]) -> None:
    assert realised_volatility(made) is None


@lru_cache(maxsize=1)
def _paths() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(20000, 241) log-prices over two minutes in half seconds, from 0."""
    steps = np.random.default_rng(8).normal(0, SIGMA * math.sqrt(0.5), (20_000, 240))
    return np.concatenate([np.zeros((20_000, 1)), np.cumsum(steps, axis=1)], axis=1)


@pytest.mark.parametrize("window", [30, 60])
@pytest.mark.parametrize("seconds_left", [120, 61, 60, 45, 20, 5])
@pytest.mark.parametrize("lean", [-1.5, -0.5, 0.0, 0.7])
def test_the_average_ends_above_the_strike_as_often_as_in_a_simulation(
    window: int, seconds_left: int, lean: float
) -> None:
    price, so_far = 65_000.0, 65_003.0
    ahead = min(seconds_left, window)
    path = price * np.exp(_paths()[:, : 2 * seconds_left + 1])
    future = path[:, -(2 * ahead) - 1 :]
    average = (future[:, 1:] + future[:, :-1]).mean(axis=1) / 2
    average = (average * ahead + so_far * (window - ahead)) / window
    strike = float(np.mean(average)) * (1 + lean * float(np.std(average)) / price)
    exact = average_diffusion(price, strike, SIGMA, seconds_left, window, so_far if ahead < window else None)
    share = float(np.mean(average >= strike))
    assert exact == pytest.approx(share, abs=4.5 * math.sqrt(0.25 / len(average)))


def test_an_average_is_surer_than_the_price_and_sure_at_its_end() -> None:
    for left in (300, 120, 60):
        assert average_diffusion(65_010, 65_000, SIGMA, left, 60) > diffusion(65_010, 65_000, SIGMA, left) > 0.5
    assert average_diffusion(1.0, 65_000, SIGMA, 0, 60, 65_000) == 1.0, "a tie is Up"
    assert average_diffusion(65_900, 65_000, SIGMA, 0, 60, 64_999.9) == 0.0
    assert average_diffusion(65_000, 65_000, SIGMA, 1, 60, 70_000) == 1.0, "what has passed decides"
    assert average_diffusion(65_000, 65_000, SIGMA, 1, 60, 64_000) < 1e-9


@given(st.floats(0.5, 299.5), st.floats(-20, 20), st.sampled_from([0.0, 30.0, 60.0]))
def test_more_price_is_never_less_likely_up(left: float, move: float, window: float) -> None:
    def at(price: float) -> float:
        return (
            average_diffusion(price, 65_000, SIGMA, left, window, 65_000)
            if window
            else diffusion(price, 65_000, SIGMA, left)
        )

    assert 0 <= at(65_000 + move) <= at(65_001 + move) <= 1


def test_inside_the_window_the_average_so_far_is_needed() -> None:
    with pytest.raises(ValueError, match="so far"):
        average_diffusion(1.0, 1.0, SIGMA, 10, 60)


def test_an_average_price_lets_each_price_stand_until_the_next() -> None:
    made = ticks((-5, 1.0), (2, 3.0), (6, 5.0), (8, 9.0))
    assert average_price(made, START) == pytest.approx((2 * 1 + 4 * 3 + 2 * 5) / 8)
    assert average_price(made[1:], START) == pytest.approx((2 * 3 + 4 * 3 + 2 * 5) / 8), "from the first tick back"
    assert average_price(made[3:], START) == 9.0


def history(m: Market, until: float) -> list[ReferenceTick]:
    """A price around 65,000 from ten minutes before the open to `until` seconds after it."""
    made = walk(9, [1.0] * int(600 + until), origin=m.opens_at - timedelta(seconds=600))
    return [replace(t, price=t.price / made[-1].price * 65_000) for t in made]


@pytest.mark.parametrize(("m", "window"), [(INSTANT, 0), (TWAP, 60)])
@pytest.mark.parametrize("elapsed", [100, 239, 280])
def test_the_rule_is_the_one_in_force_when_the_window_opened(m: Market, window: int, elapsed: int) -> None:
    m = replace(m, price_to_beat=Decimal("64995"))
    made = history(m, elapsed)
    at = made[-1].received_at
    sigma = realised_volatility(made)
    assert sigma is not None
    left = 300.0 - elapsed
    if not window:
        expected = diffusion(65_000, 64_995, sigma, left)
    else:
        passed = average_price(made, m.closes_at - timedelta(seconds=window)) if left < window else None
        expected = average_diffusion(65_000, 64_995, sigma, left, window, passed)
    assert p_up(m, made, at) == pytest.approx(expected)


def test_thirty_seconds_were_averaged_for_one_week() -> None:
    opened = datetime(2026, 8, 10, tzinfo=UTC)
    m = replace(TWAP, opens_at=opened, closes_at=opened + timedelta(seconds=300), price_to_beat=Decimal("64995"))
    made = history(m, 255)
    sigma = realised_volatility(made)
    assert sigma is not None
    assert p_up(m, made, made[-1].received_at) == pytest.approx(average_diffusion(65_000, 64_995, sigma, 45, 30))


def test_ticks_not_yet_received_or_after_the_close_are_not_looked_at() -> None:
    m = replace(INSTANT, price_to_beat=Decimal("64995"))
    made = history(m, 299)
    at = m.opens_at + timedelta(seconds=200)
    known = [t for t in made if t.received_at <= at]
    assert p_up(m, made, at) == p_up(m, known, at) is not None
    late = m.closes_at + timedelta(seconds=30)
    beyond = [*made, ReferenceTick(m.closes_at + timedelta(seconds=1), late, Decimal(1))]
    assert p_up(m, beyond, late) == p_up(m, made, late)


def test_time_runs_from_the_newest_tick() -> None:
    m = replace(INSTANT, price_to_beat=Decimal("64995"))
    made = history(m, 200)
    first = p_up(m, made, made[-1].received_at)
    assert p_up(m, made, made[-1].received_at + timedelta(seconds=60)) == first


def test_no_strike_no_ticks_or_no_volatility_is_no_forecast() -> None:
    struck = replace(TWAP, price_to_beat=Decimal("64995"))
    assert p_up(TWAP, history(TWAP, 100), after(200)) is None
    assert p_up(struck, history(TWAP, 100), after(-1)) is None, "before the open nobody knows the price to beat"
    assert p_up(struck, history(TWAP, 100), after(0)) is not None
    assert p_up(struck, [], after(200)) is None
    assert p_up(struck, ticks(*((s, 65_000.0) for s in range(0, 100, 10))), after(200)) is None
    assert prices((1, "5")).between(0, to_ms(after(9))) and p_up(struck, ticks((1, 65_000.0)), after(9)) is None
