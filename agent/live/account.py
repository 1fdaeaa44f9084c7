"""An open live account: its key, its orders, and the comparison with the venue's books. Makes no trading decision."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from agent.live.preflight import clocks_must_agree, self_test
from agent.live.recovery import AccountHistory
from market.clock import Clock
from market.errors import NotReady, VenueUnavailable
from market.polymarket.feed import LiveFeed
from market.polymarket.hosts import Hosts
from market.polymarket.rest import reader
from market.polymarket.wire import Habits, Wire
from market.tasks import alongside
from market.types import Market, Micro
from tools.keystore import SecretKey
from tools.orders import OrderTool
from tools.polymarket.auth import Credentials
from tools.polymarket.books import AccountBooks, AccountSnapshot
from tools.polymarket.client import SigningAccount, credentials_of, open_client
from tools.polymarket.orders import PolymarketOrders

_KEEP_UP = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """An open account. `ready` raises NotReady or VenueUnavailable where orders must not be sent, and `agree` where the
    clocks differ. `venue` is the account as the venue has it; None for simulated money of this process."""

    orders: OrderTool
    ready: Callable[[Clock], Awaitable[None]]
    agree: Callable[[Clock], Awaitable[None]]
    venue: PolymarketOrders | None = None


class LiveAccount(Protocol):
    """The account of a live run. `said` are credentials for the venue's streams, available after `begin`; `real` is
    True for real money."""

    @property
    def name(self) -> str: ...

    @property
    def note(self) -> str: ...

    @property
    def real(self) -> bool: ...

    @property
    def said(self) -> Mapping[str, str] | None: ...

    async def begin(self, clock: Clock) -> None:
        """Authenticate at the venue. Raises VenueUnavailable, NotReady."""
        ...

    async def cash(self, clock: Clock) -> Micro:
        """Cash before the first order, in micro-dollars. Raises VenueUnavailable."""
        ...

    def opened(
        self, feed: LiveFeed, clock: Clock, past: AccountHistory, markets: Callable[[str], Market | None]
    ) -> AbstractAsyncContextManager[OpenAccount]:
        """The account's orders, until the block ends. Raises VenueUnavailable, NotReady."""
        ...


@dataclass(slots=True)
class VenueAccount:
    """The account of a key at the venue."""

    hosts: Hosts
    trader: SigningAccount
    key: SecretKey
    _credentials: Credentials | None = field(default=None, repr=False)
    _open: Any = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return f"{self.trader.wallet.lower()} at {self.hosts.clob}"

    @property
    def note(self) -> str:
        return "Live orders at a loopback venue: simulated money." if self.hosts.pretend else "Live orders."

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
        """The official client of this account: the one that is open, if any. Making one holds the event loop for some
        hundred milliseconds, for the certificates of each of its hosts."""
        if self._open is not None:
            return nullcontext(self._open)
        return open_client(self.hosts, self.trader, self.key.reveal(), self.credentials, clock)

    async def begin(self, clock: Clock) -> None:
        async with reader(self.hosts, clock) as asked:
            await clocks_must_agree(asked, clock)  # the venue reports a skewed timestamp as a wrong key
        self._credentials = await credentials_of(self.hosts, self.trader.signer, clock)

    async def cash(self, clock: Clock) -> Micro:
        async with self.client(clock) as client:
            try:
                return int((await client.get_balance_allowance(asset_type="COLLATERAL")).balance)
            except Exception as error:
                raise VenueUnavailable(
                    f"The venue did not return the account's balance ({type(error).__name__})."
                ) from None

    @asynccontextmanager
    async def opened(
        self, feed: LiveFeed | None, clock: Clock, past: AccountHistory, markets: Callable[[str], Market | None]
    ) -> AsyncIterator[OpenAccount]:
        """The account's orders, with user channel, heartbeats and reconciliation running."""
        async with self.client(clock) as client:
            remembered = AccountSnapshot(
                cash=past.cash,
                since=past.since,
                fills=past.fills,
                settlements=past.settlements,
                orders=past.working,
                ended=past.ended,
                transfers=past.transfers,
                reviewed_at=past.reviewed_at,
            )
            books = AccountBooks(markets, remembered)
            orders = PolymarketOrders(client, self.trader, clock, markets, books)
            hello = partial(_hello, self.credentials)
            user = Wire(self.hosts.user_stream, Habits("PING"), lambda: [hello()], orders.hear, orders.lost)
            if feed is not None:
                user.told = feed.outages("user")
            # A channel that dies ends the block: without it fills go unseen.
            beside = alongside(user.run(), orders.beat(), _keep_up(orders, clock))
            async with reader(self.hosts, clock) as asked, beside:
                self._open = client
                try:
                    yield OpenAccount(
                        orders=orders,
                        ready=partial(self_test, asked, orders, lambda: feed is not None and feed.neg_risk),
                        agree=partial(clocks_must_agree, asked),
                        venue=orders,
                    )
                finally:
                    self._open = None


def _hello(credentials: Credentials) -> str:
    auth = {"apiKey": credentials.key, "secret": credentials.secret, "passphrase": credentials.passphrase}
    return json.dumps({"type": "user", "auth": auth, "markets": []})


async def _keep_up(orders: PolymarketOrders, clock: Clock) -> None:
    """Poll by REST while anything is open or a stream message may have been missed; until cancelled."""
    while True:
        await clock.wait_until(clock.now() + _KEEP_UP)
        if orders.stale or orders.books.working() or orders.books.unsettled_since() is not None:
            try:
                await orders.sync()
            except VenueUnavailable as error:
                orders.incidents.note("unread", error)
