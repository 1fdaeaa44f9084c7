"""Runs on recordings: a feed that replays, a clock that jumps, the paper exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from agent.app.engines import open_electricity, open_engine, slow_load, talking
from agent.app.identity import code_identity, strategy_identity
from agent.app.recordings import open_recording
from agent.app.run_record import EndedRun, RunRecord
from agent.app.settings import decision_settings, delays, faults, risk_limits
from agent.app.traders import BASELINES
from agent.config.places import database_url, own_hosts
from agent.config.schema import Config
from agent.decision import prompts
from agent.decision.budget import Electricity
from agent.host.egress import confined
from agent.learning.learner import OnlineLearner
from agent.learning.market_history import Memory, NoLearning, Outcomes
from agent.llm.engine import Engine
from agent.llm.recorded import RecordingEngine
from agent.llm.scripted import ScriptedEngine
from agent.replay.ablations import ARMS, ArmPlan, run_arm
from agent.replay.answer_cache import AnswerCache, earlier_runs
from agent.review.serving import beside
from agent.trading.agent_trader import AgentTrader
from agent.trading.bus import Bus, LocalBus
from agent.trading.cycle import Ports
from agent.trading.execution import Execution
from agent.trading.loop import Schedule, Trader, TradingLoop
from agent.trading.result import RunResult, since
from agent.trading.strategy_trader import StrategyTrader
from backtest.exchange import PaperExchange
from backtest.feed_outages import FeedOutages
from market.clock import Clock, ManualClock, PacedClock, WallClock
from market.errors import DataInvalid
from market.feed import PricedFeed
from market.fees import charged
from market.types import Micro, micro
from storage.canonical import Json, digest
from storage.memory_log import InMemoryRunLog
from storage.records import RecordKind, Run, RunIdentity, RunManifest
from storage.store import RunLog, Store, open_store
from strategies.base import Strategy
from tools.limits import RiskLimited

PLACEBO_SEED = 20_260_928


@dataclass(frozen=True, slots=True)
class PaperPlan:
    """A paper run: which recording, how fast (None is as fast as it goes), how many slots (None is all)."""

    config: Config
    data: str = "sample"
    speed: float | None = None
    cycles: int | None = None


async def run_paper(plan: PaperPlan, bus: Bus, stage: Callable[[str], None] = lambda _: None) -> RunResult:
    """Trade a recording on paper: the agent, then the baselines and the arms of the ladder on the same decisions."""
    stage("reading the recording")
    with confined(own_hosts(plan.config)):
        feed = await open_recording(plan.data)
        return await _on_paper(plan, feed, bus, stage)


async def _on_paper(plan: PaperPlan, feed: PricedFeed, bus: Bus, stage: Callable[[str], None]) -> RunResult:
    async with open_store(database_url(plan.config)) as store:
        stage("loading the model")
        async with (
            open_engine(plan.config, slow_load(stage)) as engine,
            open_electricity(plan.config) as (electricity, measured),
            beside(database_url(plan.config), plan.config.service.review, stage),
        ):
            world = World(plan, feed, store, bus, electricity)
            primed = engine.usage
            stage("trading")
            done = await world.agent(engine)
            spent = since(engine, primed)
            stage("running the baselines")
            baselines = [(s, await world.baseline(s)) for s in BASELINES]
            for arm in ARMS:
                stage(f"climbing the evidence ladder: {arm.name}")
                await world.arm(arm, done.run, engine)
    return done.result(engine, spent, measured.said, baselines)


@dataclass(frozen=True, slots=True)
class ReplayWorld:
    """One recording, and the exchange that stands on it."""

    plan: PaperPlan
    feed: PricedFeed

    @property
    def seen(self) -> PricedFeed:
        """The feed that traders see, with simulated outages where configured."""
        stale = self.plan.config.trading.outage_rate
        return FeedOutages(self.feed, stale) if stale else self.feed

    def schedule(self) -> Schedule:
        info = self.feed.info
        if info.begins is None:
            raise DataInvalid(f"{info.name} holds no recorded books.", next_step="Choose another --feed.")
        trading = self.plan.config.trading
        return Schedule(
            info.begins,
            info.ends,
            cadence=timedelta(seconds=trading.every),
            offset=timedelta(seconds=trading.offset),
            cycles=self.plan.cycles,
            instants=(info.instants or None) if trading.cadence is None else None,
        )

    def execution(self, log: RunLog, clock: Clock, run_id: str, bus: Bus) -> Execution:
        wait = delays(self.plan.config)
        exchange = PaperExchange(
            self.feed,
            clock,
            cash=micro(self.plan.config.trading.cash),
            venue_delay=wait.venue,
            network_delay=wait.network,
            faults=faults(self.plan.config),
            fees=charged,
            run=run_id,
        )
        return Execution(RiskLimited(exchange, risk_limits(self.plan.config)), log, bus)

    async def play(self, trader: Trader, execution: Execution, clock: Clock, memory: Outcomes) -> None:
        await TradingLoop(
            clock=clock, feed=self.seen, trader=trader, execution=execution, memory=memory, schedule=self.schedule()
        ).run()

    async def profits(self, strategy: Strategy) -> dict[str, Micro]:
        """Profit of a strategy in each market that it trades and whose outcome is known; nothing is stored."""
        log, clock = InMemoryRunLog(), ManualClock(self.schedule().first())
        execution = self.execution(log, clock, "trial", LocalBus())
        await self.play(StrategyTrader(strategy, execution, prices=self.seen), execution, clock, NoLearning())
        return log.profits()


@dataclass(frozen=True, slots=True)
class World(ReplayWorld):
    """One recording, one store, and the runs that are made of them. Where `recalls` is a list, what a model answered
    before to the same questions is taken from the log, and the list says how much."""

    store: Store
    bus: Bus
    electricity: Electricity | None = None
    recalls: list[AnswerCache] | None = None

    async def agent(self, engine: Engine) -> EndedRun:
        """The agent's run: resumed where it stopped, or recomputed and compared where it had ended."""
        recall, model = await self._recall("agent", engine), digest(engine.identity)
        record, clock = await self._begin("agent", model, answers_by=model), self._clock()
        execution, memory = self.execution(record.log, clock, record.run.id, self.bus), self._memory()
        trader = AgentTrader(self._ports(engine, clock, execution, memory, recall))
        await self.play(trader, execution, clock, memory)
        return EndedRun(await _ended(record, execution, clock), trader.ticks, record.log, execution.halted)

    def _ports(
        self, engine: Engine, clock: Clock, execution: Execution, memory: Memory, recall: AnswerCache | None
    ) -> Ports:
        together = talking(engine)
        return Ports(
            clock=clock,
            feed=self.seen,
            memory=memory,
            engine=RecordingEngine(engine),
            execution=execution,
            bus=self.bus,
            settings=decision_settings(self.plan.config, counted_in_tokens=True),
            # With several markets in one batch, a reading around one call would count the work of the others.
            electricity=self.electricity if together is None else None,
            recall=recall,
            together=together,
        )

    async def baseline(self, strategy: Strategy) -> Run:
        """A strategy's run on the same windows through an exchange of its own."""
        record = await self._begin(f"baseline:{strategy.name}", strategy_identity(strategy))
        clock = ManualClock(self.schedule().first())
        execution = self.execution(record.log, clock, record.run.id, LocalBus())
        await self.play(StrategyTrader(strategy, execution, prices=self.seen), execution, clock, NoLearning())
        return await _ended(record, execution, clock)

    async def arm(self, arm: ArmPlan, of: Run, engine: Engine) -> None:
        """An arm of the ladder on the agent's own decisions; one that is finished stands as it is."""
        if arm.placebo:
            engine = ScriptedEngine(seed=PLACEBO_SEED, name="placebo")
            await engine.prime(prompts.static())
        recall, model = await self._recall(arm.label, engine), digest(engine.identity)
        record = await self._begin(arm.label, digest([engine.identity, of.id]), of=of.id, answers_by=model)
        if not record.run.finished:
            decisions = await self.store.records(of.id, RecordKind.DECISION)
            await run_arm(arm, self.store, decisions, record.log, engine, self.electricity, recall)

    async def _recall(self, label: str, engine: Engine) -> AnswerCache | None:
        """Nothing is recalled of a model that might answer otherwise the next time."""
        if self.recalls is None or not engine.capabilities.bit_exact:
            return None
        recall = AnswerCache(self.store, await earlier_runs(self.store, label, digest(engine.identity)))
        self.recalls.append(recall)
        return recall

    async def _begin(self, label: str, model: str, *, of: str = "", answers_by: str = "") -> RunRecord:
        scope: Json = {"config": self.plan.config.identity(), "cycles": self.plan.cycles}
        info = self.feed.info
        identity = RunIdentity(
            data=info.fingerprint, config=digest(scope), code=code_identity(), model=model, label=label
        )
        manifest = RunManifest(
            data=info.name,
            notes=tuple(info.notes),
            has_reference=info.has_reference,
            config=scope,
            cash=micro(self.plan.config.trading.cash),
            of=of,
            answers_by=answers_by,
        )
        return await RunRecord.begin(self.store, identity, manifest, WallClock().now())

    def _memory(self) -> Memory:
        trading = self.plan.config.trading
        # What was observed through simulated outages is another history; without them its name stays the same.
        heard: list[Json] = [trading.outage_rate] if trading.outage_rate else []
        source = digest([self.feed.info.fingerprint, code_identity(), trading.cadence, trading.offset, *heard])
        return Memory(self.store, self.seen, self.seen, source, OnlineLearner(self.plan.config.trading.shrink))

    def _clock(self) -> Clock:
        start = self.schedule().first()
        return ManualClock(start) if self.plan.speed is None else PacedClock(start, self.plan.speed)


async def _ended(record: RunRecord, execution: Execution, clock: Clock) -> Run:
    """Close a run whose exchange began with it."""
    return await record.end(execution, clock, runs=[record.run], unknown=execution.working)
