"""HTTP endpoints on a configured address: `/metrics`, `/healthz` and `/readyz`.

Read-only: they change nothing in a run. Asked by a name that is not this machine's, they do not answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from agent.host.listening import bound, host_names, knows_host, listen_address
from agent.service.metrics import Metrics
from agent.service.pulse import Pulse

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def serving(listen: str, pulse: Pulse, metrics: Metrics, halted: Callable[[], str]) -> AsyncIterator[int]:
    """Serve at "HOST:PORT" while the block lasts; yields the port, which is chosen where 0 is given. Raises
    Misconfigured for no address, NotReady where it cannot be bound."""
    address = listen_address(listen)
    with bound(address, "service.listen") as door:
        app = web.Application(middlewares=[_guard(host_names(address, door))])
        metrics_page = _page(lambda: web.Response(body=metrics.text(), headers={"Content-Type": _TEXT}))
        app.router.add_get("/metrics", metrics_page)
        app.router.add_get("/healthz", _page(lambda: _well(pulse.complaints())))
        app.router.add_get("/readyz", _page(lambda: _well((*pulse.remarks(), *_not_trading(pulse, halted())))))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.SockSite(runner, door).start()
            yield int(door.getsockname()[1])
        finally:
            await runner.cleanup()


def _guard(names: frozenset[str]) -> Middleware:
    """Middleware that answers only requests by one of these names: against DNS rebinding."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not knows_host(request.headers.get("Host", ""), names):
            return web.Response(status=421, text="This server does not go by that name.")
        return await handler(request)

    return guarded


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
