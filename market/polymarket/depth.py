"""Order book of one token, updated change by change. Prices are whole ten-thousandths, so that a level is one entry of
a table.

The venue does not deliver in order: of 5,185 recorded changes 1,031 came after one with a later stamp, by up to 89 ms.
Applied by their stamps they rebuild every recorded snapshot exactly; in order of arrival most of them not. So each
level keeps the stamp of its last update, and an older update is ignored.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from decimal import Decimal

from market.polymarket.frames import PRICES, Change, PriceLevel, Snapshot, price_at
from market.types import Book, Level, Micro, Outcome

_RECENT_STATES = 512
"""Book states known by hash: a late snapshot is one of them."""


class _Side:
    """Totals by price, and the stamp of each, removed levels included. At most 10,001 entries of either."""

    __slots__ = ("_cached", "_levels", "best", "stamps", "totals", "up")

    def __init__(self, up: bool) -> None:
        self.up = up
        self.totals: dict[int, Micro] = {}
        self.stamps: dict[int, int] = {}
        self.best = 0 if up else PRICES
        self._levels: dict[int, Level] = {}
        self._cached: tuple[int | None, tuple[Level, ...]] | None = None

    def put(self, ticks: int, total: Micro, ms: int) -> None:
        # Equal stamps pass: within one millisecond the order of arrival counts.
        if self.stamps.get(ticks, 0) > ms:
            return
        self.stamps[ticks] = ms
        self._cached = None
        if total:
            self.totals[ticks] = total
            if (ticks > self.best) is self.up:
                self.best = ticks
        # Only the loss of the best level costs a scan.
        elif self.totals.pop(ticks, None) is not None and ticks == self.best:
            self.best = max(self.totals, default=0) if self.up else min(self.totals, default=PRICES)

    def shown(self, depth: int | None) -> tuple[Level, ...]:
        """Levels as values, best first, cut to `depth`; unchanged levels are reused."""
        if self._cached is not None and self._cached[0] == depth:
            return self._cached[1]
        levels, totals = self._levels, self.totals
        made = []
        for ticks in sorted(totals, reverse=self.up)[:depth]:
            level = levels.get(ticks)
            if level is None or level.size != totals[ticks]:
                level = levels[ticks] = Level(price_at(ticks), totals[ticks])
            made.append(level)
        self._cached = depth, tuple(made)
        return self._cached[1]

    def take(self, reported: dict[int, Micro], ms: int, known: bool) -> None:
        """Apply a whole side as of `ms`. Newer levels stay; those of the same instant too if the state is `known`,
        because then they came after."""
        for ticks in reported.keys() | self.totals.keys():
            if not known or self.stamps.get(ticks, 0) != ms:
                self.put(ticks, reported.get(ticks, 0), ms)

    def differs(self, reported: dict[int, Micro], ms: int, known: bool) -> int | None:
        """First price at which a whole side differs from ours, among levels without a newer update."""
        for ticks in sorted(reported.keys() | self.totals.keys()):
            stamp = self.stamps.get(ticks, 0)
            if (stamp < ms or (stamp == ms and not known)) and self.totals.get(ticks, 0) != reported.get(ticks, 0):
                return ticks
        return None


class Depth:
    """Both sides of a token's book, at most one level at each of the 10,001 prices. A crossed book is kept as reported.
    `newest` is the latest stamp received, in milliseconds since 1970."""

    __slots__ = ("_asks", "_bids", "_states", "newest", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        self._bids, self._asks = _Side(True), _Side(False)
        self._states: deque[str] = deque(maxlen=_RECENT_STATES)
        self.newest = 0

    def forget(self) -> None:
        """Reset: frames may have been missed."""
        self.__init__(self.token)  # type: ignore[misc]

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        known = snapshot.hash in self._states
        # A hash that has been seen names a state we passed through already, so the snapshot is late rather than new.
        # The hash is opaque: the venue does not document its making.
        self._bids.take(_levels(snapshot.bids), snapshot.ms, known)
        self._asks.take(_levels(snapshot.asks), snapshot.ms, known)
        self._states.append(snapshot.hash)
        self.newest = max(self.newest, snapshot.ms)

    def apply_change(self, change: Change, ms: int) -> None:
        (self._bids if change.side == "BUY" else self._asks).put(change.ticks, change.total, ms)
        self._states.append(change.hash)
        if ms > self.newest:
            self.newest = ms

    @property
    def best_ticks(self) -> tuple[int, int]:
        """Best bid and ask in ten-thousandths; 0 and 10,000 for an empty side, as the venue reports it."""
        return self._bids.best, self._asks.best

    @property
    def best_bid(self) -> Decimal | None:
        return price_at(self._bids.best) if self._bids.totals else None

    @property
    def best_ask(self) -> Decimal | None:
        return price_at(self._asks.best) if self._asks.totals else None

    def differs(self, snapshot: Snapshot) -> str:
        """Describe the first difference of a snapshot from our book; empty if it agrees on every level for which it is
        not too old."""
        known = snapshot.hash in self._states
        for name, side, reported in (("bids", self._bids, snapshot.bids), ("asks", self._asks, snapshot.asks)):
            levels = _levels(reported)
            ticks = side.differs(levels, snapshot.ms, known)
            if ticks is not None:
                here, there = side.totals.get(ticks, 0), levels.get(ticks, 0)
                return f"{name} at {price_at(ticks)}: {here} millionths here, {there} there"
        return ""

    def book(
        self, market_id: str, at: datetime, received_at: datetime, outcome: Outcome, depth: int | None = None
    ) -> Book:
        """,The book as a value, best first, cut to `depth` levels a side."""
        return Book(
            market_id=market_id,
            at=at,
            received_at=received_at,
            bids=self._bids.shown(depth),
            asks=self._asks.shown(depth),
            outcome=outcome,
        )


def _levels(reported: list[PriceLevel]) -> dict[int, Micro]:
    return {level.ticks: level.total for level in reported if level.total}
