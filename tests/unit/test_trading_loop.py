"""Markets that the loop follows until they are settled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from agent.trading.loop import HORIZON, Schedule, TradingLoop
from tests.fakes import START, market


def loop() -> TradingLoop:
    nothing = cast(Any, None)
    return TradingLoop(nothing, nothing, nothing, nothing, nothing, Schedule(START, None))


def test_a_market_that_was_settled_between_two_slots_is_not_followed_again_by_a_late_one() -> None:
    made, first, second = loop(), market(0), market(1)
    made._follow([first], START)
    del made.open[first.id]
    made.closed[first.id] = first.closes_at
    made._follow([first, second], first.opens_at + timedelta(minutes=10))
    assert made.open.keys() == {second.id}


def test_what_was_settled_is_forgotten_once_no_slot_can_list_it() -> None:
    made, first = loop(), market(0)
    made.closed[first.id] = first.closes_at
    made._follow([], first.closes_at + HORIZON)
    assert made.closed == {}
