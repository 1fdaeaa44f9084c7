"""HTTP and WebSocket server of the loopback venue: every host of the real one on one port of 127.0.0.1.

It serves tests, demos and dry runs. It cannot be bound to any other address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from backtest.venue.answers import Refusal, payload_of, refused, said
from backtest.venue.auth import Authenticator
from backtest.venue.faults import Fault
from backtest.venue.market_data import MarketData
from backtest.venue.payloads import open_order
from backtest.venue.relayer import RelayerHandlers
from backtest.venue.rpc import LoopbackChain
from backtest.venue.state import VenueState
from backtest.venue.streams import Streams
from backtest.venue.trading import TradingHandlers
from market.clock import WallClock
from market.errors import Misconfigured, NotReady
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
_CONTROL = "/venue/"
_EXEMPT = (_CONTROL, "/time")
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
            TradingHandlers(state, self.door),
            self.streams,
            RelayerHandlers(state, self.chain),
        )

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        for handlers in self._handlers:
            app.add_routes(handlers.routes())
        app.add_routes(
            [
                web.get("/venue/state", self.told),
                web.get("/venue/ledger/{address}", self.ledger),
                web.get("/venue/orders/{address}", self.orders),
                web.post("/venue/faults", self.command),
                web.delete("/venue/faults", self.mend),
                web.post("/", self.chain.answer),
            ]
        )
        return app

    async def run(self) -> None:
        """Let the venue's time pass until cancelled."""
        await asyncio.gather(self.state.run(), self._prices())

    async def _prices(self) -> None:
        while True:
            self.streams.say_prices()
            await self.state.clock.wait_until(self.state.clock.now() + timedelta(seconds=1))

    # -- control endpoints of the loopback venue

    async def told(self, request: web.Request) -> web.Response:
        """Status of the venue: its time and that of its machine, its pace, and the faults that have happened."""
        now = self.state.now()
        return said(
            {
                "now": now.isoformat(),
                "machine": WallClock().now().isoformat(),
                "speed": getattr(self.state.clock, "speed", 1.0),
                "windows": len(self.state.windows),
                "orders": len(self.state.exchange.orders),
                "trades": len(self.state.exchange.trades),
                "faults": {fault.value: n for fault, n in sorted(self.state.faults.seen.items())},
            }
        )

    async def ledger(self, request: web.Request) -> web.Response:
        """Balances of an address in base units: free, bound by trades, and coming from them."""
        self.state.now()
        purse = self.state.exchange.purses.get(request.match_info["address"].lower())
        if purse is None:
            raise refused("no such account", 404)
        return said({"held": purse.held, "bound": purse.bound, "coming": purse.coming})

    async def orders(self, request: web.Request) -> web.Response:
        """All orders ever placed by an address, oldest first."""
        self.state.now()
        address = request.match_info["address"].lower()
        placed = [p for p in self.state.exchange.orders.values() if p.submission.address == address]
        return said([open_order(p) for p in placed])

    async def command(self, request: web.Request) -> web.Response:
        """Inject {"fault": name, "count": n} or, for a mode, {"fault": name, "seconds": s}."""
        asked = await payload_of(request)
        if not isinstance(asked, dict):
            raise refused("a fault is an object with a name")
        now = self.state.now()
        try:
            count, seconds = int(asked.get("count", 1)), float(asked.get("seconds", 5.0))
            fault = self.state.faults.order(str(asked.get("fault")), now, count=count, seconds=seconds)
        except (Misconfigured, ValueError, TypeError) as error:
            raise refused(str(error)) from None
        if fault is Fault.SETTLEMENT_FAILS:
            self.state.exchange.failing += count
        return said({"fault": fault.value, "count": count, "seconds": seconds})

    async def mend(self, request: web.Request) -> web.Response:
        self.state.faults.clear()
        self.state.exchange.failing = 0
        return said({})

    # -- fault injection around the handlers

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            if not request.path.startswith(_EXEMPT):
                await self._inject_faults(request)
            page = None if request.path.startswith(_CONTROL) else self._page_instead()
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
