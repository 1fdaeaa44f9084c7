"""A live account, opened: whose clock it goes by, which key signs, and what must hold before the first order. Decides
nothing about trading."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from agent.live.recovery import AccountHistory
from market.clock import Clock, ScaledClock, WallClock
from market.errors import NotReady, VenueUnavailable
from market.polymarket.feed import LiveFeed
from market.polymarket.hosts import Hosts
from market.polymarket.rest import VenueReader, reader
from market.polymarket.wire import Habits, Wire
from market.types import Market, Micro, Outcome, Settlement
from tools.keystore import SecretKey
from tools.orders import OrderTool
from tools.polymarket.auth import Credentials
from tools.polymarket.books import AccountBooks, AccountSnapshot
from tools.polymarket.client import SigningAccount, credentials_of, open_client
from tools.polymarket.orders import PolymarketOrders

SKEW = timedelta(seconds=2)
"""How far this clock may be from the venue's; its own answer is cut to the second."""
_KEEP_UP = timedelta(seconds=5)
_VERSION = 2
_PATIENCE = 60.0
_DIFFERS, _UNTIL_PAID, _BETWEEN = 30, 120, timedelta(seconds=10)
"""Looks at the venue's account in a row at which it must differ, looks for winnings, and the time between two."""
T = TypeVar("T")


