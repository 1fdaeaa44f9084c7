"""Whether a run is well: does its loop turn, is the market heard, does the model answer. Decides and stops nothing.

Whoever watches over the run asks here: systemd by a watchdog that is fed only while there is nothing to complain of,
a load balancer or a person over HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agent.llm.engine import Engine
from agent.service.notify import Notifier
from market.clock import monotonic
from market.types import Micro

_BEAT, _KEPT = 0.25, 40
"""Seconds between two looks at the loop, and how many are remembered."""
_ASK, _ANSWER = 30.0, 10.0
"""Seconds between two questions to the engine about its health, and how long an answer may take."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds that the market may be silent, and that the loop may be late."""

    silence: float
    lag: float


async def _nobody() -> None:
    """No account is open yet."""


@dataclass(slots=True)
class Pulse:
    """What is known of a run right now. `heard` gives the instant, by the monotonic clock, at which the market was last
    heard of; None until it is listened to. `stage` says what the run is at, `trading` whether it has come to trade,
    `at_risk` what holdings and working orders cost, `account` how it stands; `queues` say by name how much waits."""

    bounds: Bounds
    stage: str = "starting"
    trading: bool = False
    heard: Callable[[], float] | None = None
    at_risk: Callable[[], Micro] = lambda: 0
    engine: str = ""
    account: Callable[[], Awaitable[object]] = _nobody
    queues: dict[str, Callable[[], int]] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    late: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    @property
    def lag(self) -> float:
        """The most that the loop was late in the last ten seconds."""
        return max(self.late, default=0.0)

    @property
    def silence(self) -> float:
        """Seconds since the market was heard; 0 where nobody listens yet."""
        return monotonic() - self.heard() if self.heard is not None else 0.0

    def warn(self, about: str, sentence: str) -> None:
        """Say what a person should look at, or nothing any more. Starting again would not help, so nobody does."""
        if sentence:
            self.warnings[about] = sentence
        else:
            self.warnings.pop(about, None)

    def remarks(self) -> tuple[str, ...]:
        """All that there is to say: what is out of bounds, and what a person should look at."""
        return (*self.complaints(), *self.warnings.values())

    def complaints(self) -> tuple[str, ...]:
        """What is out of bounds, a plain sentence each: reasons to start again."""
        found = []
        if self.silence > self.bounds.silence:
            found.append(f"No market data for {self.silence:.0f} s.")
        if self.lag > self.bounds.lag:
            found.append(f"Event loop lag of {self.lag:.1f} s.")
        if self.engine:
            found.append(self.engine)
        return tuple(found)


@asynccontextmanager
async def beating(pulse: Pulse, engine: Engine, notifier: Notifier) -> AsyncIterator[None]:
    """Keep the pulse current and the keeper informed while the block lasts."""
    running = [asyncio.create_task(work) for work in (_beat(pulse), _examine(pulse, engine), _report(pulse, notifier))]
    try:
        yield
    finally:
        notifier.stopping()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _beat(pulse: Pulse) -> None:
    while True:
        due = monotonic() + _BEAT
        await asyncio.sleep(_BEAT)
        pulse.late.append(max(0.0, monotonic() - due))


async def _examine(pulse: Pulse, engine: Engine) -> None:
    """Ask the engine how it is. Nothing that it answers or raises ends the run."""
    while True:
        try:
            async with asyncio.timeout(_ANSWER):
                health = await engine.health()
            pulse.engine = "" if health.ok else health.detail
        except Exception as error:
            pulse.engine = f"The health check of the engine failed ({type(error).__name__})."
        await asyncio.sleep(_ASK)


async def _report(pulse: Pulse, notifier: Notifier) -> None:
    """Say that the run has come to trade, once, and feed the watchdog while all is well."""
    told = False
    while True:
        complaints = pulse.complaints()
        if pulse.trading and not told:
            notifier.ready()
            told = True
        notifier.status(complaints[0] if complaints else pulse.stage)
        if not complaints:
            notifier.alive()
        await asyncio.sleep(notifier.interval)
