"""Runs on the market as it is now: pretend money in this process, or an account at the venue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING

from agent.app.settings import decision_settings, promotion_rule, risk_limits
from agent.config.paths import home
from agent.config.schema import Config
from agent.decision.budget import Electricity
from agent.host.egress import confined, host_of
from agent.learning.learner import OnlineLearner
from agent.learning.market_history import Memory
from agent.learning.warm_start import warm_start
from agent.live.promotion import promotion
from agent.live.recovery import AccountHistory, load_account_history, runs_of
from agent.llm.engine import Engine
from agent.llm.recorded import RecordingEngine
from agent.review.serving import beside
from agent.service.commands import Commands
from agent.service.mqtt_setup import link
from agent.service.pulse import Pulse
from agent.service.supervision import attended, pulse_of
from agent.service.timekeeping import Timekeeper, kept, pace
from agent.trading.agent_trader import AgentTrader
from agent.trading.bus import Bus, LocalBus
from agent.trading.cycle import Ports
from agent.trading.execution import Execution
from agent.trading.inhibit import Inhibitor
from agent.trading.kill_switch import KillSwitchWatcher, watching_kill_switch
from agent.trading.loop import Schedule, Trader, TradingLoop
from agent.trading.strategy_trader import QuotingTrader, Several, StrategyTrader
from market.clock import Clock
from market.errors import (
    Halt,
    LedgerMismatch,
    NotReady,
    StoreUnavailable,
    StrategyFailed,
    VenueUnavailable,
)
from market.types import Micro, micro
from storage.canonical import Json, digest
from storage.lease import Lease
from storage.records import RecordKind, Run, RunIdentity, RunManifest
from storage.store import RunLog, Store, open_store
from strategies.base import Strategy
from strategies.calibration import prepare
from strategies.quoting import JoinBest
from tools.halts import KillSwitch
from tools.ledger import balance
from tools.limits import CostLimited, InferenceToday, RateLimited, RiskLimited, Switched

if TYPE_CHECKING:
    from agent.live.account import LiveAccount, OpenAccount
    from agent.service.maintenance import MaintenanceJobs
    from market.polymarket.feed import LiveFeed
    from market.polymarket.hosts import Hosts
    from market.polymarket.prices import Source

from agent.app.accounts import account_of
from agent.app.engines import open_electricity, open_engine, slow_load, talking
from agent.app.identity import code_identity
from agent.app.recorded import BASELINES
from agent.config.places import database_url, own_hosts
from agent.trading.result import RunResult, since

QUOTERS: tuple[Strategy, ...] = (JoinBest(),)
TRADERS = ("agent", *(s.name for s in (*BASELINES, *QUOTERS)))
_IN_FLIGHT = 30.0
"""Seconds in which what another machine has sent must have come to the venue, before its account is taken on."""
_LAST_WORDS = 5.0
"""Seconds in which orders are taken back when a live run is stopped."""


@dataclass(frozen=True, slots=True)
class LivePlan:
    """A run on the market as it is now: at a loopback venue, or the real one; with which traders; how many slots
    (None is until it is stopped).

    On `paper` nothing is sent: no key is read, and orders meet the books in this process. With real money a run has to
    be promoted from paper, unless its owner accepts the risk.
    """

    config: Config
    trade_with: tuple[str, ...] = ("agent",)
    cycles: int | None = None
    paper: bool = False
    accept_the_risk: bool = False


def must_trade() -> None:
    """Raises NotReady where the libraries of live trading are not installed."""
    missing = [
        name
        for name in ("aiohttp", "apscheduler", "coincurve", "msgspec", "polymarket", "Crypto")
        if find_spec(name) is None
    ]
    if missing:
        raise NotReady("What trades at the venue is not installed.", next_step="Run: pip install 'edgeclaw[live]'")


async def run_live(plan: LivePlan, bus: LocalBus, stage: Callable[[str], None] = lambda _: None) -> RunResult:
    """Trade the market as it is now, until the slots are done or it is stopped; what earlier runs left is taken on."""
    must_trade()
    from market.polymarket.hosts import Hosts

    venue = plan.config.venue
    hosts = Hosts.named(venue.loopback)
    account = account_of(plan.config, hosts, paper=plan.paper)
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

    named = plan.config.venue.reference_named(keyed=not plan.paper)
    return frozenset() if named == "none" else frozenset({host_of(source_of(named, hosts.price_stream, {}).url)})


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
            pulse = pulse_of(plan.config.service)
            pulse.queues["store"] = store.waiting

            def told(what: str) -> None:
                pulse.stage = what
                stage(what)

            inhibitor, primed = Inhibitor(), engine.usage
            commands = Commands(plan.config, KillSwitch(home()), pulse, clock, inhibitor, bus)
            async with (
                store.leased(account.name, clock.now()) as lease,
                link(commands, store, account.name, bus, home()),
                attended(plan.config.service, bus, pulse, engine, _halted),
                beside(database_url(plan.config), plan.config.service.review, told),
            ):
                world = LiveWorld(plan, hosts, account, clock, store, bus, electricity, told, pulse, inhibitor, lease)
                run, ticks, log, halted = await world.run(engine)
            return RunResult(
                run, log.appended, log.compared, tuple(ticks), engine.identity, since(engine, primed), halted, (),
                measured.said,
            )  # fmt: skip


def _halted() -> str:
    """Why the kill switch was thrown, or nothing."""
    thrown = KillSwitch(home()).read()
    return "" if thrown is None else thrown.reason


@dataclass(slots=True)
class LiveWorld:
    """One account on the market as it is now, and the run that goes on there."""

    plan: LivePlan
    hosts: Hosts
    account: LiveAccount
    clock: Clock
    store: Store
    bus: Bus
    electricity: Electricity | None
    stage: Callable[[str], None]
    pulse: Pulse
    inhibitor: Inhibitor
    lease: Lease
    ticks: list[float] = field(default_factory=list)

    async def run(self, engine: Engine) -> tuple[Run, list[float], RunLog, str]:
        """Until the slots are done. Stopped before, all orders are taken back and the next start goes on. What must
        not go on by itself throws the kill switch."""
        switch = KillSwitch(home())
        try:
            switch.prepare()
            return await self._run(engine, switch)
        except Halt as stop:
            with suppress(StoreUnavailable):
                switch.throw(str(stop), "edgeclaw", self.clock.now())
            raise

    async def _run(self, engine: Engine, switch: KillSwitch) -> tuple[Run, list[float], RunLog, str]:
        from agent.live.preflight import patiently
        from agent.service.jobs import scheduled
        from market.polymarket.feed import Watch, open_feed

        venue, clock = self.plan.config.venue, self.clock
        if self.account.real:
            await self._must_be_promoted()
        await patiently(lambda: self.account.begin(clock))
        if self.lease.taken_from:
            self.stage(f"waiting for what {self.lease.taken_from} may still have sent")
            await asyncio.sleep(_IN_FLIGHT)
        run = await self._begin(engine)
        log = self.store.log(run.id, self.lease)
        await log.go_on()
        await self._close_gap(log)
        past = await load_account_history(self.store, self.account.name, run.id)
        self.stage("listening to the market")
        async with open_feed(self.hosts, clock, Watch(venue.watched(), venue.slugs), self._source()) as feed:
            known = past.markets
            self.pulse.heard = lambda: feed.heard
            for market in past.unsettled.values():
                feed.remember(market)
            lookup = lambda market_id: feed.market(market_id) or known.get(market_id)  # noqa: E731
            async with self.account.opened(feed, clock, past, lookup) as hands:
                self.stage("checking that all holds")
                await patiently(lambda: hands.ready(clock))
                spent = await self._inference(engine)
                execution, watcher = self._desk(hands, log, past, switch, spent)
                self.stage("taking back what was left open")
                await patiently(lambda: execution.withdraw_all(clock.now()))
                keeper = Timekeeper(clock, self.inhibitor, lambda: hands.agree(clock))
                self.stage("learning from the log")
                memory = await self._memory(feed)
                chores = self._chores(memory.learner, hands)
                self.stage("trading")
                self.pulse.trading, self.pulse.at_risk, self.pulse.account = (
                    True,
                    execution.all_at_risk,
                    execution.standing,
                )
                async with scheduled(chores.jobs(), self.bus, clock, pace(clock)):
                    async with watching_kill_switch(watcher), kept(keeper):
                        await self._trade(feed, execution, past, engine, log, memory)
                    return await self._end(run, log, execution, hands), self.ticks, log, execution.halted

    def _chores(self, learner: OnlineLearner, hands: OpenAccount) -> MaintenanceJobs:
        """Only an account at the venue has winnings that can be late."""
        from agent.service.maintenance import MaintenanceJobs

        folders = tuple({home(), self.store.folder or home()})
        at_venue = None if self.plan.paper else hands
        return MaintenanceJobs(
            self.plan.config, home(), self.store, self.hosts, self.clock, self.bus, self.pulse, learner, at_venue,
            folders=folders,
        )  # fmt: skip

    async def _memory(self, feed: LiveFeed) -> Memory:
        """What this account's earlier runs learnt on this feed, and what is learnt from now on."""
        trading = self.plan.config.trading
        source = digest([feed.info.fingerprint, trading.cadence, trading.offset])
        learner, runs = OnlineLearner(trading.shrink), await runs_of(self.store, self.account.name)
        await warm_start(self.store, source, runs, learner, self.clock.now())
        await asyncio.to_thread(prepare, len(learner.known))
        return Memory(self.store, feed, feed, source, learner)

    async def _must_be_promoted(self) -> None:
        verdict = await promotion(self.store, promotion_rule(self.plan.config))
        if not verdict.passed and not self.plan.accept_the_risk:
            raise NotReady(
                f"Paper trading has not earned real money yet: {verdict.sentence}",
                next_step="Trade on paper: edgeclaw run --feed live. Or add --i-accept-the-risk.",
            )

    def _source(self) -> Source | None:
        from market.polymarket.prices import source_of

        named = self._reference()
        return None if named == "none" else source_of(named, self.hosts.price_stream, self.account.said)

    def _reference(self) -> str:
        return self.plan.config.venue.reference_named(keyed=not self.plan.paper)

    async def _begin(self, engine: Engine) -> Run:
        """The account's unfinished run of this code, configuration and model, or a new one."""
        from agent.live.preflight import patiently

        name = self.account.name
        earlier = await runs_of(self.store, name)
        if earlier:
            cash = earlier[0].about.cash
        else:
            cash = await patiently(lambda: self.account.cash(self.clock))
        scope: Json = {"config": self.plan.config.identity(), "series": list(self.plan.config.venue.series)}
        manifest = RunManifest(
            data=f"polymarket at {self.hosts.clob}",
            notes=(self.account.note,),
            has_reference=self._reference() != "none",
            config=scope,
            cash=cash,
            account=name,
        ).to_json()
        label = "live:" + ",".join(self.plan.trade_with)
        for number in count(1):
            identity = RunIdentity(
                f"live|{name}", digest(scope), code_identity(), digest(engine.identity), f"{label}/{number}"
            )
            run = await self.store.begin_run(identity, manifest, self.clock.now())
            if not run.finished:
                return run
        raise AssertionError("unreachable")

    async def _inference(self, engine: Engine) -> InferenceToday:
        """What inference has cost today, from the log and from here on."""
        today = self.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        before = round(await self.store.micro_usd_since(today))
        tokens = lambda: engine.usage.prompt + engine.usage.generated  # noqa: E731
        return InferenceToday(self.clock, self.plan.config.edge.cost.token_price, tokens, before)

    def _desk(
        self, hands: OpenAccount, log: RunLog, past: AccountHistory, switch: KillSwitch, spent: InferenceToday
    ) -> tuple[Execution, KillSwitchWatcher]:
        """The desk behind every limit, and what makes it obey the switch."""
        config, before = self.plan.config, past.exposure(switch.resumed_at())
        limited = RateLimited(hands.orders, self.clock, config.venue.orders_per_second)
        risk = RiskLimited(limited, risk_limits(config), before)
        tool = Switched(CostLimited(risk, micro(config.risk.inference), spent.spent), switch, self.clock)
        working, paid = dict(before.promised), dict(before.paid)
        execution = Execution(tool, log, self.bus, working=working, paid=paid, inhibitor=self.inhibitor)
        return execution, KillSwitchWatcher(switch, execution, tool, self.clock, risk.forget_results)

    async def _trade(
        self, feed: LiveFeed, execution: Execution, past: AccountHistory, engine: Engine, log: RunLog, memory: Memory
    ) -> None:
        settings = decision_settings(self.plan.config, counted_in_tokens=False)
        recorder, together = RecordingEngine(engine), talking(engine)
        power = self.electricity if together is None else None
        ports = Ports(self.clock, feed, memory, recorder, execution, self.bus, settings, power, together=together)
        schedule = self._schedule(await self._begins(log.run_id))
        trader = Several([self._trader(name, ports, past) for name in self.plan.trade_with])
        session = TradingLoop(
            self.clock, feed, trader, execution, memory, schedule, open=past.unsettled, told=dict(past.told)
        )
        try:
            await session.run()
        except StoreUnavailable:
            await self._last_words(execution.orders.cancel_all())  # whatever came of it could not be written down
            raise
        except (asyncio.CancelledError, StrategyFailed, Halt) as stop:
            await self._last_words(self._stop(execution, log, str(stop) or "it was ended"))
            raise

    async def _last_words(self, work: Awaitable[object]) -> None:
        """What is still done when a run ends before its time, as far as it can be and while it does not take long."""
        with suppress(VenueUnavailable, StoreUnavailable, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await work

    async def _stop(self, execution: Execution, log: RunLog, why: str) -> None:
        await execution.withdraw_all(self.clock.now())
        await log.stop(why, self.clock.now())

    def _schedule(self, begins: datetime) -> Schedule:
        trading = self.plan.config.trading
        cadence, offset = timedelta(seconds=trading.cadence or 300), timedelta(seconds=trading.offset)
        return Schedule(begins, None, cadence, offset, self.plan.cycles)

    async def _begins(self, run_id: str) -> datetime:
        """From when on slots are decided at: none a second time, were the clock set back since."""
        newest = await self.store.decisions(run_id, limit=1)
        now = self.clock.now()
        return max(now, newest[-1].at + timedelta(microseconds=1)) if newest else now

    async def _close_gap(self, log: RunLog) -> None:
        """Close what an earlier process of this run left open: nothing was decided at the slots since its last
        decision, because it was stopped, or ended in the middle of something."""
        newest, now = await self.store.decisions(log.run_id, limit=1), self.clock.now()
        if not newest:
            return
        missed = list(self._schedule(newest[-1].at + timedelta(microseconds=1)).until(now))
        last = await self.store.records(log.run_id, since=log.length - 1)
        reason = "stopped" if last[-1].kind is RecordKind.STOP else "interrupted"
        if missed:
            await log.gap(missed[0], missed[-1], len(missed), reason, now)

    def _trader(self, name: str, ports: Ports, past: AccountHistory) -> Trader:
        if name == "agent":
            trader = AgentTrader(ports)
            self.ticks = trader.ticks
            return trader
        quoting = {s.name: s for s in QUOTERS}
        if name in quoting:
            return QuotingTrader(quoting[name], ports.execution, ports.old)
        strategy = {s.name: s for s in BASELINES}[name]
        used = past.traded(name) if strategy.once else set()
        return StrategyTrader(strategy, ports.execution, ports.old, used=used, prices=ports.memory.prices)

    async def _end(self, run: Run, log: RunLog, execution: Execution, hands: OpenAccount) -> Run:
        """Close the run, once nothing is open and the venue's account agrees with ours to the last unit."""
        from agent.live.preflight import patiently

        await patiently(lambda: execution.withdraw_all(self.clock.now()))
        differs = await hands.compared(self.clock, execution.reconcile)
        account = await execution.account()
        if not differs and account.cash != (expected := await self._remembered_cash()):
            differs = f"the account holds {account.cash} micro-dollars where the records say {expected}"
        if differs:
            raise LedgerMismatch(f"{differs}.", next_step="Keep the database and read `edgeclaw log verify`.")
        held = {f"{m}/{o}": size for (m, o), size in sorted(account.holdings.items())}
        body: dict[str, Json] = {"cash": account.cash, "holdings": held, "unknown": [], "halted": execution.halted}
        await log.end(self.clock.now(), body)
        return await self.store.run(run.id) or run

    async def _remembered_cash(self) -> Micro:
        """What the account must hold by every run's records."""
        runs = await runs_of(self.store, self.account.name)
        cash = runs[0].about.cash
        for run in runs:
            cash = balance(cash, await self.store.fills(run.id), await self.store.settlements(run.id))
        return cash
