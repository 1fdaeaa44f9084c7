from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.clock import EPOCH, ManualClock, PacedClock, WallClock, from_ms, to_ms
from tests.fakes import START, after


@given(st.integers(-(10**12), 10**13))
def test_milliseconds_survive_the_round_trip(ms: int) -> None:
    assert to_ms(from_ms(ms)) == ms


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds are naive by contract
def test_an_instant_rounds_down_to_its_millisecond(at: datetime) -> None:
    assert timedelta(0) <= at - from_ms(to_ms(at)) < timedelta(milliseconds=1)


def test_before_the_epoch_is_down_too() -> None:
    assert to_ms(EPOCH - timedelta(microseconds=1)) == -1


def test_any_zone_names_the_same_instant() -> None:
    assert to_ms(START.astimezone(timezone(timedelta(hours=-4)))) == to_ms(START)


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(START)
    clock.advance_to(after(5))
    assert clock.now() == after(5)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance_to(after(4))


def test_waiting_for_the_past_does_not_move_a_manual_clock() -> None:
    clock = ManualClock(after(5))
    asyncio.run(clock.wait_until(START))
    assert clock.now() == after(5)
    asyncio.run(clock.wait_until(after(9)))
    assert clock.now() == after(9)


def test_a_paced_clock_shows_exactly_the_instants_waited_for() -> None:
    clock = PacedClock(START, speed=1e9)
    assert clock.now() == START
    for at in (after(1), after(3600), after(10)):
        asyncio.run(clock.wait_until(at))
    assert clock.now() == after(3600)


@pytest.mark.parametrize("speed", [0.0, -1.0])
def test_a_pace_is_positive(speed: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        PacedClock(START, speed)


def test_the_wall_clock_speaks_utc_and_does_not_wait_for_the_past() -> None:
    clock = WallClock()
    assert clock.now().tzinfo is UTC
    asyncio.run(clock.wait_until(EPOCH))
