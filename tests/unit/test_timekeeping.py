"""A clock that jumps under a run: nothing is opened on a time that nobody confirms, and one set back ends the run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.service.timekeeping import DIFFERS, STEPPED, Timekeeper
from agent.trading.inhibit import MOST, Inhibitor, InhibitSignal
from market.clock import WallClock
from market.errors import ClockStepped, DataInvalid, NotReady, VenueUnavailable
from market.tasks import alongside
from tests.fakes import START


class Settable(WallClock):
    """The machine's clock, moved by hand."""

    by = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.by


class Venue:
    """The venue's verdict on our clock."""

    def __init__(self, answers: Callable[[], Exception | None]) -> None:
        self.answers = answers

    async def agree(self) -> None:
        if (error := self.answers()) is not None:
            raise error


def keeper(clock: WallClock, inhibitor: Inhibitor, venue: Venue) -> Timekeeper:
    return Timekeeper(clock, inhibitor, venue.agree, look=0.005, compare=0.02, in_doubt=0.01)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for is a value
            await asyncio.sleep(0.002)


def test_a_clock_set_forward_is_believed_again_once_the_venue_agrees() -> None:
    async def scope() -> None:
        clock, inhibitor = Settable(), Inhibitor()
        says: list[Exception | None] = [DataInvalid("a time that is none")]
        venue = Venue(lambda: says[0])
        async with alongside(keeper(clock, inhibitor, venue).watch()):
            await asyncio.sleep(0.05)
            assert not inhibitor.clock
            says[0] = VenueUnavailable("no answer")
            clock.by = timedelta(hours=1)
            await until(lambda: inhibitor.clock == STEPPED)
            says[0] = NotReady("an hour away")
            await until(lambda: inhibitor.clock == DIFFERS)
            says[0] = None
            await until(lambda: not inhibitor.clock)

    asyncio.run(scope())


def test_doubts_of_the_clock_and_their_end_are_logged_as_such(caplog: pytest.LogCaptureFixture) -> None:
    async def scope() -> None:
        inhibitor = Inhibitor()
        says: list[Exception | None] = [NotReady("three seconds away")]
        async with alongside(keeper(WallClock(), inhibitor, Venue(lambda: says[0])).watch()):
            await until(lambda: inhibitor.clock == DIFFERS)
            says[0] = None
            await until(lambda: not inhibitor.clock)
            await asyncio.sleep(0.1)  # agreeing goes on, and is said once

    with caplog.at_level(logging.INFO, "agent.service.timekeeping"):
        asyncio.run(scope())
    told = [(getattr(record, "action", ""), record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("clock", "WARNING", "three seconds away"),
        ("clock", "INFO", "system clock agrees with the venue's clock again"),
    ]


def test_a_clock_that_drifts_away_from_the_venues_is_noticed_without_a_step() -> None:
    async def scope() -> None:
        inhibitor = Inhibitor()
        venue = Venue(lambda: NotReady("three seconds away"))
        async with alongside(keeper(WallClock(), inhibitor, venue).watch()):
            await until(lambda: inhibitor.clock == DIFFERS)

    asyncio.run(scope())


def test_a_clock_set_back_ends_the_run_with_its_own_error() -> None:
    clock, ended = Settable(), list[bool]()

    async def run() -> None:
        async with alongside(keeper(clock, Inhibitor(), Venue(lambda: None)).watch()):
            clock.by = timedelta(hours=-1)
            try:
                await asyncio.sleep(10)
            finally:
                ended.append(True)  # the block is ended as by a request, so that it can clean up

    async def scope() -> None:
        with pytest.raises(ClockStepped, match="set back by 3600 s"):
            await run()
        assert ended and not asyncio.current_task().cancelling()  # type: ignore[union-attr]

    asyncio.run(scope())


def test_a_request_to_end_stays_one() -> None:
    async def scope() -> None:
        async def run() -> None:
            async with alongside(keeper(WallClock(), Inhibitor(), Venue(lambda: None)).watch()):
                await asyncio.sleep(10)

        task = asyncio.create_task(run())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scope())


names = st.sampled_from(["a", "b", "c"])
spans = st.integers(-100, 100)


@given(st.lists(st.tuples(names, spans, st.integers(0, 10)), max_size=20))
def test_signals_forbid_exactly_until_their_time(told: list[tuple[str, int, int]]) -> None:
    """Against the plain rule: the last word of each name counts, until its instant."""
    inhibitor, at, plain = Inhibitor(), START, dict[str, datetime]()
    for name, span, passes in told:
        at += timedelta(seconds=passes)
        until_then = at + timedelta(seconds=span)
        inhibitor.inhibit(InhibitSignal(name, until_then), at)
        plain[name] = until_then
        standing = sorted(n for n, end in plain.items() if at < end)
        assert inhibitor.reason(at) == (f"signal_{standing[0]}" if standing else "")
    inhibitor.clock = DIFFERS
    assert inhibitor.reason(at) == DIFFERS


def test_there_is_an_end_to_signals() -> None:
    inhibitor = Inhibitor()
    for n in range(MOST):
        inhibitor.inhibit(InhibitSignal(f"s{n}", START + timedelta(hours=1)), START)
    with pytest.raises(ValueError, match="end one first"):
        inhibitor.inhibit(InhibitSignal("more", START + timedelta(hours=1)), START)
    inhibitor.inhibit(InhibitSignal("s0", START), START)
    inhibitor.inhibit(InhibitSignal("more", START + timedelta(hours=1)), START)
    assert len(inhibitor.signals) == MOST
