"""Simulated feed outages, market by market: the data of a trader whose connection is down at times.

Outages affect the trader's feed alone; the exchange sees everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from market.clock import from_ms, to_ms
from market.feed import Bar, FeedInfo, PricedFeed, ReferenceTick, Worth
from market.types import Book, Market, Resolution

GAP_MS = 30_000
"""Length of an outage, unless another one follows."""


@dataclass(frozen=True, slots=True)
class FeedOutages:
    """Feed that loses new books for a `share` of the time of each market; the same outages in every run. Books of an
    outage are never delivered. Reference prices and outcomes are not affected."""

    inner: PricedFeed
    share: float

    @property
    def info(self) -> FeedInfo:
        return self.inner.info

    async def markets(self, at: datetime) -> Sequence[Market]:
        return await self.inner.markets(at)

    async def book(self, market_id: str, at: datetime) -> Book | None:
        return await self.inner.book(market_id, self._last_delivered(market_id, at))

    async def changes(
        self, market_ids: Sequence[str], after: datetime, until: datetime, worth: Worth | None = None
    ) -> AsyncIterator[Book]:
        async for book in self.inner.changes(market_ids, after, until, worth):
            if not self._in_outage(book.market_id, to_ms(book.received_at) // GAP_MS):
                yield book

    async def bars(self, market_id: str, after: datetime, until: datetime, step: int) -> Sequence[Bar]:
        return await self.inner.bars(market_id, after, self._last_delivered(market_id, until), step)

    async def resolution(self, market_id: str, at: datetime) -> Resolution | None:
        return await self.inner.resolution(market_id, at)

    async def reference(self, market_id: str, after: datetime, until: datetime) -> Sequence[ReferenceTick]:
        return await self.inner.reference(market_id, after, until)

    def _last_delivered(self, market_id: str, at: datetime) -> datetime:
        """Last instant of delivered data as of `at`: one millisecond before the present outage."""
        gap = to_ms(at) // GAP_MS
        if not self._in_outage(market_id, gap):
            return at
        while self._in_outage(market_id, gap - 1):
            gap -= 1
        return from_ms(gap * GAP_MS - 1)

    def _in_outage(self, market_id: str, gap: int) -> bool:
        drawn = hashlib.sha256(f"{market_id}|{gap}|silence".encode()).digest()
        return int.from_bytes(drawn[:7], "big") / 2**56 < self.share
