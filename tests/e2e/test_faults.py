"""Fault injection: failures of a trading box, done to a live agent for real. All of it: python -m tests.faults"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from tests.faults import SCENARIOS, CannotBeTried, Scenario, clock_back, disk_filled, killed

QUICK = [s for s in SCENARIOS if s.run in (disk_filled, clock_back)]
LONG = [s for s in SCENARIOS if s not in QUICK and s.run is not killed]


def must_be_as_expected(scenario: Scenario, place: Path) -> None:
    try:
        assert scenario.run(place, 0)
    except CannotBeTried as why:
        pytest.skip(str(why))


@pytest.mark.parametrize("scenario", QUICK, ids=lambda s: s.fault)
def test_a_fault_ends_in_the_documented_state(scenario: Scenario, tmp_path: Path) -> None:
    must_be_as_expected(scenario, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("scenario", LONG, ids=lambda s: s.fault)
def test_every_fault_ends_in_the_documented_state(scenario: Scenario, tmp_path: Path) -> None:
    must_be_as_expected(scenario, tmp_path)
