"""One account on the live market and the run that goes on there: recover, trade, stop or end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from agent.app.engines import talking
from agent.app.guards import Guards, inference_today
from agent.app.live_plan import LivePlan, identities, live_manifest, promotion_scope
from agent.app.run_record import EndedRun, RunRecord, run_published
from agent.app.settings import decision_settings, promotion_rule
from agent.app.traders import strategy_trader
from agent.config.paths import home
from agent.decision.budget import Electricity
from agent.learning.learner import OnlineLearner
from agent.learning.market_history import Memory
from agent.learning.warm_start import warm_start
from agent.live.promotion import promotion
from agent.live.recovery import AccountHistory, load_account_history, runs_of
from agent.llm.engine import Engine
from agent.llm.recorded import RecordingEngine
from agent.service.pulse import Pulse
from agent.service.timekeeping import Timekeeper, pace
from agent.trading.agent_trader import AgentTrader
from agent.trading.bus import Bus
from agent.trading.cycle import Ports
from agent.trading.execution import Execution
from agent.trading.inhibit import Inhibitor
from agent.trading.kill_switch import OTHERS, KillSwitchWatcher, watching_kill_switch
from agent.trading.loop import Trader, TradingLoop
from agent.trading.strategy_trader import Several
from market.clock import EPOCH, Clock, WallClock
from market.errors import EdgeclawError, Halt, NotReady, Refused, RunFailed, StoreUnavailable, VenueUnavailable
from market.events import RunStarted
from market.tasks import alongside
from market.types import Market
from storage.canonical import digest
from storage.lease import Lease
from storage.records import Run, RunManifest
from storage.store import Store
from strategies.calibration import prepare
from tools.halts import KillSwitch

if TYPE_CHECKING:
    from agent.live.account import LiveAccount, OpenAccount
    from agent.live.comparison import AccountComparison
    from agent.live.late_trades import Chain
    from agent.live.redeem import WinningsRedeemer
    from agent.live.wallet import OpenWallet
    from agent.service.maintenance import MaintenanceJobs
    from market.polymarket.feed import LiveFeed
    from market.polymarket.hosts import Hosts
    from market.polymarket.prices import Source

log = logging.getLogger(__name__)
_IN_FLIGHT = 30.0
"""Seconds in which what another machine has sent must have come to the venue, before its account is taken on."""
_LAST_WORDS = 5.0
"""Seconds to cancel orders in when a live run is stopped."""


@dataclass(frozen=True, slots=True)
class _Trading:
    """Parts of a run whose account is open and recovered."""

    engine: Engine
    record: RunRecord
    past: AccountHistory
    feed: LiveFeed
    hands: OpenAccount
    execution: Execution
    watcher: KillSwitchWatcher
    comparison: AccountComparison | None
    memory: Memory


@dataclass(slots=True, kw_only=True)
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

    async def run(self, engine: Engine) -> EndedRun:
        """Until the slots are done. Stopped before, all orders are cancelled and the next start goes on. A Halt, after
        which nothing may go on by itself, throws the kill switch. Raises RunFailed for what nobody foresaw."""
        switch = KillSwitch(home())
        try:
            # Before anything is opened: on a disk that is full by the time of a halt, throwing the switch is a rename.
            switch.prepare()
            return await self._run(engine, switch)
        except Halt as stop:
            try:
                switch.throw(str(stop), "edgeclaw", WallClock().now())
            except StoreUnavailable as error:
                log.warning("the halt is not on disk: %s", error.sentence())
            raise
        except EdgeclawError:
            raise
        except Exception as error:
            log.exception("the run failed")
            raise _failed(error) from error

    async def _run(self, engine: Engine, switch: KillSwitch) -> EndedRun:
        record = await self._begin(engine)
        # Read before the feed opens, which has to know the markets of shares held even if they are not traded any more.
        past = await load_account_history(self.store, self.account.name, record.run.id)
        past = replace(past, reviewed_at=max((r.at for r in switch.resumes()), default=EPOCH))
        with run_published(self.bus, self.clock, self._started(engine, record, past)):
            return await self._recover_and_trade(engine, record, past, switch)

    async def _recover_and_trade(
        self, engine: Engine, record: RunRecord, past: AccountHistory, switch: KillSwitch
    ) -> EndedRun:
        self.stage("listening to the market")
        async with self._feed(past) as feed, self.account.opened(feed, self.clock, past, _lookup(feed, past)) as hands:
            trading = await self._recovered(engine, record, past, feed, hands, switch)
            run = await self._trade(trading)
            return EndedRun(run, self.ticks, record.log, trading.execution.halted)

    def _started(self, engine: Engine, record: RunRecord, past: AccountHistory) -> RunStarted:
        return RunStarted(
            at=self.clock.now(),
            run_id=record.run.id,
            account=self.account.name,
            mode="paper" if self.plan.paper else "loopback" if self.hosts.pretend else "live",
            traders=self.plan.trade_with,
            engine=engine.identity.model,
            resumed=record.log.length > 0,
            unsettled=tuple((m.id, m.slug) for m in past.unsettled.values()),
        )

    async def _begin(self, engine: Engine) -> RunRecord:
        """The account's unfinished run of this code, configuration and model, or a new one; what happened while nothing
        ran is written down as a gap."""
        from agent.live.preflight import patiently

        await self._log_must_hold()
        # From the store alone and first: an account that is not promoted never authenticates at the venue.
        if self.account.real:
            await self._must_be_promoted()
        await patiently(lambda: self.account.begin(self.clock))
        # The former holder may have died with orders on the network. They must reach the venue before leftover orders
        # are cancelled, or they would rest unseen.
        if self.lease.taken_from:
            self.stage(f"waiting for in-flight orders of {self.lease.taken_from}")
            await asyncio.sleep(_IN_FLIGHT)
        manifest = await self._manifest()
        identity = identities(self.plan, self.account.name, engine.identity, manifest.config)
        record = await RunRecord.resume(self.store, identity, manifest, self.clock.now(), self.lease)
        await record.close_gap(self.plan.schedule, self.clock.now())
        return record

    async def _log_must_hold(self) -> None:
        """Verify what no earlier start has verified of the account's log. Raises Halt where it is damaged."""
        self.stage("verifying the log")
        done = await self.store.verify_account(self.account.name)
        if done.left:
            self.stage(f"{done.left:,} records of the log are left for the next start to verify")

    async def _must_be_promoted(self) -> None:
        verdict = await promotion(
            self.store, promotion_rule(self.plan.config), promotion_scope(self.plan), self.clock.now()
        )
        if not verdict.passed and not self.plan.accept_the_risk:
            raise NotReady(
                f"Live trading is not unlocked by paper trading yet: {verdict.sentence}",
                next_step="Trade on paper: edgeclaw run --feed live. Or add --i-accept-the-risk.",
            )

    async def _manifest(self) -> RunManifest:
        from agent.live.preflight import patiently

        # The first run fixes the starting cash. The balance by the log is that sum and the fills of all runs; asking
        # the venue again would hide whatever it and the log disagree on.
        earlier = await runs_of(self.store, self.account.name)
        cash = earlier[0].about.initial_cash if earlier else await patiently(lambda: self.account.cash(self.clock))
        return live_manifest(self.plan, self.account, self.hosts.clob, cash)

    @asynccontextmanager
    async def _feed(self, past: AccountHistory) -> AsyncIterator[LiveFeed]:
        """The live feed, which knows the markets whose shares have not become dollars."""
        from market.polymarket.feed import Watch, open_feed

        venue = self.plan.config.venue
        watch = Watch(venue.watched(), venue.slugs)
        async with open_feed(self.hosts, self.clock, watch, self._source(), publish=self.bus.publish) as feed:
            self.pulse.heard = lambda: feed.heard
            self.pulse.counters["feed"], self.pulse.troubles["feed"] = feed.health.counts, feed.health.recent
            for market in past.unsettled.values():
                feed.remember(market)
            yield feed

    def _source(self) -> Source | None:
        from market.polymarket.prices import source_of

        named = self.plan.reference
        return None if named == "none" else source_of(named, self.hosts.price_stream, self.account.said)

    async def _recovered(
        self,
        engine: Engine,
        record: RunRecord,
        past: AccountHistory,
        feed: LiveFeed,
        hands: OpenAccount,
        switch: KillSwitch,
    ) -> _Trading:
        """Ready to trade: the account checked, open orders cancelled, the learner warmed."""
        from agent.live.preflight import patiently

        self.stage("running the preflight checks")
        # Before the first request that moves anything: the venue answers a wrong clock as if the key were wrong.
        await patiently(lambda: hands.ready(self.clock))
        spent = await inference_today(self.plan.config, self.store, self.clock, engine)
        guards = Guards(self.plan.config, self.clock, switch, self.inhibitor, self.pulse)
        # Around the orders before any is cancelled, so that how they ended is logged and counts against the limits.
        execution, watcher = guards.around(hands.orders, record.log, self.bus, past, spent)
        comparison = self._comparison(hands, execution, _lookup(feed, past), switch)
        if comparison is not None:
            try:
                await patiently(comparison.begin)
            except Halt:
                await _last_words(hands.orders.cancel_many(list(execution.working)))
                raise
        self.stage("cancelling leftover orders")
        await patiently(lambda: execution.withdraw_all(self.clock.now()))
        # Last, since it may read a month of decisions: nothing rests at the venue meanwhile.
        self.stage("warm start from the log")
        return _Trading(
            engine=engine,
            record=record,
            past=past,
            feed=feed,
            hands=hands,
            execution=execution,
            watcher=watcher,
            comparison=comparison,
            memory=await self._memory(feed),
        )

    async def _memory(self, feed: LiveFeed) -> Memory:
        """Memory with a warm-started learner: outcomes of this account's earlier runs on this feed, and later ones."""
        trading = self.plan.config.trading
        source = digest([feed.info.fingerprint, trading.cadence, trading.offset])
        learner, runs = OnlineLearner(trading.shrink), await runs_of(self.store, self.account.name)
        await warm_start(self.store, source, runs, learner, self.clock.now())
        await asyncio.to_thread(prepare, len(learner.known))
        return Memory(self.store, feed, feed, source, learner)

    async def _trade(self, on: _Trading) -> Run:
        """Trade until the slots are done, beside the jobs, the kill switch watcher and the timekeeper, and end it."""
        from agent.service.jobs import scheduled

        self.stage("trading")
        keeper = Timekeeper(self.clock, self.inhibitor, lambda: on.hands.agree(self.clock))
        self.pulse.counters["clock"], self.pulse.troubles["clock"] = keeper.incidents.counts, keeper.incidents.recent
        jobs = self._maintenance(on.memory.learner, self._winnings(on.hands)).jobs()
        self.pulse.trading, self.pulse.at_risk = True, on.execution.all_at_risk
        self.pulse.account = on.execution.standing
        # The jobs outlast the loop: the end waits for winnings, and it is a job that redeems them.
        try:
            async with scheduled(jobs, self.bus, self.clock, pace(self.clock)):
                async with watching_kill_switch(on.watcher), alongside(keeper.watch(), *self._compared(on)):
                    await self._loop(on)
                return await self._end(on)
        except NotReady:
            raise
        except Refused as stop:
            # Nothing was wrong with how it was started: a supervisor has to start it again.
            raise _failed(stop) from stop

    def _compared(self, on: _Trading) -> list[Coroutine[object, object, None]]:
        if on.comparison is None:
            return []
        return [on.comparison.watch(self.plan.schedule(self.clock.now()).slots())]

    def _comparison(
        self, hands: OpenAccount, execution: Execution, markets: Callable[[str], Market | None], switch: KillSwitch
    ) -> AccountComparison | None:
        """Only an account at the venue can differ from ours."""
        from agent.live.comparison import AccountComparison
        from agent.live.late_trades import LateTrades

        venue = hands.venue
        if venue is None:
            return None
        late = LateTrades(venue.books, self._chain, venue.traded, markets, self.clock)
        halt = partial(_throw, switch)
        doubt = partial(setattr, self.inhibitor, "account")
        made = AccountComparison(
            account=venue,
            execution=execution,
            clock=self.clock,
            halt=halt,
            doubt=doubt,
            late=late,
            close_books=execution.reconcile,
        )
        self.pulse.counters |= {
            "account": lambda: {**made.incidents.counts(), **venue.incidents.counts()},
            "execution": execution.incidents.counts,
        }
        self.pulse.troubles |= {
            "account": lambda: [*made.remarks(), *venue.incidents.recent()],
            "execution": execution.incidents.recent,
        }
        return made

    def _winnings(self, hands: OpenAccount) -> WinningsRedeemer | None:
        """Only an account at the venue has winnings that can be late."""
        from agent.live.redeem import WinningsRedeemer

        return (
            None if hands.venue is None else WinningsRedeemer(hands.venue, self._wallet, self.clock, self.bus.publish)
        )

    def _wallet(self) -> AbstractAsyncContextManager[OpenWallet]:
        """The wallet of the account that is open, with the key it has: nobody is there to be asked for a passphrase."""
        from agent.live.account import VenueAccount
        from agent.live.wallet import wallet_of

        if not isinstance(self.account, VenueAccount):
            raise NotReady("Simulated money of this process has no wallet.")
        return wallet_of(self.plan.config, self.account, self.clock)

    @asynccontextmanager
    async def _chain(self) -> AsyncIterator[Chain]:
        async with self._wallet() as wallet:
            yield wallet.chain

    def _maintenance(self, learner: OnlineLearner, winnings: WinningsRedeemer | None) -> MaintenanceJobs:
        from agent.service.maintenance import MaintenanceJobs

        return MaintenanceJobs(
            config=self.plan.config,
            home=home(),
            store=self.store,
            hosts=self.hosts,
            clock=self.clock,
            bus=self.bus,
            pulse=self.pulse,
            learner=learner,
            winnings=winnings,
            folders=tuple({home(), self.store.folder or home()}),
        )

    async def _loop(self, on: _Trading) -> None:
        begins = await on.record.begins(self.clock.now())
        ports = self._ports(on)
        trading_loop = TradingLoop(
            clock=self.clock,
            feed=on.feed,
            trader=Several([self._trader(name, ports, on.past) for name in self.plan.trade_with]),
            execution=on.execution,
            memory=on.memory,
            schedule=self.plan.schedule(begins),
            open=on.past.unsettled,
            told=dict(on.past.told),
        )
        if on.comparison is not None:
            # A payout may come between two slots, and would differ until the next one.
            on.comparison.close_books = trading_loop.close_books
        try:
            await trading_loop.run()
        except StoreUnavailable:
            # Whatever comes of it cannot be written down.
            await _last_words(on.execution.orders.cancel_many(list(on.execution.working)))
            raise
        except (asyncio.CancelledError, Exception) as stop:
            # Whatever it is, no order may outlive the run that watches over it.
            await _last_words(self._stop(on, str(stop) or _why(stop)))
            raise

    def _ports(self, on: _Trading) -> Ports:
        together = talking(on.engine)
        return Ports(
            clock=self.clock,
            feed=on.feed,
            memory=on.memory,
            engine=RecordingEngine(on.engine),
            execution=on.execution,
            bus=self.bus,
            settings=decision_settings(self.plan.config, counted_in_tokens=False),
            # With several markets in one batch, a reading around one call would count the work of the others.
            electricity=self.electricity if together is None else None,
            together=together,
        )

    def _trader(self, name: str, ports: Ports, past: AccountHistory) -> Trader:
        if name != "agent":
            return strategy_trader(name, ports, past)
        trader = AgentTrader(ports)
        self.ticks = trader.ticks
        return trader

    async def _stop(self, on: _Trading, why: str) -> None:
        await on.execution.withdraw_all(self.clock.now())
        await on.record.log.stop(why, self.clock.now())

    async def _end(self, on: _Trading) -> Run:
        """Close the run, once nothing is open and the venue's account agrees with ours to the last unit."""
        from agent.live.preflight import patiently

        await patiently(lambda: on.execution.withdraw_all(self.clock.now()))
        differs = "" if on.comparison is None else await on.comparison.conclude()
        runs = await runs_of(self.store, self.account.name)
        return await on.record.end(on.execution, self.clock, runs=runs, unknown=(), differs=differs)


def _why(stop: BaseException) -> str:
    """Reason of an end that says none itself."""
    return "it was ended" if isinstance(stop, asyncio.CancelledError) else type(stop).__name__


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _failed(error: Exception) -> RunFailed:
    what = _words(error).rstrip(".")
    return RunFailed(
        f"Something that nobody foresaw ended the run ({type(error).__name__}: {what}); its orders were taken back.",
        next_step="Start it again: a start is a recovery. Report it if it recurs.",
    )


def _throw(switch: KillSwitch, reason: str) -> None:
    switch.throw(reason, OTHERS, WallClock().now())


def _lookup(feed: LiveFeed, past: AccountHistory) -> Callable[[str], Market | None]:
    """Markets by id, those of earlier orders too."""
    return lambda market_id: feed.market(market_id) or past.markets.get(market_id)


async def _last_words(work: Awaitable[object]) -> None:
    """Best-effort cleanup of a run that ends early, bounded in time; what fails of it is logged, and the reason of the
    end stands."""
    try:
        async with asyncio.timeout(_LAST_WORDS):
            await work
    except (VenueUnavailable, StoreUnavailable, TimeoutError) as error:
        log.warning("orders may still rest at the venue, which cancels them ten seconds from now: %s", _words(error))
