"""Records the live market into a tick archive. Needs no key; trades nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.config.schema import Config
from agent.host.egress import confined, host_of
from agent.live.preflight import venue_clock
from market.clock import Clock
from market.polymarket.feed import LiveFeed, Watch, open_feed
from market.polymarket.hosts import Hosts
from market.polymarket.prices import source_of
from market.types import Market
from storage.ticks import TickArchive

_FLUSH = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a recording: rows written by kind, markets followed, outcomes known."""

    frames: int
    books: int
    prices: int
    gaps: int
    markets: int
    outcomes: int


async def record(config: Config, folder: Path, seconds: float | None, told: Callable[[Progress], None]) -> Progress:
    """Record until `seconds` of the machine's time are over (None: until cancelled); everything received is on disk
    when it ends. Raises VenueUnavailable, StoreUnavailable."""
    venue = config.venue
    hosts = Hosts.named(venue.loopback)
    named = venue.reference_named(keyed=False)
    source = None if named == "none" else source_of(named, hosts.price_stream, None)
    archive = TickArchive(folder)
    with confined(hosts.names() | ({host_of(source.url)} if source is not None else set())):
        clock = await venue_clock(hosts)
        # Marks the interval since the archive's last row as unobserved.
        archive.gap("recorder", "the recording begins", clock.now())
        async with open_feed(hosts, clock, Watch(venue.watched(), venue.slugs), source, archive) as feed:
            return await _Recording(archive, feed, clock, told).run(seconds)


@dataclass(slots=True)
class _Recording:
    archive: TickArchive
    feed: LiveFeed
    clock: Clock
    told: Callable[[Progress], None]
    open: dict[str, Market] | None = None
    markets: int = 0
    outcomes: int = 0

    async def run(self, seconds: float | None) -> Progress:
        self.open = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await asyncio.sleep(_FLUSH if seconds is None else min(_FLUSH, max(seconds / 10, 0.1)))
                    await self._look()
                    # In a thread: writing Parquet on the loop would delay the receipt times of frames.
                    await asyncio.to_thread(self.archive.flush)
                    self.told(self.progress())
        except TimeoutError:
            pass
        finally:
            # Without await, since this runs on cancellation, too.
            self.archive.flush()
        return self.progress()

    async def _look(self) -> None:
        """Track open markets, and archive the outcomes of closed ones."""
        assert self.open is not None  # noqa: S101 - set at the beginning
        now = self.clock.now()
        for market in await self.feed.markets(now):
            if market.id not in self.open:
                self.open[market.id] = market
                self.markets += 1
        for market in [m for m in self.open.values() if m.closes_at <= now]:
            resolution = await self.feed.resolution(market.id, now)
            if resolution is not None and resolution.payout is not None:
                self.archive.outcome(resolution)
                self.outcomes += 1
                del self.open[market.id]

    def progress(self) -> Progress:
        w = self.archive.written
        return Progress(
            frames=w["frame"],
            books=w["book"],
            prices=w["price"],
            gaps=w["gap"],
            markets=self.markets,
            outcomes=self.outcomes,
        )
