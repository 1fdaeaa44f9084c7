"""Maintenance jobs beside a run: each at its own interval, never twice at a time, on APScheduler.

The misfire rules are explicit: a run that is due while the loop was busy or the machine asleep is made up for
once, however late, and several that were missed are made up for together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from agent.trading.bus import Bus
from market.clock import Clock, WallClock, monotonic
from market.errors import EdgeclawError
from market.events import JobDone

log = logging.getLogger(__name__)
RULES = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
"""APScheduler defaults: missed runs are coalesced into one, however late; a job never overlaps itself."""
_LEAST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `work` returns its result in words, or an empty string; `every` is in the run's own time."""

    name: str
    every: timedelta
    work: Callable[[], Awaitable[str]]


@dataclass(slots=True)
class _Running:
    """One job with its repeated runs. A failure is logged once, not every time, and tried again at the next run."""

    job: Job
    bus: Bus
    clock: Clock
    said: str = ""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def once(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        begun = monotonic()
        try:
            says, ok = await self.job.work(), True
        except asyncio.CancelledError:
            return  # the block ends: APScheduler need not log it as an error
        except EdgeclawError as error:
            says, ok = error.sentence(), False
        except Exception as error:  # a job must never end a run
            log.exception("job %s failed", self.job.name)
            says, ok = f"It failed ({type(error).__name__}).", False
        if says and says != self.said:
            log.log(logging.INFO if ok else logging.WARNING, "%s: %s", self.job.name, says)
        self.said = says
        took = (monotonic() - begun) * 1e3
        self.bus.publish(JobDone(at=self.clock.now(), name=self.job.name, ok=ok, says=says, milliseconds=took))


@asynccontextmanager
async def scheduled(jobs: Sequence[Job], bus: Bus, clock: Clock, pace: float = 1.0) -> AsyncIterator[AsyncIOScheduler]:
    """Run the jobs while the block lasts, the first time one interval after it began; `pace` is the number of seconds
    of theirs in one of the machine's. A job that runs when the block ends is cancelled."""
    scheduler = AsyncIOScheduler(timezone=UTC, job_defaults=RULES)  # the name "UTC" would need a time-zone database
    running = [_Running(job, bus, clock) for job in jobs]
    for one in running:
        every = max(_LEAST, one.job.every / pace)
        begins = WallClock().now() + every
        scheduler.add_job(
            one.once, "interval", seconds=every.total_seconds(), id=one.job.name, next_run_time=begins, jitter=None
        )
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.shutdown(wait=False)
        under_way = [task for one in running for task in one.tasks]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
