"""Schedule of a session: a grid of the wall clock, or the instants a recording can be asked."""

from datetime import timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trading.loop import Schedule
from market.clock import EPOCH
from tests.fakes import START, after

CADENCES = [1, 5, 30, 60, 100, 300, 600, 900]


@given(begins=st.integers(-400_000, 400_000), cadence=st.sampled_from(CADENCES), offset=st.integers(0, 299))
def test_the_grid_starts_with_its_first_point_that_is_not_past(begins: int, cadence: int, offset: int) -> None:
    schedule = Schedule(
        START + timedelta(milliseconds=begins), None, timedelta(seconds=cadence), timedelta(seconds=offset)
    )
    slots = list(islice(schedule.slots(), 5))
    first = slots[0][0]
    assert first == schedule.first()
    assert schedule.begins <= first < schedule.begins + schedule.cadence
    assert (first - EPOCH - schedule.offset) % schedule.cadence == timedelta(0)
    assert all(following - slot == schedule.cadence for slot, following in slots)
    assert all(a[1] == b[0] for a, b in pairwise(slots))


def test_the_grid_stops_before_the_end() -> None:
    schedule = Schedule(after(1), after(90), timedelta(seconds=30))
    assert [slot for slot, _ in schedule.slots()] == [after(30), after(60)]


def test_instants_are_kept_in_order_and_watched_until_the_next() -> None:
    instants = (after(65), after(5), after(65), after(20), after(900))
    schedule = Schedule(after(10), after(900), instants=instants)
    assert list(schedule.slots()) == [(after(20), after(65)), (after(65), after(900))]
    assert schedule.first() == after(20)


def test_the_last_instant_is_watched_for_a_cadence() -> None:
    schedule = Schedule(after(0), None, instants=(after(20),))
    assert list(schedule.slots()) == [(after(20), after(320))]


@pytest.mark.parametrize("instants", [(), (after(-5),)])
def test_no_instant_is_no_slot(instants: tuple[()]) -> None:
    schedule = Schedule(after(0), None, instants=instants)
    assert list(schedule.slots()) == []
    assert schedule.first() == after(0)
