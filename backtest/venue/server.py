"""HTTP and WebSocket server of the loopback venue: every host of the real one on one port of 127.0.0.1.

It serves tests, demos and dry runs. It cannot be bound to any other address. What moves it beside its clients stands
under /venue/ (`control`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from backtest.venue.answers import Refusal, refused
from backtest.venue.auth import Authenticator
from backtest.venue.clob_markets import ClobMarkets
from backtest.venue.control import PREFIX, ControlHandlers
from backtest.venue.data_service import DataService
from backtest.venue.faults import Fault
from backtest.venue.market_data import MarketData
from backtest.venue.quotes import QuoteHandlers
from backtest.venue.relayer import RelayerHandlers
from backtest.venue.rpc import LoopbackChain
from backtest.venue.state import VenueState
from backtest.venue.streams import Streams
from backtest.venue.trading import TradingHandlers
from market.errors import NotReady
from market.tasks import end

HOST = "127.0.0.1"
_PAGE = "<!DOCTYPE html><html><title>Maintenance</title><p>We will be back soon.</html>"
_SLOW = 1.0
"""Seconds of system time added to a slow answer."""
_RATE_HEADERS = {
    "Retry-After": "1",
    "Poly-RateLimit-Remaining": "0",
    "Poly-RateLimit-Reset": "1",
    "Poly-RateLimit-Tier": "standard",
    "Poly-RateLimit-Warning": "false",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_EXEMPT = (PREFIX, "/time")
"""Paths without fault injection: commands, and the time, which shows pages all the same."""


class VenueServer:
    """A venue's state and its handlers. API credentials derive from `secret`."""

    def __init__(self, state: VenueState, secret: bytes, *, strict_wallets: bool = False) -> None:
        self.state = state
        self.door = Authenticator(secret, state.purse, strict_wallets=strict_wallets)
        self.streams = Streams(state, self.door)
        self.chain = LoopbackChain(state)
        self._handlers = (
            MarketData(state),
            QuoteHandlers(state),
            ClobMarkets(state),
            DataService(state),
            ControlHandlers(state, self.door),
            TradingHandlers(state, self.door, self.chain),
            self.streams,
            RelayerHandlers(state, self.chain),
        )

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        for handlers in self._handlers:
            app.add_routes(handlers.routes())
        app.add_routes([web.post("/", self.chain.answer)])
        return app

    async def run(self) -> None:
        """Let the venue's time pass until cancelled."""
        await asyncio.gather(self.state.run(), self._prices())

    async def _prices(self) -> None:
        while True:
            self.streams.say_prices()
            await self.state.clock.wait_until(self.state.clock.now() + timedelta(seconds=1))

    # -- fault injection around the handlers

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            if not request.path.startswith(_EXEMPT):
                await self._inject_faults(request)
            page = None if request.path.startswith(PREFIX) else self._page_instead()
            return await handler(request) if page is None else page
        except Refusal as refusal:
            return refusal.response()
        except ConnectionResetError:  # the client has gone
            return web.Response(status=500)

    async def _inject_faults(self, request: web.Request) -> None:
        faults, now = self.state.faults, self.state.now()
        # Cancels by id are deletes on the same paths.
        trades = request.path in ("/order", "/orders")
        if trades and faults.lasts(Fault.RESTARTING, now):
            raise Refusal(425, {"error": "matching engine is restarting"}, {"Retry-After": "1"})
        if faults.happens(Fault.RATE_LIMITED):
            raise Refusal(429, {"error": "too many requests"}, _RATE_HEADERS)
        if faults.happens(Fault.SERVER_ERROR):
            raise refused("could not insert order", 500)
        if faults.happens(Fault.SLOW):
            await asyncio.sleep(_SLOW)
        # The connection ends before the handler: nothing was accepted, which the client cannot know.
        if faults.happens(Fault.LOST_REQUEST) and request.transport is not None:
            request.transport.abort()
            raise refused("connection lost", 500)
        if faults.happens(Fault.TICK_CHANGE):
            self._refine()

    def _page_instead(self) -> web.Response | None:
        """An HTML page instead of data, as a proxy in front of the venue sends during maintenance."""
        for fault, status in ((Fault.PAGE_OK, 200), (Fault.PAGE_FORBIDDEN, 403)):
            if self.state.faults.lasts(fault, self.state.now()):
                return web.Response(text=_PAGE, status=status, content_type="text/html")
        return None

    def _refine(self) -> None:
        """Refine the tick of every open market while orders are on their way."""
        for market_id, hall in self.state.exchange.halls.items():
            if hall.accepting:
                old, new = hall.market.tick, Decimal("0.001")
                self.state.refine(market_id, new)
                self.streams.say_tick(hall.market, old, new, self.state.exchange.now)


@asynccontextmanager
async def served(server: VenueServer, port: int = 0) -> AsyncIterator[str]:
    """Serve the venue on 127.0.0.1, with its windows listed; yields its address. Port 0 takes a free one. Raises
    NotReady if the port is taken."""
    await server.state.list_windows()
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            raise NotReady(
                f"port {port} of {HOST} cannot be listened on ({error.strerror}).", next_step="Choose another --port."
            ) from error
        running = asyncio.create_task(server.run())
        try:
            yield f"http://{HOST}:{_port(runner)}"
        finally:
            await end(running)
    finally:
        await runner.cleanup()


def _port(runner: web.AppRunner) -> int:
    addresses: list[Any] = runner.addresses
    return int(addresses[0][1])
