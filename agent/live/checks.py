"""Checks of venue and wallet before a live run, as sentences. Read-only."""

from __future__ import annotations

from pathlib import Path

from agent.config.schema import Config
from agent.host.egress import confined
from agent.live.keys import at_terminal
from agent.live.preflight import must_hold, patiently, venue_clock
from agent.live.wallet import open_wallet
from market.errors import NotReady
from market.polymarket.hosts import Hosts
from market.polymarket.rest import reader
from market.types import units


async def venue(config: Config) -> str:
    """Check location, API version and clock of the venue. Raises NotReady, VenueUnavailable."""
    hosts = Hosts.named(config.venue.loopback)
    with confined(hosts.names()):
        clock = await venue_clock(hosts)
        async with reader(hosts, clock) as asked:
            await patiently(lambda: must_hold(asked, clock), seconds=5.0)
    return f"{hosts.clob} answers, takes orders from here, and its clock is ours"


async def wallet(config: Config, home: Path) -> str:
    """Check the wallet's kind, balance and approvals. Raises NotReady, Misconfigured, VenueUnavailable."""
    async with open_wallet(config, home, at_terminal) as own:
        report = await own.report()
    if report.advice:
        raise NotReady(f"{report.chain.kind} {report.chain.funder}", next_step=" ".join(report.advice))
    balance = f"{units(report.chain.balance):,.2f}"
    return f"{report.chain.kind} {report.chain.funder} holds ${balance}, and the exchange may take it"
