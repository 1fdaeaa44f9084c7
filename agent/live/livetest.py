"""The staged live test: an order that cannot fill is placed, seen and cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal

from agent.live.preflight import patiently
from market.clock import Clock, monotonic
from market.errors import NotReady
from market.types import Market, Order, OrderStatus, Outcome, Side, TimeInForce, units
from tools.orders import OrderTool
from tools.polymarket.complaints import advice_on

_DEEP = Decimal("0.01")
"""Price of the test order in dollars, too low to fill."""


@dataclass(frozen=True, slots=True)
class LivetestStep:
    """One step of the staged test: its name, its result, and its duration in milliseconds."""

    name: str
    found: str
    milliseconds: float


@dataclass(slots=True)
class Livetest:
    """The staged test of one market; `told` receives each step."""

    orders: OrderTool
    clock: Clock
    market: Market
    told: Callable[[LivetestStep], None]
    since: float = 0.0

    async def run(self, ready: Callable[[Clock], Awaitable[None]]) -> None:
        self.since = monotonic()
        await patiently(lambda: ready(self.clock))
        self._say("self-test", "preflight checks passed")
        await self.orders.sync()
        before = await self.orders.account()
        price = max(_DEEP, self.market.tick)
        order = Order(
            market_id=self.market.id,
            outcome=Outcome.YES,
            side=Side.BUY,
            price=price,
            size=self.market.min_size,
            tif=TimeInForce.GTC,
            placed_at=self.clock.now(),
            key="livetest",
            post_only=True,
        )
        signed = await self.orders.sign(order)
        self._say("signed", f"order {signed.id[:12]} for {units(order.size)} shares of {self.market.slug} at ${price}")
        ack = await self.orders.send(signed)
        if ack.status is not OrderStatus.LIVE:
            said = f"{ack.status.value} {ack.reason}".strip().rstrip(".")
            raise NotReady(f"The venue did not accept the resting order: {said}.", next_step=advice_on(ack.reason))
        self._say("sent", "the order rests in the venue's book")
        await self._must_rest(signed.id)
        if not await self.orders.cancel(signed.id):
            raise NotReady("The order could not be cancelled.", next_step="Check it on the venue's website.")
        self._say("cancelled", "confirmed by the venue")
        await self.orders.sync()
        after = await self.orders.account()
        if (after.cash, after.reserved) != (before.cash, before.reserved):
            raise NotReady(f"The account had {before.cash} micro-dollars before and has {after.cash} now.")
        self._say("money", f"whole: ${units(after.cash)}")

    async def _must_rest(self, order_id: str) -> None:
        await self.orders.sync()
        if order_id not in {o.id for o in (await self.orders.account()).open_orders}:
            raise NotReady("The venue accepted the order and does not show it.")
        self._say("seen", "it is among the open orders")

    def _say(self, name: str, found: str) -> None:
        now = monotonic()
        self.told(LivetestStep(name, found, (now - self.since) * 1e3))
        self.since = now
