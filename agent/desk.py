"""The desk: every order, fill and settlement passes here, once, in order, and is written down before it counts.

The same for the agent and for baseline strategies. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.bus import Bus
from market.errors import Halt, VenueUnavailable
from market.events import OrderFilled, OrderPlaced, PositionSettled, TradingHalted
from market.types import Ack, Fill, Market, Order, OrderStatus, Resolution
from storage.store import RunLog
from strategies.base import Wish
from tools.orders import Account, OrderTool


@dataclass(slots=True)
class Desk:
    """Hands between decisions and a venue. `halted` is the reason trading stopped, or empty."""

    orders: OrderTool
    log: RunLog
    bus: Bus
    halted: str = ""
    unsure: dict[str, str] = field(default_factory=dict)

    async def act(self, wish: Wish, market: Market, decision_id: str, number: int, at: datetime) -> Ack | None:
        """Send one order: intent first, then the venue, then its answer. None where trading is halted.

        `number` tells apart the orders of one decision. An unknown outcome is left to `reconcile`, which learns from
        the venue's own fills; the order is never signed again.
        """
        if self.halted:
            return None
        key = f"{decision_id}/{number}"
        order = Order(market.id, wish.outcome, wish.side, wish.price, wish.size, wish.tif, at, key)
        signed = await self.orders.sign(order)
        await self.log.intent(decision_id, signed, at)
        self.bus.publish(OrderPlaced(at=at, order_id=signed.id, order=order))
        try:
            ack = await self.orders.send(signed)
        except VenueUnavailable as unknown:
            self.unsure[signed.id] = str(unknown)
            return None
        except Halt as stop:
            self.halt(str(stop), at)
            ack = Ack(signed.id, OrderStatus.REJECTED, str(stop))
        await self.log.ack(ack, at)
        return ack

    def halt(self, reason: str, at: datetime) -> None:
        """Stop opening anything for the rest of the run."""
        self.halted = reason
        self.bus.publish(TradingHalted(at=at, reason=reason))

    async def reconcile(self) -> Sequence[Fill]:
        """Write down what has filled since the last time."""
        fills = await self.orders.fills()
        for fill in fills:
            await self.log.fill(fill)
            self.unsure.pop(fill.order_id, None)
            self.bus.publish(OrderFilled(at=fill.at, fill=fill))
        return fills

    async def settle(self, resolution: Resolution) -> None:
        """Turn a resolved market's shares into dollars."""
        for settlement in await self.orders.settle(resolution):
            await self.log.settlement(settlement)
            self.bus.publish(PositionSettled(at=settlement.at, settlement=settlement))

    async def account(self) -> Account:
        return await self.orders.account()
