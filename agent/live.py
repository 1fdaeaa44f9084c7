"""A live account, opened: whose clock it goes by, which key signs, and what must hold before the first order. Decides
nothing about trading."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from agent.recovery import Past
from market.clock import Clock, ScaledClock, WallClock
from market.errors import Misconfigured, NotReady, VenueUnavailable
from market.polymarket.hosts import Hosts
from market.polymarket.rest import VenueReader
from market.polymarket.wire import Habits, Wire
from market.types import Market
from tools.polymarket.auth import Credentials
from tools.polymarket.books import AccountBooks, Remembered
from tools.polymarket.client import Trader, opened
from tools.polymarket.orders import PolymarketOrders

SKEW = timedelta(seconds=2)
"""How far this clock may be from the venue's; its own answer is cut to the second."""
_KEEP_UP = timedelta(seconds=5)
_VERSION = 2
_PATIENCE = 60.0
T = TypeVar("T")


async def patiently(action: Callable[[], Awaitable[T]]) -> T:
    """A start-up step that may be done again: tried for a minute before the venue counts as unavailable."""
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(VenueUnavailable),
        stop=stop_after_delay(_PATIENCE),
        wait=wait_random_exponential(multiplier=0.1, max=5.0),
        reraise=True,
    )
    async for attempt in attempts:
        with attempt:
            return await action()
    raise AssertionError("unreachable")


async def venue_clock(hosts: Hosts) -> Clock:
    """The machine's clock; of a loopback venue its own, which may run faster. Raises VenueUnavailable."""
    if not hosts.pretend:
        return WallClock()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0), trust_env=False) as session:
            await _state(session, hosts)  # so that the answer that counts comes over an open connection
            said = await _state(session, hosts)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
        raise VenueUnavailable(
            f"No loopback venue answers at {hosts.clob}.", next_step="Start one: edgeclaw venue serve --port 8808"
        ) from None
    return ScaledClock(datetime.fromisoformat(str(said["now"])), float(said["speed"]))


async def _state(session: aiohttp.ClientSession, hosts: Hosts) -> dict[str, str]:
    async with session.get(f"{hosts.clob}/venue/state") as answer:
        said: dict[str, str] = await answer.json()
        return said


def key_of(file: Path) -> bytes:
    """The 32 bytes of a key file of hexadecimal digits. Raises Misconfigured, NotReady; repeats nothing of it."""
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise NotReady(f"There is no key file {file}.", next_step="Name it with --key-file.") from None
    except (OSError, UnicodeDecodeError):
        raise Misconfigured(f"The key file {file} cannot be read.", next_step="Check who may read it.") from None
    if stat.S_IMODE(mode) & 0o077:
        raise Misconfigured(f"Others can read the key file {file}.", next_step=f"Run: chmod 600 {file}")
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise Misconfigured(f"The key file {file} does not hold 64 hexadecimal digits.", next_step="Check the file.")
    return raw


def play_key(file: Path) -> bytes:
    """A key for pretend money, made on first use."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as made:
            made.write(secrets.token_hex(32))
    return key_of(file)


async def cash_of(hosts: Hosts, trader: Trader, secret: bytes, credentials: Credentials, clock: Clock) -> int:
    """Micro-dollars of an account, as the venue has them. Raises VenueUnavailable."""
    async with opened(hosts, trader, secret, credentials, clock) as client:
        try:
            return int((await client.get_balance_allowance(asset_type="COLLATERAL")).balance)
        except Exception as error:
            raise VenueUnavailable(f"The venue does not say what the account has ({type(error).__name__}).") from None


@dataclass(frozen=True, slots=True)
class Live:
    """An account that is open: its orders, and what its user channel and heartbeats run on."""

    orders: PolymarketOrders
    user: Wire


@asynccontextmanager
async def open_account(
    hosts: Hosts,
    trader: Trader,
    secret: bytes,
    clock: Clock,
    past: Past,
    credentials: Credentials,
    markets: Callable[[str], Market | None],
) -> AsyncIterator[Live]:
    """Orders of one account, with the user channel, heartbeats and reconciliation running until the block ends.

    Raises VenueUnavailable, NotReady.
    """
    async with opened(hosts, trader, secret, credentials, clock) as client:
        remembered = Remembered(past.cash, past.since, past.fills, past.settlements, past.working, past.ended)
        books = AccountBooks(markets, remembered)
        orders = PolymarketOrders(client, trader, clock, markets, books)
        user = Wire(hosts.user_stream, Habits("PING"), lambda: [_hello(credentials)], orders.hear, orders.lost)
        async with aiohttp.ClientSession(trust_env=False) as session:
            tasks = [asyncio.create_task(t) for t in (user.run(session), orders.beat(), _keep_up(orders, clock))]
            try:
                yield Live(orders, user)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def _hello(credentials: Credentials) -> str:
    auth = {"apiKey": credentials.key, "secret": credentials.secret, "passphrase": credentials.passphrase}
    return json.dumps({"type": "user", "auth": auth, "markets": []})


async def _keep_up(orders: PolymarketOrders, clock: Clock) -> None:
    """Ask by REST while anything is open or something may have been missed; until cancelled."""
    while True:
        await clock.wait_until(clock.now() + _KEEP_UP)
        if orders.stale or orders.books.working() or orders.books.unsettled_since() is not None:
            with suppress(VenueUnavailable):
                await orders.sync()


async def self_test(reader: VenueReader, clock: Clock, live: Live) -> None:
    """Everything that must hold before the first order. Raises NotReady or VenueUnavailable: nothing is traded then."""
    place = await reader.place()
    if place.blocked:
        raise NotReady(
            f"The venue takes no orders from this place ({place.country or 'unknown'}).",
            next_step="Trade on paper: edgeclaw run --mode paper",
        )
    version = await reader.version()
    if version != _VERSION:
        raise NotReady(
            f"The venue takes orders of version {version}, and this is written for {_VERSION}.",
            next_step="Update edgeclaw.",
        )
    before = clock.now()
    said = await reader.time()
    if not before - SKEW - timedelta(seconds=1) <= said <= clock.now() + SKEW:
        raise NotReady(
            f"This machine's clock is {abs((clock.now() - said).total_seconds()):.0f} s away from the venue's.",
            next_step="Set it: timedatectl set-ntp true",
        )
    await live.orders.must_trade()
