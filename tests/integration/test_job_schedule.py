"""Jobs beside a run, on a real scheduler: late ones are made up for once, none twice at a time, none ends the run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

pytest.importorskip("apscheduler", reason="the extra `live` is not installed")

from agent.service.jobs import Job, scheduled
from agent.trading.bus import LocalBus
from market.clock import WallClock
from market.errors import VenueUnavailable
from market.events import JobDone
from tests.servers import until

SECOND = timedelta(seconds=1)


def watched(*jobs: Job, ends: Callable[[list[JobDone]], bool]) -> list[JobDone]:
    """Jobs done until `ends` holds."""

    async def scope() -> list[JobDone]:
        bus, done = LocalBus(), list[JobDone]()
        with bus.subscribed(JobDone, done.append):
            async with scheduled(jobs, bus, WallClock(), pace=1.0):
                await until(lambda: ends(done))
        return done

    return asyncio.run(scope())


def test_what_was_missed_while_the_loop_was_busy_is_made_up_for_once() -> None:
    calls = 0

    async def work() -> str:
        nonlocal calls
        calls += 1
        return ""

    async def scope() -> None:
        async with scheduled([Job("j", SECOND, work)], LocalBus(), WallClock(), pace=1.0):
            await asyncio.sleep(0.5)
            time.sleep(2.6)  # noqa: ASYNC251 - a loop that does not turn is what this is about
            await until(lambda: calls > 0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert calls == 1, "three were due while the loop was busy, and were made up for as one"
            await until(lambda: calls > 1)

    asyncio.run(scope())


def test_a_job_is_not_begun_while_it_runs_and_is_cancelled_at_the_end() -> None:
    running, most, ended = 0, 0, list[str]()

    async def work() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(3600)
        finally:
            running -= 1
            ended.append("cancelled")
        return ""

    async def beside() -> str:
        return ""

    watched(Job("slow", SECOND, work), Job("beside", SECOND, beside), ends=lambda done: len(done) >= 3)
    assert most == 1 and ended == ["cancelled"] and running == 0


def test_a_job_that_fails_is_tried_again_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    async def work() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise VenueUnavailable("The venue does not answer.")
        if calls == 3:
            raise ZeroDivisionError
        return "All is well."

    with caplog.at_level(logging.INFO, "agent.service.jobs"):
        done = watched(Job("j", SECOND, work), ends=lambda done: len(done) >= 4)[:4]
    assert [d.ok for d in done] == [False, False, False, True]
    assert done[0].says == done[1].says == "The venue does not answer." and "ZeroDivisionError" in done[2].says
    said = [r.getMessage() for r in caplog.records]
    assert said.count("j: The venue does not answer.") == 1 and "j: All is well." in said
