"""Health of a run: event-loop lag, silence of the market feed, state of the engine. Decides and stops nothing.

Read by supervisors: systemd by a watchdog that is fed only while there are no complaints,
a load balancer or a person over HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from agent.llm.engine import Engine
from agent.service.notify import Notifier
from agent.trading.bus import LocalBus
from market.clock import monotonic
from market.events import CycleStarted, SlotSkipped
from market.tasks import alongside
from market.types import Micro

_BEAT, _KEPT = 0.25, 40
"""Seconds between two measurements of the loop's lag, and how many are kept."""
_SLOTS_WITHOUT_A_MARKET = 3
_ASK, _ANSWER = 30.0, 10.0
"""Seconds between two health checks of the engine, and the time-out of one."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Largest accepted silence of the market feed and lag of the event loop, in seconds."""

    silence: float
    lag: float


async def _nobody() -> None:
    """Nothing: no account is open yet."""


@dataclass(slots=True)
class Pulse:
    """Present health of a run. `heard` returns the monotonic time of the feed's last message; None before the feed is
    open. `stage` is the run's current stage in words, `trading` is True once it trades, `at_risk` its exposure and
    `realised` its account's results in micro-dollars, `breach` the loss limit that is reached, `account` its account
    summary; `queues` are queue depths by name. `counters` and `troubles`, by source: all that the feed or the account
    has counted, and sentences on what of it is recent."""

    bounds: Bounds
    stage: str = "starting"
    trading: bool = False
    heard: Callable[[], float] | None = None
    at_risk: Callable[[], Micro] = lambda: 0
    realised: Callable[[], Micro] = lambda: 0
    breach: Callable[[], str] = lambda: ""
    engine: str = ""
    account: Callable[[], Awaitable[object]] = _nobody
    queues: dict[str, Callable[[], int]] = field(default_factory=dict)
    counters: dict[str, Callable[[], Mapping[str, int]]] = field(default_factory=dict)
    troubles: dict[str, Callable[[], Sequence[str]]] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    late: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    @property
    def lag(self) -> float:
        """Largest lag of the event loop in the last ten seconds, in seconds."""
        return max(self.late, default=0.0)

    @property
    def silence(self) -> float:
        """Seconds since the last message of the feed; 0 before it is open."""
        return monotonic() - self.heard() if self.heard is not None else 0.0

    def warn(self, about: str, sentence: str) -> None:
        """Set or clear a warning for a person. Warnings do not trigger a restart, which would not help."""
        if sentence:
            self.warnings[about] = sentence
        else:
            self.warnings.pop(about, None)

    def remarks(self) -> tuple[str, ...]:
        """Complaints, warnings and recent troubles, one sentence each."""
        troubles = [sentence for told in self.troubles.values() for sentence in told()]
        return (*self.complaints(), *self.warnings.values(), *troubles)

    def complaints(self) -> tuple[str, ...]:
        """Bounds that are exceeded, one sentence each: reasons to restart."""
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
    """Keep the pulse current and systemd informed while the block lasts."""
    try:
        async with alongside(_beat(pulse), _examine(pulse, engine), _report(pulse, notifier)):
            yield
    finally:
        notifier.stopping()


async def _beat(pulse: Pulse) -> None:
    while True:
        due = monotonic() + _BEAT
        await asyncio.sleep(_BEAT)
        pulse.late.append(max(0.0, monotonic() - due))


async def _examine(pulse: Pulse, engine: Engine) -> None:
    """Check the engine's health repeatedly. No result and no exception ends the run."""
    while True:
        try:
            async with asyncio.timeout(_ANSWER):
                health = await engine.health()
            pulse.engine = "" if health.ok else health.detail
        except Exception as error:
            pulse.engine = f"The health check of the engine failed ({type(error).__name__})."
        await asyncio.sleep(_ASK)


async def _report(pulse: Pulse, notifier: Notifier) -> None:
    """Report readiness once the run trades, and feed the watchdog while there are no complaints."""
    reported = False
    while True:
        complaints = pulse.complaints()
        if pulse.trading and not reported:
            notifier.ready()
            reported = True
        notifier.status(complaints[0] if complaints else pulse.stage)
        if not complaints:
            notifier.alive()
        await asyncio.sleep(notifier.interval)


@contextmanager
def watching_slots(pulse: Pulse, bus: LocalBus) -> Iterator[None]:
    """Warn once no market was open at several slots in a row: the run goes on, and trades nothing."""
    missed = 0

    def skipped(event: SlotSkipped) -> None:
        nonlocal missed
        if event.reason != "no_market":
            return
        missed += 1
        if missed >= _SLOTS_WITHOUT_A_MARKET:
            pulse.warn("markets", f"No market was open at the last {missed} slots: check venue.series and venue.slugs.")

    def started(_: CycleStarted) -> None:
        nonlocal missed
        missed = 0
        pulse.warn("markets", "")

    with bus.subscribed(SlotSkipped, skipped), bus.subscribed(CycleStarted, started):
        yield
