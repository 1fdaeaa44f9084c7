"""Order port, implemented for live, paper and backtest; the trading cycle cannot tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from market.types import Ack, Fill, Micro, Order, Outcome, Resolution, Settlement, SignedOrder

Holdings = Mapping[tuple[str, Outcome], Micro]
"""Micro-shares held, by (market id, outcome); no zero entries."""


@dataclass(frozen=True, slots=True)
class Account:
    """Account as reported by the venue. `reserved` are micro-dollars committed to open orders."""

    cash: Micro
    reserved: Micro = 0
    holdings: Holdings = field(default_factory=dict)
    open_orders: tuple[SignedOrder, ...] = ()

    @property
    def free(self) -> Micro:
        return self.cash - self.reserved

    def held(self, market_id: str, outcome: Outcome) -> Micro:
        return self.holdings.get((market_id, outcome), 0)


class OrderTool(Protocol):
    """Port for orders. Errors: `VenueUnavailable` when the outcome is unknown, `Halt` when a limit forbids the
    order."""

    async def sign(self, order: Order) -> SignedOrder:
        """Sign the order, which fixes its id. The same order always gets the same id. Nothing is sent."""
        ...

    async def send(self, signed: SignedOrder) -> Ack:
        """Send the order to the venue. Sending the same signed order twice never makes a second order."""
        ...

    async def status(self, order_id: str) -> Ack | None:
        """The venue's latest answer on an order; None for an order it has never seen."""
        ...

    async def cancel(self, order_id: str) -> bool:
        """Cancel an open order; False when there was nothing left to cancel."""
        ...

    async def cancel_many(self, order_ids: Sequence[str]) -> int:
        """Cancel these orders, in as few requests as the venue allows; return how many were open."""
        ...

    async def cancel_all(self) -> int:
        """Cancel every open order of the account, whoever placed it; return their number."""
        ...

    async def fills(self) -> Sequence[Fill]:
        """Fills since the last call, in order; a fill of negative size reverses one whose settlement failed."""
        ...

    async def account(self) -> Account:
        """Cash, positions and open orders as the venue has them now."""
        ...

    async def settle(self, resolution: Resolution) -> Sequence[Settlement] | None:
        """Convert the holdings of a resolved market into dollars; nothing while it is unresolved, None while its orders
        or trades may still change the holdings: ask again."""
        ...

    async def sync(self) -> None:
        """Read what may have been missed from the venue. Raises `VenueUnavailable`; then it may still be missing."""
        ...


class Around:
    """Base of decorators: an `OrderTool` that delegates to another. Limits and faults override its methods."""

    def __init__(self, inner: OrderTool) -> None:
        self._inner = inner

    async def sign(self, order: Order) -> SignedOrder:
        return await self._inner.sign(order)

    async def send(self, signed: SignedOrder) -> Ack:
        return await self._inner.send(signed)

    async def status(self, order_id: str) -> Ack | None:
        return await self._inner.status(order_id)

    async def cancel(self, order_id: str) -> bool:
        return await self._inner.cancel(order_id)

    async def cancel_many(self, order_ids: Sequence[str]) -> int:
        return await self._inner.cancel_many(order_ids)

    async def cancel_all(self) -> int:
        return await self._inner.cancel_all()

    async def fills(self) -> Sequence[Fill]:
        return await self._inner.fills()

    async def account(self) -> Account:
        return await self._inner.account()

    async def settle(self, resolution: Resolution) -> Sequence[Settlement] | None:
        return await self._inner.settle(resolution)

    async def sync(self) -> None:
        await self._inner.sync()
