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

    async def fills(self) -> Sequence[Fill]:
        """What has filled since the last call, in order."""
        ...

    async def account(self) -> Account:
        """Cash, positions and open orders as the venue has them now."""
        ...

    async def settle(self, resolution: Resolution) -> Sequence[Settlement]:
        """Turn what is held of a resolved market into dollars; nothing while it is unresolved."""
        ...
