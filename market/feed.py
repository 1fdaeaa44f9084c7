"""Ports of market data and reference prices, implemented alike by recorded, live and loopback feeds.

Point-in-time: every read names an instant, and the answer holds only data *received* by then. A feed holds no clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from market.types import Book, Market, Micro, Resolution

if TYPE_CHECKING:
    from market.columns import Columns, Mask

Worth: TypeAlias = "Callable[[Market, Columns], Mask]"
"""Filter over n books: (n,) true where the caller wants to see the book. Evaluated again after every book that was
shown, so the answer may depend on the outcome."""


@dataclass(frozen=True, slots=True)
class FeedInfo:
    """Description of a feed.

    `fingerprint` identifies the data: equal fingerprints give equal answers to every question. `notes` are plain
    sentences on limits of the data. `begins` and `ends` are None for a live feed. `has_reference`: `ReferencePrices` is
    answered as well. `instants`, ascending, are the only ones at which a recording of single snapshots is worth asking;
    empty where any instant is as good as another.
    """

    name: str
    fingerprint: str
    begins: datetime | None
    ends: datetime | None
    has_reference: bool
    has_trades: bool
    notes: tuple[str, ...] = ()
    instants: tuple[datetime, ...] = ()


class Bar(NamedTuple):
    """The YES book over one time step, closed at `at`: data received before `at` and nothing later.

    Prices are the last ones seen, None where a side was empty; depths are shares on the best five levels. `updates`
    counts the snapshots inside the step; a step without any repeats the previous one with 0. A tuple, since every
    decision takes some hundreds of them.
    """

    market_id: str
    at: datetime
    bid: Micro | None
    ask: Micro | None
    bid_depth: Micro
    ask_depth: Micro
    updates: int


@dataclass(frozen=True, slots=True)
class ReferenceTick:
    """A price of a window's underlying, from its settlement stream or a labelled proxy.

    `price` is exact: dollars (or the proxy's quote currency) for one unit of the asset. `at` is the source's time of
    the price, `received_at` is local; point-in-time reads go by `received_at`.
    """

    at: datetime
    received_at: datetime
    price: Decimal


class ReferencePrices(Protocol):
    """Price series of a market's underlying, as of an instant."""

    async def reference(self, market_id: str, after: datetime, until: datetime) -> Sequence[ReferenceTick]:
        """Ticks received in (after, until], in order of receipt; empty where the market has no series."""
        ...


class Feed(Protocol):
    """Market data as of an instant."""

    @property
    def info(self) -> FeedInfo: ...

    async def markets(self, at: datetime) -> Sequence[Market]:
        """Markets whose window is open at `at` (opens_at <= at < closes_at), by opening time, then id."""
        ...

    async def book(self, market_id: str, at: datetime) -> Book | None:
        """The YES book standing at `at`: the newest one received at or before it; None before the first."""
        ...

    def changes(
        self, market_ids: Sequence[str], after: datetime, until: datetime, worth: Worth | None = None
    ) -> AsyncIterator[Book]:
        """YES books received in (after, until], in order of receipt, then market id. A live feed waits for them.

        A feed may, and need not, leave out books that `worth` rejects: over arrays that is much faster.
        """
        ...

    async def bars(self, market_id: str, after: datetime, until: datetime, step: int) -> Sequence[Bar]:
        """Bars of `step` seconds that close in (after, until], on the grid of whole multiples of `step`."""
        ...

    async def resolution(self, market_id: str, at: datetime) -> Resolution | None:
        """The market's outcome, if it could be known at `at`."""
        ...


class PricedFeed(Feed, ReferencePrices, Protocol):
    """One source of market data and reference prices; empty answers where there is no reference price."""
