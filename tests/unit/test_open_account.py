"""Agreement of the venue's account with ours: a difference that passes is none, and one that stays is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from agent.live.account import _BETWEEN, _DIFFERS, _UNTIL_PAID, OpenAccount
from market.clock import Clock, ManualClock
from market.types import UNIT, Outcome, PayoutSource, Settlement
from tests.fakes import START

OWED = {("m", Outcome.YES): Settlement("m", Outcome.YES, UNIT, Decimal(1), PayoutSource.OFFICIAL, START)}
GAP = "dollars: the venue holds 23 where the records say 0"


async def _nothing(_: Clock) -> None: ...


def looked(says: Sequence[str], paid_after: int = 0) -> tuple[str, int, timedelta]:
    """The result, the number of looks and the time they took; the last of what it `says` is said from then on."""
    clock, looks = ManualClock(START), list[datetime]()

    async def audit() -> str:
        return says[min(len(looks), len(says)) - 1]

    async def before(at: datetime) -> None:
        looks.append(at)

    hands = OpenAccount(None, _nothing, _nothing, audit, lambda: OWED if len(looks) < paid_after else {})  # type: ignore[arg-type]
    return asyncio.run(hands.compared(clock, before)), len(looks), clock.now() - START


def test_accounts_that_agree_are_looked_at_once() -> None:
    assert looked([""]) == ("", 1, timedelta(0))


def test_a_difference_that_stays_is_told() -> None:
    assert looked([GAP]) == (GAP, _DIFFERS, (_DIFFERS - 1) * _BETWEEN)


def test_winnings_that_come_in_the_middle_of_a_late_look_are_no_difference() -> None:
    """As the venue pays between the question for the shares and the one for the dollars, ten minutes on."""
    assert looked([*[""] * 60, GAP, ""], paid_after=62) == ("", 62, 61 * _BETWEEN)


def test_winnings_that_never_come_are_waited_for_so_long() -> None:
    assert looked([""], paid_after=10_000)[:2] == ("", _UNTIL_PAID)


@given(st.lists(st.sampled_from(["", GAP]), max_size=60), st.integers(0, 200))
def test_what_agrees_in_the_end_is_not_told_and_what_differs_is(said: list[str], paid_after: int) -> None:
    runs = "".join("x" if s else "." for s in said)
    agrees, _, _ = looked([*said, ""], paid_after)
    assert (agrees == "") is ("x" * _DIFFERS not in runs)
    differs, _, _ = looked([*said, GAP], 0)
    assert (differs == GAP) is (not said or (runs[0] == "x" and "." not in runs))
