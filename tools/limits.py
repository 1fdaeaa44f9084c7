"""Hard limits around an order tool: no order reaches a venue without passing here. Knows no strategy.

An order that is too large for its own caps is refused by itself; a loss that is too large stops trading altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from market.errors import LimitExceeded
from market.types import Ack, Fill, Micro, Order, OrderStatus, Resolution, Settlement, Side, SignedOrder, units
from tools.orders import Account, OrderTool


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """Micro-dollars of cost for one order, for the orders of one market, and of cash lost since the start."""

    order: Micro = 50_000_000
    market: Micro = 100_000_000
    loss: Micro = 250_000_000
    open_orders: int = 20


class RiskLimited:
    """Any `OrderTool`, with a ceiling on what it may risk.

    Errors: `LimitExceeded` once settled losses reach the limit; from then on every order raises it.
    """

    def __init__(self, inner: OrderTool, limits: RiskLimits) -> None:
        self._inner, self._limits = inner, limits
        self._committed: dict[str, Micro] = {}
        self._paid: dict[str, Micro] = {}
        self._lost: Micro = 0

    async def sign(self, order: Order) -> SignedOrder:
        return await self._inner.sign(order)

    async def send(self, signed: SignedOrder) -> Ack:
        self._stop_at_loss()
        if reason := await self._refusal(signed.order):
            return Ack(signed.id, OrderStatus.REJECTED, reason)
        ack = await self._inner.send(signed)
        if ack.status is not OrderStatus.REJECTED:
            market = signed.order.market_id
            self._committed[market] = self._committed.get(market, 0) + signed.order.cost
        return ack

    async def cancel(self, order_id: str) -> bool:
        return await self._inner.cancel(order_id)

    async def fills(self) -> Sequence[Fill]:
        fills = await self._inner.fills()
        for fill in fills:
            self._paid[fill.market_id] = self._paid.get(fill.market_id, 0) - fill.cash
        return fills

    async def account(self) -> Account:
        return await self._inner.account()

    async def settle(self, resolution: Resolution) -> Sequence[Settlement]:
        settled = await self._inner.settle(resolution)
        if settled:
            paid = self._paid.pop(resolution.market_id, 0)
            self._lost += paid - sum(s.cash for s in settled)
            self._committed.pop(resolution.market_id, None)
        return settled

    def _stop_at_loss(self) -> None:
        if self._lost >= self._limits.loss:
            raise LimitExceeded(
                f"settled losses of ${units(self._lost)} reached the limit of ${units(self._limits.loss)}.",
                next_step="Read the decisions that lost, then start again with a limit you accept.",
            )

    async def _refusal(self, order: Order) -> str:
        if order.side is Side.SELL:
            return ""
        if order.cost > self._limits.order:
            return f"limit: order costs ${units(order.cost)}, at most ${units(self._limits.order)} is allowed"
        if self._committed.get(order.market_id, 0) + order.cost > self._limits.market:
            return f"limit: this market would hold more than ${units(self._limits.market)}"
        if len((await self._inner.account()).open_orders) >= self._limits.open_orders:
            return f"limit: {self._limits.open_orders} orders are open already"
        return ""
