"""Supervision of a run: its pulse, notifications to systemd, and the HTTP pages where configured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

from agent.config.schema import ServiceConfig
from agent.llm.engine import Engine
from agent.service.notify import Notifier
from agent.service.pulse import Pulse, beating, watching_slots
from agent.trading.bus import LocalBus
from market.errors import NotReady


@asynccontextmanager
async def attended(
    service: ServiceConfig, bus: LocalBus, pulse: Pulse, engine: Engine, halted: Callable[[], str]
) -> AsyncIterator[int]:
    """Supervise the run while the block lasts; yields the port of the pages, 0 without them. `halted` returns the
    reason of a halt, or an empty string."""
    async with AsyncExitStack() as stack:
        port = 0
        if service.listen:
            port = await _pages(stack, service.listen, bus, pulse, halted)
        stack.enter_context(watching_slots(pulse, bus))
        await stack.enter_async_context(beating(pulse, engine, Notifier.of()))
        yield port


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
