"""A session: walk the slots of a schedule, let a trader think at each and watch the books in between.

Live, paper and backtest differ in the clock and the feed they hand in; this loop cannot tell.
"""

from __future__ import annotations

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
"""How long after the data ends outcomes may still become known."""
PATIENCE, RETRY = timedelta(hours=1), timedelta(seconds=10)
"""How long the last trades and outcomes of a run may take to be known, and how often they are asked about."""


class Trader(Protocol):
    """What a session drives."""

    async def cycle(self, slot: datetime, markets: Sequence[Market], blocked: str) -> None:
        """Think about the open markets. `blocked` is a reason not to, which is recorded, or empty."""
        ...

    def watching(self, at: datetime) -> Sequence[str]:
        """Markets whose every book change matters until the next slot."""
        ...

    @property
    def worth(self) -> Worth | None:
        """Which books of those markets it has to be shown; None where it is all of them."""
        ...

    async def on_book(self, book: Book) -> None: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """Slots every `cadence` on the grid of the wall clock, moved by `offset`, or at `instants` where those are given;
    from `begins` up to but not at `ends`; at most `cycles` slots with an open market. At a slot that starts more than
    `grace` late nothing is traded, and of slots that are over before they start only the gap is written down."""

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
        """Each slot and the end of its watch: the next slot, and after the last of the `instants` the usual cadence."""
        for slot, following in pairwise(self._instants()):
            if self.ends is not None and slot >= self.ends:
                return
            yield slot, following

    def until(self, end: datetime) -> Iterator[datetime]:
        """The slots before `end`."""
        return takewhile(lambda at: at < end, (slot for slot, _ in self.slots()))

    def _instants(self) -> Iterator[datetime]:
        """Slots from `begins` on, and one instant more than there are slots."""
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
    """One trader, one desk, one feed, one clock."""

    clock: Clock
    feed: Feed
    trader: Trader
    execution: Execution
    memory: Outcomes
    schedule: Schedule
    open: dict[str, Market] = field(default_factory=dict)
    told: dict[str, Resolution] = field(default_factory=dict)
    skipped: list[tuple[datetime, str]] = field(default_factory=list)

    async def run(self) -> None:
        """What an earlier run left first, then every slot in order, then the settlement of what is left."""
        await self.execution.catch_up(self.clock.now())
        await self._close_books(self.clock.now())
        done = 0
        for slot, following in self.schedule.slots():
            await self.clock.wait_until(slot)
            if self._skips(slot, following):
                continue
            late = max(0.0, (self.clock.now() - slot).total_seconds())
            await self._write_gap()
            await self.execution.catch_up(slot)
            await self._close_books(slot)
            markets = await self.feed.markets(slot)
            if not markets:
                self.execution.bus.publish(SlotSkipped(at=slot, reason="no_market"))
                continue
            self.open |= {m.id: m for m in markets}
            self.execution.bus.publish(CycleStarted(at=slot, markets=len(markets), late=late))
            await self.trader.cycle(slot, markets, self._lateness(slot))
            await self._watch(slot, following)
            done += 1
            if self.schedule.cycles is not None and done >= self.schedule.cycles:
                break
        await self._finish()

    def _skips(self, slot: datetime, following: datetime) -> bool:
        """Whether a slot is over before it starts, as after a suspended night or a cycle that took too long, or its
        instant cannot be believed. Then nothing is decided there."""
        over = self.clock.now() >= following > slot
        reason = self.execution.inhibitor.clock or ("slot_missed" if over else "")
        if reason:
            self.skipped.append((slot, reason))
            self.execution.bus.publish(SlotSkipped(at=slot, reason=reason))
        return bool(reason)

    async def _write_gap(self) -> None:
        """Remember the slots at which nothing was decided, neighbours with one reason as one gap."""
        gaps = [list(same) for _, same in groupby(self.skipped, key=lambda s: s[1])]
        self.skipped = []
        for gap in gaps:
            await self.execution.log.gap(gap[0][0], gap[-1][0], len(gap), gap[0][1], self.clock.now())

    def _lateness(self, slot: datetime) -> str:
        """A clock that jumped forward missed the slot; one that was set back must not act on it twice."""
        now = self.clock.now()
        if now - slot > self.schedule.grace:
            return "slot_missed"
        return "clock_stepped_back" if now < slot else ""

    async def _watch(self, after: datetime, until: datetime) -> None:
        """Show the trader each book change it may act on, fills first. Nothing is read where nobody watches."""
        watched = self.trader.watching(after)
        if watched:
            async for book in self.feed.changes(watched, after, until, self.trader.worth):
                await self.clock.wait_until(book.received_at)
                await self.execution.reconcile(book.received_at)
                await self.trader.on_book(book)
        await self.clock.wait_until(until)
        await self.execution.reconcile(until)

    async def _close_books(self, at: datetime) -> None:
        """Settle and remember every market whose outcome has become known; one that is unresolved stays open."""
        await self.execution.reconcile(at)
        for market in list(self.open.values()):
            if market.closes_at > at:
                continue
            resolution = await self.feed.resolution(market.id, at)
            if resolution is None:
                continue
            await self.execution.settle(resolution)
            if not _same(self.told.get(market.id), resolution):
                self.told[market.id] = resolution
                await self.memory.outcome(market, resolution, self.execution.log, at)
            if resolution.payout is not None:
                del self.open[market.id]
                del self.told[market.id]

    async def _finish(self) -> None:
        await self._write_gap()
        last = max((m.closes_at for m in self.open.values()), default=self.clock.now())
        await self.clock.wait_until(last + SETTLING)
        await self._close_books(self.clock.now())
        while await self._owed() and self.clock.now() < last + PATIENCE:
            await self.clock.wait_until(self.clock.now() + RETRY)
            await self.execution.catch_up(self.clock.now())
            await self._close_books(self.clock.now())

    async def _owed(self) -> bool:
        """Whether trades have not settled, or something is held whose outcome may still be told."""
        if self.execution.ending:
            return True
        ends = self.schedule.ends
        told = ends is not None and self.clock.now() >= ends
        held = {market_id for market_id, _ in (await self.execution.account()).holdings}
        return not told and bool(self.open.keys() & held)


def _same(told: Resolution | None, known: Resolution) -> bool:
    """Whether an outcome has been written down; when it was heard of does not make it another."""
    return told is not None and (told.payout, told.source) == (known.payout, known.source)
