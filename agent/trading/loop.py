"""The trading loop: walks the slots of a schedule, runs a trader's cycle at each and feeds it books in between.

Live, paper and backtest differ in the clock and the feed that they pass in; this loop is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count, groupby, pairwise, takewhile
from typing import Protocol

from agent.learning.market_history import Outcomes
from agent.trading.execution import Execution
from market.clock import EPOCH, Clock
from market.events import CycleStarted, SlotSkipped
from market.feed import Feed, Worth
from market.types import Book, Market, Resolution

SETTLING = timedelta(minutes=10)
"""Time after the end of the data in which outcomes may still become known."""
HORIZON = timedelta(hours=1)
"""Furthest close of a market that the end of a run waits for."""
PATIENCE, RETRY = timedelta(hours=1), timedelta(seconds=10)
"""Longest wait for the last trades and outcomes of a run, and the interval of the queries."""


class Trader(Protocol):
    """A trader as the loop drives it."""

    async def cycle(self, slot: datetime, markets: Sequence[Market], blocked: str) -> None:
        """Decide on the open markets. `blocked` is a reason not to trade, which is recorded, or empty."""
        ...

    def watching(self, at: datetime) -> Sequence[str]:
        """Markets whose book changes are delivered until the next slot."""
        ...

    @property
    def worth(self) -> Worth | None:
        """Selector of the books of those markets to deliver; None for all."""
        ...

    async def on_book(self, book: Book) -> None: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """Slots every `cadence` on the grid of the wall clock, moved by `offset`, or at `instants` where those are given;
    from `begins` up to but not at `ends`; at most `cycles` slots with an open market. At a slot that starts more than
    `grace` late nothing is traded; of slots that are over before they start only the gap is logged."""

    begins: datetime
    ends: datetime | None
    cadence: timedelta = timedelta(minutes=5)
    offset: timedelta = timedelta(0)
    cycles: int | None = None
    grace: timedelta = timedelta(seconds=30)
    instants: tuple[datetime, ...] | None = None

    def first(self) -> datetime:
        """The first slot, or `begins` where there is none."""
        return next(self.slots(), (self.begins, self.begins))[0]

    def slots(self) -> Iterator[tuple[datetime, datetime]]:
        """Each slot with the end of its watch: the next slot, or after the last of the `instants` the usual cadence."""
        for slot, following in pairwise(self._instants()):
            if self.ends is not None and slot >= self.ends:
                return
            yield slot, following

    def until(self, end: datetime) -> Iterator[datetime]:
        """The slots before `end`."""
        return takewhile(lambda at: at < end, (slot for slot, _ in self.slots()))

    def _instants(self) -> Iterator[datetime]:
        """Slots from `begins` on, plus one more instant than there are slots, as the end of the last watch."""
        if self.instants is None:
            # Floor division of the negative distance finds the first point of the grid at or after `begins`.
            first = EPOCH + self.offset - (EPOCH + self.offset - self.begins) // self.cadence * self.cadence
            yield from (first + n * self.cadence for n in count())
            return
        slots = [at for at in sorted(set(self.instants)) if at >= self.begins]
        yield from slots
        yield from (at + self.cadence for at in slots[-1:])


@dataclass(slots=True)
class TradingLoop:
    """The loop of one trader, execution, feed and clock."""

    clock: Clock
    feed: Feed
    trader: Trader
    execution: Execution
    memory: Outcomes
    schedule: Schedule
    open: dict[str, Market] = field(default_factory=dict)
    told: dict[str, Resolution] = field(default_factory=dict)
    skipped: list[tuple[datetime, str]] = field(default_factory=list)
    closed: dict[str, datetime] = field(default_factory=dict)
    closing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Run: first what an earlier run left open, then every slot in order, then the settlement of the rest."""
        await self.execution.catch_up(self.clock.now())
        await self.close_books(self.clock.now())
        done = 0
        for slot, following in self.schedule.slots():
            await self.clock.wait_until(slot)
            if self._skips(slot, following):
                continue
            late = max(0.0, (self.clock.now() - slot).total_seconds())
            await self._write_gap()
            await self.execution.catch_up(slot)
            await self.close_books(slot)
            markets = await self.feed.markets(slot)
            if not markets:
                self.execution.bus.publish(SlotSkipped(at=slot, reason="no_market"))
                continue
            self._follow(markets, slot)
            self.execution.bus.publish(CycleStarted(at=slot, markets=len(markets), late=late))
            await self.trader.cycle(slot, markets, self._lateness(slot))
            await self._watch(slot, following)
            done += 1
            if self.schedule.cycles is not None and done >= self.schedule.cycles:
                break
        await self._finish()

    def _skips(self, slot: datetime, following: datetime) -> bool:
        """True if a slot is over before it starts (a suspended machine, a cycle that took too long) or its instant
        cannot be trusted. Then nothing is decided there."""
        over = self.clock.now() >= following > slot
        reason = self.execution.inhibitor.clock or ("slot_missed" if over else "")
        if reason:
            self.skipped.append((slot, reason))
            self.execution.bus.publish(SlotSkipped(at=slot, reason=reason))
        return bool(reason)

    async def _write_gap(self) -> None:
        """Log the slots at which nothing was decided; neighbours with the same reason are one gap."""
        gaps = [list(same) for _, same in groupby(self.skipped, key=lambda s: s[1])]
        self.skipped = []
        for gap in gaps:
            await self.execution.log.gap(gap[0][0], gap[-1][0], len(gap), gap[0][1], self.clock.now())

    def _lateness(self, slot: datetime) -> str:
        """Reason code of a slot that starts at the wrong time, or empty: a clock that jumped forward missed it; one
        that was set back must not act on it twice."""
        now = self.clock.now()
        if now - slot > self.schedule.grace:
            return "slot_missed"
        return "clock_stepped_back" if now < slot else ""

    async def _watch(self, after: datetime, until: datetime) -> None:
        """Deliver each book change that the trader may act on, fills first. Nothing is read for an empty list."""
        watched = self.trader.watching(after)
        if watched:
            async for book in self.feed.changes(watched, after, until, self.trader.worth):
                await self.clock.wait_until(book.received_at)
                # Before the trader sees the book: it must decide on holdings that include every fill until then.
                await self.execution.reconcile(book.received_at)
                await self.trader.on_book(book)
        await self.clock.wait_until(until)
        await self.execution.reconcile(until)

    def _follow(self, markets: Sequence[Market], slot: datetime) -> None:
        """Keep markets until they are settled. A late slot may list one that has been settled meanwhile."""
        self.closed = {market_id: at for market_id, at in self.closed.items() if at > slot - HORIZON}
        self.open |= {m.id: m for m in markets if m.id not in self.closed}

    async def close_books(self, at: datetime) -> None:
        """Settle and log every market whose outcome has become known; an unresolved one stays open. One at a time: an
        outcome is logged once."""
        async with self.closing:
            await self.execution.reconcile(at)
            await self._close_known(at)

    async def _close_known(self, at: datetime) -> None:
        for market in list(self.open.values()):
            resolution = await self.feed.resolution(market.id, at)
            if resolution is None:
                continue
            await self.execution.settle(resolution)
            if not _same(self.told.get(market.id), resolution):
                self.told[market.id] = resolution
                await self.memory.outcome(market, resolution, self.execution.log, at)
            if resolution.payout is not None:
                self.closed[market.id] = market.closes_at
                del self.open[market.id]
                del self.told[market.id]

    async def _finish(self) -> None:
        await self._write_gap()
        last = max((m.closes_at for m in self._ending()), default=self.clock.now())
        await self.clock.wait_until(last + SETTLING)
        await self.close_books(self.clock.now())
        while await self._owed() and self.clock.now() < last + PATIENCE:
            await self.clock.wait_until(self.clock.now() + RETRY)
            await self.execution.catch_up(self.clock.now())
            await self.close_books(self.clock.now())

    def _ending(self) -> Iterator[Market]:
        """Open markets that a run waits for at its end. Recorded time costs nothing; on the market as it is, one that
        closes in months is left to the run that goes on from here."""
        horizon = self.clock.now() + HORIZON
        for market in self.open.values():
            if self.schedule.ends is not None or market.closes_at <= horizon:
                yield market

    async def _owed(self) -> bool:
        """True if trades have not settled, or something is held whose outcome may still be published."""
        if self.execution.ending:
            return True
        ends = self.schedule.ends
        told = ends is not None and self.clock.now() >= ends
        held = {market_id for market_id, _ in (await self.execution.account()).holdings}
        return not told and any(market.id in held for market in self._ending())


def _same(recorded: Resolution | None, known: Resolution) -> bool:
    """True if this outcome has been logged already; the time of its arrival does not make it another."""
    return recorded is not None and (recorded.payout, recorded.source) == (known.payout, known.source)
