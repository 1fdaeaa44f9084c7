"""The account of a live run: simulated money of this process, or an account at the venue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.app.settings import delays, faults
from agent.config.paths import home
from agent.config.schema import Config
from agent.live.recovery import AccountHistory
from market.clock import Clock
from market.types import Market, Micro, micro

if TYPE_CHECKING:
    from agent.live.account import LiveAccount, OpenAccount
    from market.polymarket.feed import LiveFeed
    from market.polymarket.hosts import Hosts


def account_of(config: Config, hosts: Hosts, *, paper: bool) -> LiveAccount:
    """Simulated money of this process, or the account of the configured key."""
    from agent.live.account import VenueAccount
    from agent.live.keys import key_of
    from tools.polymarket.client import SigningAccount as VenueTrader

    if paper:
        return PaperAccount(config, hosts)
    # Only here: a paper run must not need, or even read, a private key.
    key = key_of(config.venue, home())
    return VenueAccount(hosts, VenueTrader.of(key.signer(), config.venue.wallet), key)


@dataclass(slots=True)
class PaperAccount:
    """Simulated money of this process, on the venue's market."""

    config: Config
    hosts: Hosts
    said: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        return f"paper at {self.hosts.clob}"

    @property
    def note(self) -> str:
        return "Simulated money; orders met the venue's books in this process."

    @property
    def real(self) -> bool:
        return False

    async def begin(self, clock: Clock) -> None:
        """Nobody has to be asked."""

    async def cash(self, clock: Clock) -> Micro:
        return micro(self.config.trading.cash)

    @asynccontextmanager
    async def opened(
        self, feed: LiveFeed, clock: Clock, past: AccountHistory, markets: Callable[[str], Market | None]
    ) -> AsyncIterator[OpenAccount]:
        from agent.live.account import OpenAccount
        from agent.live.preflight import clocks_must_agree
        from backtest.exchange import PaperExchange  # a run with real money loads nothing of it
        from market.polymarket.rest import reader

        wait = delays(self.config)
        exchange = PaperExchange(
            feed,
            clock,
            cash=past.cash,
            run=self.name,
            venue_delay=wait.venue,
            network_delay=wait.network,
            faults=faults(self.config),
            markets=markets,
            restored=past.fills,
            settled=past.settlements,
        )
        async with reader(self.hosts, clock) as asked:
            agree = partial(clocks_must_agree, asked)
            yield OpenAccount(exchange, agree, agree)
