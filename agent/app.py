"""The composition root: the only place that knows which clock, feed, engine and exchange a run is made of."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from importlib import resources
from pathlib import Path

from agent import prompts
from agent.bus import Bus, LocalBus
from agent.config import Config
from agent.cycle import Ports
from agent.desk import Desk
from agent.install import model_path
from agent.ladder import Arm, Gathering
from agent.llm.engine import Engine, ModelIdentity, Usage
from agent.llm.llamacpp.engine import opened as llama_opened
from agent.llm.recorded import RecordingEngine
from agent.llm.scripted import ScriptedEngine
from agent.memory import Memory
from agent.paths import home
from agent.rethink import rethink
from agent.search.tree import Policy
from agent.session import Schedule, Session, Trader
from agent.summary import balance
from agent.trader import AgentTrader, StrategyTrader
from backtest.exchange import PaperExchange
from backtest.sources import open_recorded
from market.clock import Clock, ManualClock, PacedClock, WallClock
from market.errors import DataInvalid, LedgerMismatch
from market.feed import Feed
from market.fees import charged
from market.types import micro
from storage.canonical import Json, digest, plain
from storage.records import RecordKind, Run, RunIdentity
from storage.store import RunLog, Store, open_store
from strategies.base import Strategy
from strategies.baselines import LateFavourite, MarketMid
from tools.limits import RiskLimited

PACKAGES = ("agent", "backtest", "market", "storage", "strategies", "tools")
BASELINES: tuple[Strategy, ...] = (MarketMid(), LateFavourite())
PLACEBO_SEED = 20_260_928


@dataclass(frozen=True, slots=True)
class Plan:
    """A paper run: which recording, how fast (None is as fast as it goes), how many slots (None is all)."""

    config: Config
    data: str = "sample"
    speed: float | None = None
    cycles: int | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """What `run_paper` leaves for the summary."""

    run: Run
    appended: int
    compared: int
    ticks: tuple[float, ...]
    engine: ModelIdentity
    used: Usage
    halted: str
    baselines: tuple[tuple[Strategy, Run], ...]
    arms: tuple[Arm, ...]


def database_url(config: Config) -> str:
    """Where the store is: as configured, else in the home folder."""
    return config.storage.url or f"sqlite:///{home() / 'edgeclaw.db'}"


@asynccontextmanager
async def open_engine(config: Config) -> AsyncIterator[Engine]:
    """The engine a configuration names, primed with what every prompt begins with."""
    edge = config.edge
    if edge.runtime == "scripted":
        scripted = ScriptedEngine(seed=edge.seed)
        await scripted.prime(prompts.static())
        yield scripted
        return
    path = model_path(home(), edge.model)
    threads = edge.threads or min(os.cpu_count() or 1, 4)
    async with llama_opened(path, name=edge.model, library=edge.library, threads=threads) as engine:
        await engine.prime(prompts.static())
        yield engine


@asynccontextmanager
async def open_model(
    path: Path | None, name: str, *, threads: int, context: int, sequences: int
) -> AsyncIterator[Engine]:
    """A model file by itself, nothing primed, for experiments; the scripted engine where there is no file."""
    if path is None:
        yield ScriptedEngine(name=name)
        return
    async with llama_opened(path, name=name, threads=threads, context=context, sequences=sequences) as engine:
        yield engine


async def open_feed(where: str) -> Feed:
    """A recording by name or folder; read off the event loop."""
    return await asyncio.to_thread(open_recorded, where)


@lru_cache(maxsize=1)
def code_identity() -> str:
    """SHA-256 over the product's own source files, by name and content."""
    seen = hashlib.sha256()
    for package in PACKAGES:
        root = Path(str(resources.files(package)))
        for path in sorted(p for p in root.rglob("*") if p.suffix in {".py", ".yaml"}):
            seen.update(f"{package}/{path.relative_to(root).as_posix()}".encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()


async def run_paper(plan: Plan, bus: Bus, stage: Callable[[str], None] = lambda _: None) -> RunResult:
    """Trade a recording on paper: the agent, then the baselines and the arms of the ladder on the same decisions."""
    stage("reading the recording")
    feed = await open_feed(plan.data)
    async with open_store(database_url(plan.config)) as store:
        stage("loading the model")
        async with open_engine(plan.config) as engine:
            world = World(plan, feed, store, bus)
            primed = engine.usage
            stage("trading")
            run, ticks, log, halted = await world.agent(engine)
            used = engine.usage
            stage("running the baselines")
            baselines = [(s, await world.baseline(s)) for s in BASELINES]
            stage("climbing the evidence ladder")
            arms = await _arms(world, run, engine)
    spent = Usage(
        used.prompt - primed.prompt, used.cached - primed.cached, used.generated - primed.generated, used.calls
    )
    return RunResult(
        run, log.appended, log.compared, tuple(ticks), engine.identity, spent, halted, tuple(baselines), tuple(arms)
    )


@dataclass(frozen=True, slots=True)
class World:
    """One recording, one store, and the runs that are made of them."""

    plan: Plan
    feed: Feed
    store: Store
    bus: Bus

    async def agent(self, engine: Engine) -> tuple[Run, list[float], RunLog, str]:
        """The agent's run: resumed where it stopped, or recomputed and compared where it had ended."""
        run = await self._begin("agent", digest(engine.identity))
        log = self.store.log(run.id)
        clock = self._clock()
        desk = self._desk(log, clock, run.id, self.bus)
        memory = self._memory()
        settings = self.plan.config.settings(counted_in_tokens=True)
        ports = Ports(clock, self.feed, memory, RecordingEngine(engine), desk, self.bus, settings)
        trader = AgentTrader(ports)
        await self._play(trader, desk, clock, memory)
        return await self._end(run, log, desk, clock), trader.ticks, log, desk.halted

    async def baseline(self, strategy: Strategy) -> Run:
        """A strategy's run on the same windows through an exchange of its own."""
        run = await self._begin(f"baseline:{strategy.name}", digest(plain(strategy)))
        log = self.store.log(run.id)
        clock = ManualClock(self._schedule().first())
        desk = self._desk(log, clock, run.id, LocalBus())
        await self._play(StrategyTrader(strategy, desk), desk, clock, self._memory())
        return await self._end(run, log, desk, clock)

    async def _begin(self, label: str, model: str) -> Run:
        scope: Json = {"config": self.plan.config.identity(), "cycles": self.plan.cycles}
        identity = RunIdentity(self.feed.info.fingerprint, digest(scope), code_identity(), model, label)
        manifest: dict[str, Json] = {
            "data": self.feed.info.name,
            "notes": list(self.feed.info.notes),
            "has_reference": self.feed.info.has_reference,
            "config": scope,
            "cash": micro(self.plan.config.trading.cash),
        }
        return await self.store.begin_run(identity, manifest, WallClock().now())

    def _schedule(self) -> Schedule:
        info = self.feed.info
        if info.begins is None:
            raise DataInvalid(f"{info.name} holds no recorded books.", next_step="Choose another --feed.")
        offset = timedelta(seconds=self.plan.config.trading.offset)
        return Schedule(info.begins, info.ends, offset=offset, cycles=self.plan.cycles)

    def _memory(self) -> Memory:
        offset = self.plan.config.trading.offset
        source = digest([self.feed.info.fingerprint, code_identity(), offset])
        return Memory(self.store, self.feed, source)

    def _clock(self) -> Clock:
        start = self._schedule().first()
        return ManualClock(start) if self.plan.speed is None else PacedClock(start, self.plan.speed)

    def _desk(self, log: RunLog, clock: Clock, run_id: str, bus: Bus) -> Desk:
        venue, network = self.plan.config.delay()
        exchange = PaperExchange(
            self.feed,
            clock,
            cash=micro(self.plan.config.trading.cash),
            venue_delay=venue,
            network_delay=network,
            fees=charged,
            run=run_id,
        )
        return Desk(RiskLimited(exchange, self.plan.config.risk_limits()), log, bus)

    async def _play(self, trader: Trader, desk: Desk, clock: Clock, memory: Memory) -> None:
        await Session(clock, self.feed, trader, desk, memory, self._schedule()).run()

    async def _end(self, run: Run, log: RunLog, desk: Desk, clock: Clock) -> Run:
        """Close the run, once the exchange's account agrees with the run's own records."""
        account = await desk.account()
        fills, settlements = await self.store.fills(run.id), await self.store.settlements(run.id)
        expected = balance(micro(self.plan.config.trading.cash), fills, settlements)
        if account.cash != expected:
            raise LedgerMismatch(
                f"the exchange holds {account.cash} micro-dollars where the records say {expected}.",
                next_step="Keep the database and read `edgeclaw log verify`.",
            )
        held = {f"{m}/{o}": size for (m, o), size in sorted(account.holdings.items())}
        unknown = sorted(desk.working)
        body: dict[str, Json] = {"cash": account.cash, "holdings": held, "unknown": unknown, "halted": desk.halted}
        await log.end(clock.now(), body)
        return await self.store.run(run.id) or run


async def _arms(world: World, run: Run, engine: Engine) -> list[Arm]:
    """Rungs that need their own search: the model without a tree, and a tree of random legal claims."""
    settings = world.plan.config.settings(counted_in_tokens=True)
    lone = Policy.named(
        "greedy", depth=settings.policy.depth, branching=1, width=1, max_nodes=settings.policy.max_nodes
    )
    random = ScriptedEngine(seed=PLACEBO_SEED, name="placebo")
    await random.prime(prompts.static())
    bare = replace(settings, policy=lone, frugal=False, answer_tokens=0)
    records = await world.store.records(run.id, RecordKind.DECISION)
    greedy, placebo = Gathering("model greedy", "search"), Gathering("placebo: random", "search")
    for record in records:
        greedy.add(record.key, await rethink(world.store, record, engine, bare))
        placebo.add(record.key, await rethink(world.store, record, random, replace(settings, answer_tokens=0)))
    return [greedy.arm(), placebo.arm()]
