"""Port: how orders reach a venue. Live, paper and backtest each bring one; the cycle cannot tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from market.types import Ack, Fill, Micro, Order, Outcome, Resolution, Settlement, SignedOrder

Holdings = Mapping[tuple[str, Outcome], Micro]
"""Shares held, by (market id, outcome); no zero entries."""


@dataclass(frozen=True, slots=True)
class Account:
    """The venue's word on what we have. `reserved` are dollars promised to orders still open."""

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
    """The hands. Errors: `VenueUnavailable` when the outcome is unknown, `Halt` when a limit forbids the order."""

    async def sign(self, order: Order) -> SignedOrder:
        """Give the order its identity. The same order always gets the same id. Nothing is sent."""
        ...

    async def send(self, signed: SignedOrder) -> Ack:
        """Hand the order to the venue. Sending the same signed order twice never makes a second order."""
        ...

    async def status(self, order_id: str) -> Ack | None:
        """The venue's last word on an order; None for an order it has never seen."""
        ...

    async def cancel(self, order_id: str) -> bool:
        """Take an open order back; False when there was nothing left to cancel."""
        ...

    async def cancel_all(self) -> int:
        """Take every open order back; how many there were."""
        ...

    async def fills(self) -> Sequence[Fill]:
        """What has filled since the last call, in order; a fill of negative size takes back one whose settlement
        failed."""
        ...

    async def account(self) -> Account:
        """Cash, positions and open orders as the venue has them now."""
        ...

    async def settle(self, resolution: Resolution) -> Sequence[Settlement] | None:
        """Turn what is held of a resolved market into dollars; nothing while it is unresolved, None while orders or
        trades of it may still change what is held: ask again."""
        ...

    async def sync(self) -> None:
        """Ask the venue for what may have been missed. Raises `VenueUnavailable`; then it may still be missing."""
        ...


class Around:
    """An `OrderTool` around another: passes everything on. Limits and faults are made by overriding."""

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
