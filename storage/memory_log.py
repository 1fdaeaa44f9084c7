"""In-memory run log: for backtest trials, of which only the profits matter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from market.types import Ack, Fill, Micro, Resolution, Settlement, SignedOrder
from storage.canonical import Json
from storage.log import RunLog


class InMemoryRunLog(RunLog):
    """Collects fills, settlements and outcomes, and writes nothing to disk."""

    def __init__(self) -> None:
        self.fills: list[Fill] = []
        self.settlements: list[Settlement] = []
        self.resolved: set[str] = set()

    def profits(self) -> dict[str, Micro]:
        """Profit after fees of each traded market with a known outcome."""
        found: dict[str, Micro] = {}
        changes = [(f.market_id, f.cash) for f in self.fills] + [(s.market_id, s.cash) for s in self.settlements]
        for market_id, cash in changes:
            if market_id in self.resolved:
                found[market_id] = found.get(market_id, 0) + cash
        return found

    async def intent(self, decision_id: str, signed: SignedOrder, at: datetime, *, view: object, why: str) -> Any:
        return None

    async def ack(self, ack: Ack, at: datetime) -> Any:
        return None

    async def fill(self, fill: Fill) -> Any:
        self.fills.append(fill)

    async def settlement(self, s: Settlement) -> Any:
        self.settlements.append(s)

    async def outcome(self, market_id: str, resolution: Resolution, at: datetime) -> Any:
        if resolution.payout is not None:
            self.resolved.add(market_id)

    async def end(self, at: datetime, body: Mapping[str, Json]) -> Any:
        return None
