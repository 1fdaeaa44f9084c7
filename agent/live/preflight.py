"""Preflight checks of a live account: the clock it goes by, and the conditions for the first order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from market.clock import Clock, ScaledClock, WallClock
from market.errors import NotReady, VenueUnavailable
from market.polymarket.hosts import Hosts
from market.polymarket.rest import VenueReader
from tools.polymarket.orders import PolymarketOrders

SKEW = timedelta(seconds=2)
"""Largest accepted difference to the venue's clock; the venue's answer is truncated to the second."""


_VERSION = 2


_PATIENCE = 60.0


T = TypeVar("T")


async def patiently(action: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
    """Retry a repeatable start-up step for a minute before the venue counts as unavailable."""
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(VenueUnavailable),
        stop=stop_after_delay(_PATIENCE if seconds is None else seconds),
        wait=wait_random_exponential(multiplier=0.1, max=5.0),
        reraise=True,
    )
    async for attempt in attempts:
        with attempt:
            return await action()
    raise AssertionError("unreachable")


async def venue_clock(hosts: Hosts) -> Clock:
    """The machine's clock, unless a loopback venue keeps a time or a pace of its own. Raises VenueUnavailable."""
    if not hosts.pretend:
        return WallClock()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0), trust_env=False) as session:
            await _state(session, hosts)  # warm-up: the second answer comes over an open connection
            said = await _state(session, hosts)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
        raise VenueUnavailable(
            f"No loopback venue answers at {hosts.clob}.", next_step="Start one: edgeclaw venue serve --port 8808"
        ) from None
    now, machine = (datetime.fromisoformat(str(said[name])) for name in ("now", "machine"))
    speed = float(said["speed"])
    return WallClock() if speed == 1.0 and abs(now - machine) < SKEW else ScaledClock(now, speed)


async def _state(session: aiohttp.ClientSession, hosts: Hosts) -> dict[str, str]:
    async with session.get(f"{hosts.clob}/venue/state") as answer:
        said: dict[str, str] = await answer.json()
        return said


async def self_test(reader: VenueReader, orders: PolymarketOrders, neg_risk: Callable[[], bool], clock: Clock) -> None:
    """Check the conditions for the first order; `neg_risk` tells if negative-risk markets are watched. Raises NotReady
    or VenueUnavailable: then nothing is traded."""
    await must_hold(reader, clock)
    await orders.must_trade(neg_risk=neg_risk())


async def must_hold(reader: VenueReader, clock: Clock) -> None:
    """Check the venue's location rule, version and clock, for any account. Raises NotReady or VenueUnavailable."""
    place = await reader.place()
    if place.blocked:
        raise NotReady(
            f"The venue does not accept orders from this country ({place.country or 'unknown'}).",
            next_step="Trade on paper: edgeclaw run --mode paper",
        )
    version = await reader.version()
    if version != _VERSION:
        raise NotReady(
            f"The venue takes orders of version {version}, and this is written for {_VERSION}.",
            next_step="Update edgeclaw.",
        )
    await clocks_must_agree(reader, clock)


async def clocks_must_agree(reader: VenueReader, clock: Clock) -> None:
    """Check that the venue answers and its clock agrees with ours; required for paper trading, too. Raises NotReady or
    VenueUnavailable."""
    before = clock.now()
    said = await reader.time()
    # Our clock before and after the request bounds the instant of the answer; the second is the truncation.
    if not before - SKEW - timedelta(seconds=1) <= said <= clock.now() + SKEW:
        raise NotReady(
            f"This machine's clock is {abs((clock.now() - said).total_seconds()):.0f} s away from the venue's.",
            next_step="Set it: timedatectl set-ntp true",
        )
