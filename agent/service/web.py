"""HTTP endpoints on a configured address: `/metrics`, `/healthz` and `/readyz`.

Read-only: they change nothing in a run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from agent.service.metrics import Metrics
from agent.service.pulse import Pulse
from market.errors import NotReady

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def serving(listen: str, pulse: Pulse, metrics: Metrics, halted: Callable[[], str]) -> AsyncIterator[int]:
    """Serve at "HOST:PORT" while the block lasts; yields the port, which is chosen where 0 is given. Raises NotReady
    where the address cannot be bound."""
    host, _, port = listen.rpartition(":")
    app = web.Application()
    app.router.add_get("/metrics", _page(lambda: web.Response(body=metrics.text(), headers={"Content-Type": _TEXT})))
    app.router.add_get("/healthz", _page(lambda: _well(pulse.complaints())))
    app.router.add_get("/readyz", _page(lambda: _well((*pulse.remarks(), *_not_trading(pulse, halted())))))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host.strip("[]"), int(port))
        try:
            await site.start()
        except OSError as error:
            raise NotReady(
                f"{listen} cannot be listened on ({error.strerror}).", next_step="Choose another service.listen."
            ) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _page(make: Callable[[], web.Response]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return make()

    return answer


def _well(complaints: tuple[str, ...]) -> web.Response:
    """200, or 503 with the complaints."""
    return web.json_response({"ok": not complaints, "complaints": complaints}, status=503 if complaints else 200)


def _not_trading(pulse: Pulse, halted: str) -> list[str]:
    if halted:
        return [f"Trading is halted: {halted.rstrip('.')}."]
    return [] if pulse.trading else [f"Not trading yet: {pulse.stage}."]
