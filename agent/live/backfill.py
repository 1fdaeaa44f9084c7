"""Back-fill of price history: the venue's own prices of markets, as one-minute bars."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.config.schema import Config
from agent.host.egress import confined, host_of
from agent.live.preflight import patiently, venue_clock
from market.clock import EPOCH
from market.errors import DataInvalid, Misconfigured, VenueUnavailable
from market.feed import Bar
from market.polymarket.hosts import Hosts
from market.polymarket.rest import VenueReader, reader
from market.types import UNIT, Market
from storage.store import Store

log = logging.getLogger(__name__)
_MOST_SPAN = timedelta(days=15)


HISTORY_STEP = 60
"""Seconds of a bar of back-filled history, the finest resolution of the venue."""


@dataclass(frozen=True, slots=True)
class Filled:
    """Result of the back-fill of one market."""

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
    """Back-fill the prices of markets into the store, as one-minute bars with one price for bid and ask, under a
    source of their own: the venue stores no books. Raises VenueUnavailable, Misconfigured, DataInvalid."""
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
    """Store the prices of one market, and its outcome if it is resolved. Raises VenueUnavailable, DataInvalid."""
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
    bars = [
        Bar(market_id=market.id, at=at, bid=price, ask=price, bid_depth=0, ask_depth=0, updates=1)
        for at, price in sorted(prices.items())
    ]
    await store.add_markets(source, [market])
    await store.add_bars(source, HISTORY_STEP, bars)
    try:
        resolution = await asked.resolution(market.id)
    except VenueUnavailable as error:
        log.warning("the outcome of %s is not stored with its prices: %s", market.slug, error)
        resolution = None
    if resolution is not None and resolution.payout is not None:
        await store.add_resolution(source, resolution)
    return Filled(market.slug, len(bars), "unknown" if resolution is None else str(resolution.payout))


def history_source(hosts: Hosts) -> str:
    """Source name of back-filled prices, apart from recorded live data."""
    return f"prices-history at {hosts.clob}"
