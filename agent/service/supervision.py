"""Supervision of a run: its pulse, notifications to systemd, changes of its health as events, and the HTTP pages where
configured."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec

from agent.config.schema import ServiceConfig
from agent.llm.engine import Engine
from agent.service.notify import Notifier
from agent.service.pulse import Pulse, beating, watching_slots
from agent.trading.bus import Bus, LocalBus
from market.clock import Clock, monotonic
from market.errors import NotReady
from market.events import HealthChanged

_LOOK = 1.0
"""Seconds between two looks at the complaints."""


@asynccontextmanager
async def attended(
    service: ServiceConfig, bus: LocalBus, pulse: Pulse, engine: Engine, halted: Callable[[], str], clock: Clock
) -> AsyncIterator[int]:
    """Supervise the run while the block lasts; yields the port of the pages, 0 without them. `halted` returns the
    reason of a halt, or an empty string."""
    pulse.counters |= bus.counters
    async with AsyncExitStack() as stack:
        port = 0
        if service.listen:
            port = await _pages(stack, service.listen, bus, pulse, halted)
        stack.enter_context(watching_slots(pulse, bus))
        await stack.enter_async_context(beating(pulse, engine, Notifier.of()))
        await stack.enter_async_context(_publishing_health(pulse, bus, clock))
        yield port


@dataclass(slots=True)
class HealthWatch:
    """Publisher of the complaints that begin and end. One that only counts on (61 s of silence after 60) is the same:
    `standing` are sentences and monotonic times of their beginnings, by the text before the first number."""

    bus: Bus
    standing: dict[str, tuple[str, float]] = field(default_factory=dict)

    def look(self, remarks: Sequence[str], at: datetime) -> None:
        """Compare the present complaints with the last ones."""
        now, present = monotonic(), {_before_numbers(sentence): sentence for sentence in remarks}
        for kind in self.standing.keys() - present.keys():
            sentence, since = self.standing.pop(kind)
            away = round(now - since, 1)
            self.bus.publish(HealthChanged(at=at, complaint=sentence, over=True, seconds=away))
        for kind, sentence in present.items():
            if kind not in self.standing:
                self.standing[kind] = sentence, now
                self.bus.publish(HealthChanged(at=at, complaint=sentence, over=False))


def _before_numbers(sentence: str) -> str:
    return re.split(r"\d", sentence, maxsplit=1)[0] or sentence


@asynccontextmanager
async def _publishing_health(pulse: Pulse, bus: Bus, clock: Clock) -> AsyncIterator[None]:
    watch = HealthWatch(bus)

    async def look() -> None:
        while True:
            watch.look(pulse.remarks(), clock.now())
            await asyncio.sleep(_LOOK)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _pages(stack: AsyncExitStack, listen: str, bus: LocalBus, pulse: Pulse, halted: Callable[[], str]) -> int:
    if find_spec("prometheus_client") is None or find_spec("aiohttp") is None:
        raise NotReady(
            "service.listen needs packages that are not installed.", next_step="Run: pip install 'edgeclaw[service]'"
        )
    from agent.service.metrics import Metrics
    from agent.service.web import serving

    metrics = Metrics(pulse)
    stack.enter_context(metrics.counting(bus))
    return await stack.enter_async_context(serving(listen, pulse, metrics, halted))