async def patiently(action: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
    """A start-up step that may be done again: tried for a minute before the venue counts as unavailable."""
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
            await _state(session, hosts)  # so that the answer that counts comes over an open connection
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


async def _nothing_to_see() -> None:
    """Pretend money of this process is paid at once."""


async def _agrees() -> str:
    """There is no second account that could differ."""
    return ""


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """An account that is open. `ready` raises NotReady or VenueUnavailable where orders must not be sent, and `agree`
    where the clocks differ; `audit` says in words how the venue's account differs from ours, or nothing; `unpaid` are
    winnings that are still to come, and `see_payments` asks whether they came."""

    orders: OrderTool
    ready: Callable[[Clock], Awaitable[None]]
    agree: Callable[[Clock], Awaitable[None]]
    audit: Callable[[], Awaitable[str]] = _agrees
    unpaid: Callable[[], Mapping[tuple[str, Outcome], Settlement]] = dict
    see_payments: Callable[[], Awaitable[None]] = _nothing_to_see

    async def compared(self, clock: Clock, before: Callable[[datetime], Awaitable[object]]) -> str:
        """What `audit` says once nothing is under way any more; `before` is done before each look. A difference counts
        only where it was there at so many looks in a row: one look asks several questions, and winnings may come
        between two of them. Winnings that are still to come are waited for, and for longer."""
        looks, differing, differs = 0, 0, ""
        while looks == 0 or 0 < differing < _DIFFERS or (not differs and self.unpaid() and looks < _UNTIL_PAID):
            if looks:
                await clock.wait_until(clock.now() + _BETWEEN)
            await before(clock.now())
            differs = await patiently(self.audit)
            looks, differing = looks + 1, differing + 1 if differs else 0
        return differs


class LiveAccount(Protocol):
    """Whose money a live run is about. `said` are credentials for the venue's streams, once it has begun; `real`
    whether the money is."""

    @property
    def name(self) -> str: ...

    @property
    def note(self) -> str: ...

    @property
    def real(self) -> bool: ...

    @property
    def said(self) -> Mapping[str, str] | None: ...

    async def begin(self, clock: Clock) -> None:
        """Introduce itself. Raises VenueUnavailable, NotReady."""
        ...

    async def cash(self, clock: Clock) -> Micro:
        """What it has before its first order. Raises VenueUnavailable."""
        ...

    def opened(
        self, feed: LiveFeed, clock: Clock, past: AccountHistory, markets: Callable[[str], Market | None]
    ) -> AbstractAsyncContextManager[OpenAccount]:
        """Its orders, until the block ends. Raises VenueUnavailable, NotReady."""
        ...


@dataclass(slots=True)
class VenueAccount:
    """The account of a key at the venue."""

    hosts: Hosts
    trader: SigningAccount
    key: SecretKey
    _credentials: Credentials | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return f"{self.trader.wallet.lower()} at {self.hosts.clob}"

    @property
    def note(self) -> str:
        return "Live orders at a loopback venue: pretend money." if self.hosts.pretend else "Live orders."

    @property
    def real(self) -> bool:
        return not self.hosts.pretend

    @property
    def credentials(self) -> Credentials:
        if self._credentials is None:
            raise NotReady("The venue does not know this account yet.", next_step="Begin with it first.")
        return self._credentials

    @property
    def said(self) -> Mapping[str, str] | None:
        known = self.credentials
        return {"apiKey": known.key, "secret": known.secret, "passphrase": known.passphrase}

    def client(self, clock: Clock) -> AbstractAsyncContextManager[Any]:
        """The official client of this account."""
        return open_client(self.hosts, self.trader, self.key.reveal(), self.credentials, clock)

    async def begin(self, clock: Clock) -> None:
        async with reader(self.hosts, clock) as asked:
            await clocks_must_agree(asked, clock)  # or the venue would say that the key is wrong
        self._credentials = await credentials_of(self.hosts, self.trader.signer, clock)

    async def cash(self, clock: Clock) -> Micro:
        async with self.client(clock) as client:
            try:
                return int((await client.get_balance_allowance(asset_type="COLLATERAL")).balance)
            except Exception as error:
                raise VenueUnavailable(
                    f"The venue does not say what the account has ({type(error).__name__})."
                ) from None

    @asynccontextmanager
    async def opened(
        self, feed: LiveFeed | None, clock: Clock, past: AccountHistory, markets: Callable[[str], Market | None]
    ) -> AsyncIterator[OpenAccount]:
        """With the user channel, heartbeats and reconciliation running."""
        async with self.client(clock) as client:
            remembered = AccountSnapshot(past.cash, past.since, past.fills, past.settlements, past.working, past.ended)
            books = AccountBooks(markets, remembered)
            orders = PolymarketOrders(client, self.trader, clock, markets, books)
            hello = partial(_hello, self.credentials)
            user = Wire(self.hosts.user_stream, Habits("PING"), lambda: [hello()], orders.hear, orders.lost)
            async with reader(self.hosts, clock) as asked:
                tasks = [asyncio.create_task(t) for t in (user.run(), orders.beat(), _keep_up(orders, clock))]
                for task in tasks:
                    task.add_done_callback(orders.failed)
                try:
                    ready = partial(self_test, asked, orders)
                    agree = partial(clocks_must_agree, asked)
                    yield OpenAccount(
                        orders, ready, agree, orders.audit, lambda: dict(books.unpaid), orders.see_payments
                    )
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


async def self_test(reader: VenueReader, orders: PolymarketOrders, clock: Clock) -> None:
    """Everything that must hold before the first order. Raises NotReady or VenueUnavailable: nothing is traded then."""
    await must_hold(reader, clock)
    await orders.must_trade()


async def must_hold(reader: VenueReader, clock: Clock) -> None:
    """What must hold of the venue, whoever trades. Raises NotReady or VenueUnavailable."""
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
    await clocks_must_agree(reader, clock)


async def clocks_must_agree(reader: VenueReader, clock: Clock) -> None:
    """What even paper needs: a venue that answers, at our time. Raises NotReady or VenueUnavailable."""
    before = clock.now()
    said = await reader.time()
    if not before - SKEW - timedelta(seconds=1) <= said <= clock.now() + SKEW:
        raise NotReady(
            f"This machine's clock is {abs((clock.now() - said).total_seconds()):.0f} s away from the venue's.",
            next_step="Set it: timedatectl set-ntp true",
        )
