"""Runs on the market as it is now: simulated money in this process, or an account at the venue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from agent.app.accounts import account_of
from agent.app.engines import open_electricity, open_engine, slow_load
from agent.app.live_plan import LivePlan
from agent.app.live_run import LiveWorld
from agent.app.settings import pulse_bounds
from agent.config.paths import home
from agent.config.places import database_url, own_hosts
from agent.host.egress import confined, host_of
from agent.llm.engine import Engine
from agent.review.serving import beside
from agent.service.commands import Commands
from agent.service.mqtt_setup import link
from agent.service.pulse import Pulse
from agent.service.supervision import attended
from agent.trading.bus import LocalBus
from agent.trading.inhibit import Inhibitor
from agent.trading.result import RunResult, since
from market.clock import Clock
from market.errors import NotReady
from storage.lease import Lease
from storage.store import Store, open_store
from tools.halts import KillSwitch

if TYPE_CHECKING:
    from agent.live.account import LiveAccount
    from market.polymarket.hosts import Hosts


def must_trade() -> None:
    """Raises NotReady where the libraries of live trading are not installed."""
    missing = [
        name
        for name in ("aiohttp", "apscheduler", "coincurve", "msgspec", "polymarket", "Crypto", "structlog")
        if find_spec(name) is None
    ]
    if missing:
        raise NotReady("Live-trading dependencies are not installed.", next_step="Run: pip install 'edgeclaw[live]'")


async def run_live(plan: LivePlan, bus: LocalBus, stage: Callable[[str], None] = lambda _: None) -> RunResult:
    """Trade the market as it is now, until the slots are done or it is stopped; what earlier runs left is taken on."""
    must_trade()
    from market.polymarket.hosts import Hosts

    venue = plan.config.venue
    hosts = Hosts.named(venue.loopback)
    account = account_of(plan.config, hosts, paper=plan.paper)
    # Around everything, the load of the model too: a library may not fetch anything by itself.
    with confined(own_hosts(plan.config) | hosts.names() | _price_hosts(plan, hosts) | _node_hosts(plan, hosts)):
        return await _at_venue(plan, hosts, account, bus, stage)


def _node_hosts(plan: LivePlan, hosts: Hosts) -> frozenset[str]:
    """The host of the chain's node, which winnings that are late are asked of."""
    if plan.paper:
        return frozenset()
    from agent.live.wallet import node_of

    return frozenset({host_of(node_of(plan.config, hosts))})


def _price_hosts(plan: LivePlan, hosts: Hosts) -> frozenset[str]:
    """The host of the reference prices, which may be another than the venue's."""
    from market.polymarket.prices import source_of

    if plan.reference == "none":
        return frozenset()
    return frozenset({host_of(source_of(plan.reference, hosts.price_stream, {}).url)})


async def _at_venue(
    plan: LivePlan, hosts: Hosts, account: LiveAccount, bus: LocalBus, stage: Callable[[str], None]
) -> RunResult:
    from agent.live.preflight import venue_clock

    stage("asking the venue for its time")
    clock = await venue_clock(hosts)
    async with open_store(database_url(plan.config)) as store:
        stage("loading the model")
        async with (
            open_engine(plan.config, slow_load(stage)) as engine,
            open_electricity(plan.config) as (electricity, measured),
        ):
            # Usage up to here is the prompt prefix, which no decision is charged for.
            primed = engine.usage
            async with _surrounded(plan, account.name, clock, store, engine, bus, stage) as around:
                world = LiveWorld(
                    plan=plan,
                    hosts=hosts,
                    account=account,
                    clock=clock,
                    store=store,
                    bus=bus,
                    electricity=electricity,
                    stage=around.stage,
                    pulse=around.pulse,
                    inhibitor=around.inhibitor,
                    lease=around.lease,
                )
                done = await world.run(engine)
            return done.result(engine, since(engine, primed), measured.said)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """Services around a run that it reports to: pulse, inhibitor, lease and the stage it is at."""

    pulse: Pulse
    inhibitor: Inhibitor
    lease: Lease
    tell: Callable[[str], None]

    def stage(self, what: str) -> None:
        """Say what the run is at."""
        self.pulse.stage = what
        self.tell(what)


@asynccontextmanager
async def _surrounded(
    plan: LivePlan,
    account: str,
    clock: Clock,
    store: Store,
    engine: Engine,
    bus: LocalBus,
    tell: Callable[[str], None],
) -> AsyncIterator[_Surroundings]:
    """While the block lasts the account is leased, the broker linked, systemd told, the pages and the review site
    served."""
    config, inhibitor = plan.config, Inhibitor()
    pulse = Pulse(pulse_bounds(config.service))
    pulse.queues["store"] = store.waiting
    commands = Commands(
        config=config, switch=KillSwitch(home()), pulse=pulse, clock=clock, inhibitor=inhibitor, bus=bus
    )
    # Outermost: commands and pages speak for the account, so only its holder may offer them.
    async with store.leased(account, clock.now()) as lease:
        around = _Surroundings(pulse, inhibitor, lease, tell)
        async with (
            link(commands, store, account, bus, home()),
            attended(config.service, bus, pulse, engine, _halted, clock),
            beside(database_url(config), config.service.review, around.stage),
        ):
            yield around


def _halted() -> str:
    """Reason of the halt; empty without one."""
    thrown = KillSwitch(home()).read()
    return "" if thrown is None else thrown.reason
