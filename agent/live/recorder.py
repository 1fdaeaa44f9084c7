"""Record the live market into an archive of ticks, and back-fill price histories. Needs no key; trades nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from agent.config.schema import Config
from agent.host.egress import confined, host_of
from agent.live.preflight import patiently, venue_clock
from market.clock import EPOCH, Clock
from market.errors import DataInvalid, Misconfigured, VenueUnavailable
from market.feed import Bar
from market.polymarket.feed import LiveFeed, Watch, open_feed
from market.polymarket.hosts import Hosts
from market.polymarket.prices import source_of
from market.polymarket.rest import VenueReader, reader
from market.types import UNIT, Market
from storage.store import Store
from storage.ticks import TickArchive

_FLUSH = 5.0
_MOST_SPAN = timedelta(days=15)
HISTORY_STEP = 60
"""Seconds of a bar of back-filled history, the finest the venue keeps."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording is: rows written by kind, markets followed, outcomes known."""

    frames: int
    books: int
    prices: int
    gaps: int
    markets: int
    outcomes: int


async def record(config: Config, folder: Path, seconds: float | None, told: Callable[[Progress], None]) -> Progress:
    """Keep everything until `seconds` of the machine's time are over (None is until cancelled); what has been heard is
    on disk when it ends. Raises VenueUnavailable, StoreUnavailable."""
    venue = config.venue
    hosts = Hosts.named(venue.loopback)
    named = venue.reference_named(keyed=False)
    source = None if named == "none" else source_of(named, hosts.price_stream, None)
    archive = TickArchive(folder)
    with confined(hosts.names() | ({host_of(source.url)} if source is not None else set())):
        clock = await venue_clock(hosts)
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
                    await asyncio.to_thread(self.archive.flush)
                    self.told(self.progress())
        except TimeoutError:
            pass
        finally:
            self.archive.flush()
        return self.progress()

    async def _look(self) -> None:
        """Remember what is open, and write down how it ended."""
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
        return Progress(w["frame"], w["book"], w["price"], w["gap"], self.markets, self.outcomes)


@dataclass(frozen=True, slots=True)
class Filled:
    """What was back-filled of one market."""

    slug: str
    bars: int
    outcome: str


async def history(
    config: Config,
    store: Store,
    slugs: Sequence[str],
    since: datetime,
    until: datetime,
    told: Callable[[Filled], None],
) -> list[Filled]:
    """Back-fill the prices of markets into the store, as bars of a minute with one price for bid and offer, under a
    source of their own: the venue keeps no books. Raises VenueUnavailable, Misconfigured, DataInvalid."""
    if until <= since:
        raise Misconfigured("the end is not after the beginning.", next_step="Correct --since and --until.")
    hosts = Hosts.named(config.venue.loopback)
    done = []
    with confined(hosts.names() | {host_of(config.storage.url)}):
        clock = await venue_clock(hosts)
        async with reader(hosts, clock) as asked:
            for slug in slugs:
                listed = await patiently(lambda slug=slug: asked.market(slug))  # type: ignore[misc]
                if listed is None:
                    raise DataInvalid(f"the venue lists no market {slug}.", next_step="Check the slug.")
                filled = await fill(asked, store, listed.market, since, until)
                told(filled)
                done.append(filled)
    return done


async def fill(asked: VenueReader, store: Store, market: Market, since: datetime, until: datetime) -> Filled:
    """Keep the prices of one market, and its outcome where it has one. Raises VenueUnavailable, DataInvalid."""
    source = history_source(asked.hosts)
    prices: dict[datetime, int] = {}
    begins = since
    while begins < until:
        ends = min(until, begins + _MOST_SPAN)
        async for page in asked.history(market.yes_token, begins, ends, HISTORY_STEP):
            for point in page:
                # A price of a minute is known once the minute is over.
                closes = EPOCH + ((point.at - EPOCH) // timedelta(seconds=HISTORY_STEP) + 1) * timedelta(
                    seconds=HISTORY_STEP
                )
                prices[closes] = round(point.price * UNIT)
        begins = ends
    bars = [Bar(market.id, at, price, price, 0, 0, 1) for at, price in sorted(prices.items())]
    await store.add_markets(source, [market])
    await store.add_bars(source, HISTORY_STEP, bars)
    try:
        resolution = await asked.resolution(market.id)
    except VenueUnavailable:
        resolution = None
    if resolution is not None and resolution.payout is not None:
        await store.add_resolution(source, resolution)
    return Filled(market.slug, len(bars), "unknown" if resolution is None else str(resolution.payout))


def history_source(hosts: Hosts) -> str:
    """The name under which back-filled prices are kept, apart from what was seen live."""
    return f"prices-history at {hosts.clob}"
