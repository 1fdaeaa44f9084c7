"""What has to be done now and then beside a run: each job at its own interval, never twice at a time, on APScheduler.

The rules for being late are explicit: a run that is due while the loop was busy or the machine asleep is made up for
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
"""Missed runs are made up for as one, at whatever time; a job is not begun while it runs."""
_LEAST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Job:
    """`work` says in words what came of it, or nothing; `every` is in the run's own time."""

    name: str
    every: timedelta
    work: Callable[[], Awaitable[str]]


@dataclass(slots=True)
class _Running:
    """One job, done again and again. What fails is said once, not every time, and tried again at its next turn."""

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
            return  # the block ends; whoever scheduled this need not say so
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
    """Do the jobs while the block lasts, the first time one interval after it began; `pace` is how many seconds of
    theirs pass in one of the machine's. What is under way when the block ends is cancelled."""
    scheduler = AsyncIOScheduler(timezone=UTC, job_defaults=RULES)  # the name would ask for a table of time zones
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
