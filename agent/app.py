"""The composition root: the only place that knows which clock, feed, engine and exchange a run is made of."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, is_dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from importlib import resources
from importlib.metadata import entry_points
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from agent import energy, prompts
from agent.arms import ARMS, ArmPlan, run_arm
from agent.budget import Electricity
from agent.bus import Bus, LocalBus
from agent.config import Config, Edge
from agent.cost import InferenceToday
from agent.cycle import Ports
from agent.desk import Desk
from agent.egress import confined, host_of
from agent.experience import Experience
from agent.halting import Obedience, obeying
from agent.install import model_file, openvino_notes
from agent.keptlog import KeptLog
from agent.llm.engine import Engine, ModelIdentity, Usage
from agent.llm.llamacpp.context import THREADS
from agent.llm.llamacpp.engine import opened as llama_opened
from agent.llm.openvino.engine import opened as openvino_opened
from agent.llm.openvino.network import Precision
from agent.llm.recorded import RecordingEngine
from agent.llm.scripted import ScriptedEngine
from agent.memory import Forgetful, Memory, Outcomes
from agent.paths import home
from agent.promotion import promotion
from agent.recovery import Past, recall, runs_of
from agent.session import Schedule, Session, Trader
from agent.summary import balance
from agent.trader import AgentTrader, QuotingTrader, Several, StrategyTrader
from backtest.columns import Recording
from backtest.exchange import PaperExchange
from backtest.quality import Quality, quality
from backtest.recorded import gaps
from backtest.replay import ReplayFeed
from backtest.sources import open_recorded
from backtest.weather import Weather
from market.clock import Clock, ManualClock, PacedClock, ScaledClock, WallClock, monotonic
from market.errors import (
    DataInvalid,
    Halt,
    LedgerMismatch,
    Misconfigured,
    NotReady,
    StoreUnavailable,
    StrategyFailed,
    VenueUnavailable,
)
from market.feed import PricedFeed
from market.fees import charged
from market.types import UNIT, Market, Micro, micro
from storage.canonical import Json, digest, plain
from storage.records import RecordKind, Run, RunIdentity
from storage.store import RunLog, Store, open_store
from strategies.base import Strategy
from strategies.baselines import LateFavourite, MarketMid, Threshold
from strategies.quoting import JoinBest
from tools.halts import KillSwitch
from tools.limits import CostLimited, RateLimited, RiskLimited, Switched

if TYPE_CHECKING:
    from agent.live import Hands, LiveAccount
    from backtest.venue.tapes import Series
    from market.polymarket.feed import LiveFeed
    from market.polymarket.hosts import Hosts
    from market.polymarket.prices import Source

PACKAGES = ("agent", "backtest", "market", "storage", "strategies", "tools")
BASELINES: tuple[Strategy, ...] = (MarketMid(), LateFavourite())
STRATEGIES: tuple[Strategy, ...] = (*BASELINES, Threshold())
"""What a backtest knows by name, besides the agent."""
STRATEGY_GROUP = "edgeclaw.strategies"
PLACEBO_SEED = 20_260_928
Progress = Callable[[float], None] | None
_LAST_WORDS = 5.0
"""Seconds in which orders are taken back when a live run is stopped."""
_AUDITS, _AUDITS_UNTIL_PAID, _BETWEEN_AUDITS = 30, 120, timedelta(seconds=10)
MOMENT = 2.0
"""Seconds of loading before anything is said about how far it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A paper run: which recording, how fast (None is as fast as it goes), how many slots (None is all)."""

    config: Config
    data: str = "sample"
    speed: float | None = None
    cycles: int | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """What `run_paper` leaves for the summary. `energy` says how it was measured, or why not."""

    run: Run
    appended: int
    compared: int
    ticks: tuple[float, ...]
    engine: ModelIdentity
    used: Usage
    halted: str
    baselines: tuple[tuple[Strategy, Run], ...]
    energy: str = ""


def own_hosts(config: Config) -> frozenset[str]:
    """The hosts that belong to the owner: of the model server and of the database."""
    return frozenset({host_of(config.edge.remote.url), host_of(config.storage.url)}) - {""}


def database_url(config: Config) -> str:
    """Where the store is: as configured, else in the home folder."""
    return config.storage.url or f"sqlite:///{home() / 'edgeclaw.db'}"


@asynccontextmanager
async def open_engine(config: Config, progress: Progress = None) -> AsyncIterator[Engine]:
    """The engine a configuration names, primed with what every prompt begins with. `progress` hears how much of an
    embedded model is loaded, 0..1, from another thread."""
    async with _chosen(config.edge, progress) as engine:
        await engine.prime(prompts.static())
        yield engine


def _chosen(edge: Edge, progress: Progress) -> AbstractAsyncContextManager[Engine]:
    openers = {"scripted": _scripted, "openvino": _openvino, "openai": _openai, "mlc": _mlc}
    return openers[edge.runtime](edge) if edge.runtime in openers else _llamacpp(edge, progress)


@asynccontextmanager
async def _scripted(edge: Edge) -> AsyncIterator[Engine]:
    """Chance with a seed, for dry runs."""
    yield ScriptedEngine(seed=edge.seed)


def _llamacpp(edge: Edge, progress: Progress) -> AbstractAsyncContextManager[Engine]:
    """The embedded default, on a known model or the owner's own file."""
    path, known = model_file(home(), edge.model)
    return llama_opened(
        path,
        name=edge.model,
        sha256=edge.model_sha256 or known or None,
        library=edge.library,
        threads=edge.threads or THREADS,
        progress=progress,
        saved=home() / "prefixes",
    )


def _openvino(edge: Edge) -> AbstractAsyncContextManager[Engine]:
    """The accelerator engine on a model that the installer has checked."""
    path, known = model_file(home(), edge.model)
    return openvino_opened(
        path,
        name=edge.model,
        sha256=edge.model_sha256 or known or None,
        library=edge.library,
        precision=Precision(edge.precision),
        threads=edge.threads or THREADS,
        notes=openvino_notes(home()),
    )


@asynccontextmanager
async def _openai(edge: Edge) -> AsyncIterator[Engine]:
    """A server of the owner's own network."""
    _must_have_client()
    from agent.llm.openai.opening import Remote, opened

    async with opened(Remote(**edge.remote.values())) as engine:
        yield engine


@asynccontextmanager
async def _mlc(edge: Edge) -> AsyncIterator[Engine]:
    """A child process of ours where edge.mlc.python is set, else a server that runs by itself."""
    _must_have_client()
    from agent.llm.mlc.engine import Child, attached, started
    from agent.llm.openai.opening import Remote

    remote = Remote(**edge.remote.values())
    own = edge.mlc.python != ""
    async with started(remote, Child(**edge.mlc.values())) if own else attached(remote) as engine:
        yield engine


def _must_have_client() -> None:
    if find_spec("aiohttp") is None:
        raise NotReady(
            "The client for model servers is not installed.", next_step="Run: pip install 'edgeclaw[remote]'"
        )


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


@asynccontextmanager
async def open_electricity(
    config: Config, sources: energy.Sources = energy.BOX
) -> AsyncIterator[tuple[Electricity | None, energy.Found]]:
    """What measures and prices the energy of inference, or None where tokens are counted; and what was found."""
    cost = config.edge.cost
    async with energy.found(cost.basis, cost.watts, sources) as seen:
        yield Electricity(seen.meter, cost.kwh_price) if seen.meter is not None else None, seen


def weather(config: Config) -> Weather:
    """What goes wrong on the way to the paper exchange."""
    return Weather(config.trading.delay_spread, config.trading.refused)


async def open_feed(where: str) -> PricedFeed:
    """A recording by name, folder or file; read off the event loop."""
    return await asyncio.to_thread(open_recorded, where)


async def look_through(where: str) -> Quality:
    """How good a recording is; read off the event loop."""

    def look() -> Quality:
        place = Path(where).expanduser()
        return quality(open_recorded(where).recordings, gaps(place) if place.is_dir() else ())

    return await asyncio.to_thread(look)


@lru_cache(maxsize=1)
def code_identity() -> str:
    """SHA-256 over the product's own source files, by name and content."""
    seen = hashlib.sha256()
    for package in PACKAGES:
        root = Path(str(resources.files(package)))
        for path in sorted(p for p in root.rglob("*") if p.suffix in {".py", ".yaml"}):
            seen.update(f"{package}/{path.relative_to(root).as_posix()}".encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()


def strategy_identity(strategy: Strategy) -> str:
    """SHA-256 over what a strategy is set to and, where it is not the product's own, the file it is written in."""
    kind = type(strategy)
    own = kind.__module__.partition(".")[0] in PACKAGES
    source = "" if own else inspect.getsource(sys.modules[kind.__module__])
    settings = plain(strategy) if is_dataclass(strategy) else {n: repr(v) for n, v in sorted(vars(strategy).items())}
    return digest([kind.__qualname__, source, settings])


async def run_paper(plan: Plan, bus: Bus, stage: Callable[[str], None] = lambda _: None) -> RunResult:
    """Trade a recording on paper: the agent, then the baselines and the arms of the ladder on the same decisions."""
    stage("reading the recording")
    with confined(own_hosts(plan.config)):
        feed = await open_feed(plan.data)
        return await _on_paper(plan, feed, bus, stage)


async def _on_paper(plan: Plan, feed: PricedFeed, bus: Bus, stage: Callable[[str], None]) -> RunResult:
    async with open_store(database_url(plan.config)) as store:
        stage("loading the model")
        async with (
            open_engine(plan.config, slow_load(stage)) as engine,
            open_electricity(plan.config) as (electricity, measured),
        ):
            world = World(plan, feed, store, bus, electricity)
            primed = engine.usage
            stage("trading")
            run, ticks, log, halted = await world.agent(engine)
            spent = _since(engine, primed)
            stage("running the baselines")
            baselines = [(s, await world.baseline(s)) for s in BASELINES]
            for arm in ARMS:
                stage(f"climbing the evidence ladder: {arm.name}")
                await world.arm(arm, run, engine)
    return RunResult(
        run,
        log.appended,
        log.compared,
        tuple(ticks),
        engine.identity,
        spent,
        halted,
        tuple(baselines),
        measured.said,
    )


@dataclass(frozen=True, slots=True)
class BacktestPlan:
    """Which strategies to try on a recording, the agent among them or not."""

    config: Config
    data: str
    strategies: tuple[str, ...]
    cycles: int | None = None


@dataclass(frozen=True, slots=True)
class Backtested:
    """`runs` by strategy, and of those that broke off why. `truncated` is the feed as if the recording had stopped."""

    feed: PricedFeed
    truncated: Callable[[datetime], PricedFeed]
    recordings: Sequence[Recording]
    runs: Mapping[str, Run]
    failed: Mapping[str, str]


def strategies() -> dict[str, Strategy]:
    """Every strategy by name: the product's own, and those that installed packages offer as `edgeclaw.strategies`."""
    known = {s.name: s for s in STRATEGIES}
    for offer in entry_points(group=STRATEGY_GROUP):
        try:
            made = offer.load()
            strategy: Strategy = made() if callable(made) else made
            named, _, _ = strategy.name, strategy.once, strategy.decide
            strategy_identity(strategy)
        except Exception as error:
            raise Misconfigured(
                f"the strategy {offer.name} of an installed package cannot be used: {type(error).__name__}: {error}.",
                next_step=f"Correct it or uninstall {offer.dist.name if offer.dist else 'its package'}.",
            ) from error
        if named in known or named == "agent":
            raise Misconfigured(
                f"there are two strategies with the name {named}.", next_step="Rename one of them or uninstall it."
            )
        known[named] = strategy
    return known


async def run_backtest(plan: BacktestPlan, bus: Bus, stage: Callable[[str], None] = lambda _: None) -> Backtested:
    """Each strategy over the whole recording, through an exchange of its own. One that raises breaks off alone."""
    runs: dict[str, Run] = {}
    failed: dict[str, str] = {}
    stage("reading the recording")
    with confined(own_hosts(plan.config)):
        feed = await asyncio.to_thread(open_recorded, plan.data)
        async with open_store(database_url(plan.config)) as store:
            world = World(Plan(plan.config, plan.data, None, plan.cycles), feed, store, bus)
            for name in plan.strategies:
                stage(f"trading: {name}")
                try:
                    runs[name] = await _strategy(world, name, stage)
                except StrategyFailed as error:
                    failed[name] = error.sentence()
    return Backtested(feed, feed.truncated, feed.recordings, runs, failed)


@asynccontextmanager
async def once(plan: BacktestPlan, name: str, feed: PricedFeed | None = None) -> AsyncIterator[tuple[Store, Run]]:
    """One strategy over the plan's data, or another feed, in a store that is thrown away. Raises StrategyFailed."""
    with TemporaryDirectory() as place, confined(own_hosts(plan.config)):
        feed = feed or await open_feed(plan.data)
        async with open_store(f"sqlite:///{place}/once.db") as store:
            world = World(Plan(plan.config, plan.data, None, plan.cycles), feed, store, LocalBus())
            yield store, await _strategy(world, name, lambda _: None)


async def _strategy(world: World, name: str, stage: Callable[[str], None]) -> Run:
    return await (_agent(world, stage) if name == "agent" else world.baseline(strategies()[name]))


async def _agent(world: World, stage: Callable[[str], None]) -> Run:
    """The agent's run, with the arms of its ladder."""
    config = world.plan.config
    async with open_engine(config, slow_load(stage)) as engine, open_electricity(config) as (electricity, _):
        world = replace(world, electricity=electricity)
        run, *_ = await world.agent(engine)
        for arm in ARMS:
            stage(f"climbing the evidence ladder: {arm.name}")
            await world.arm(arm, run, engine)
    return run


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A recording on which strategies are tried without a trace. `markets` are those with an outcome, in order of their
    opening; `fingerprint` names the data."""

    config: Config
    feed: ReplayFeed

    @property
    def fingerprint(self) -> str:
        return self.feed.info.fingerprint

    @property
    def markets(self) -> list[Market]:
        return [r.market for r in self.feed.recordings if r.resolution is not None and r.resolution.payout is not None]

    async def profits(self, strategy: Strategy, market_ids: Collection[str]) -> dict[str, Micro]:
        """What a strategy earns in each of these markets that it trades, as if there were no others."""
        plan = Plan(self.config, self.feed.info.name)
        return await Replayed(plan, self.feed.only(market_ids)).profits(strategy)


def rehearsal(config: Config, data: str) -> Rehearsal:
    """Reads the recording. Raises DataInvalid, NotReady."""
    return Rehearsal(config, open_recorded(data))


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


QUOTERS: tuple[Strategy, ...] = (JoinBest(),)
TRADERS = ("agent", *(s.name for s in (*BASELINES, *QUOTERS)))


async def run_live(plan: LivePlan, bus: Bus, stage: Callable[[str], None] = lambda _: None) -> RunResult:
    """Trade the market as it is now, until the slots are done or it is stopped; what earlier runs left is taken on."""
    must_trade()
    from market.polymarket.hosts import Hosts

    venue = plan.config.venue
    hosts = Hosts.named(venue.loopback)
    account = _account(plan, hosts)
    with confined(own_hosts(plan.config) | hosts.names() | _price_hosts(plan, hosts) | _node_hosts(plan, hosts)):
        return await _at_venue(plan, hosts, account, bus, stage)


def _node_hosts(plan: LivePlan, hosts: Hosts) -> frozenset[str]:
    """The host of the chain's node, which winnings that are late are asked of."""
    if plan.paper:
        return frozenset()
    from agent.wallet import node_of

    return frozenset({host_of(node_of(plan.config, hosts))})


def _account(plan: LivePlan, hosts: Hosts) -> LiveAccount:
    """Whose money it is about: pretend money in this process, or a key's account at the venue."""
    from agent.keys import key_of
    from agent.live import VenueAccount
    from tools.polymarket.client import Trader as VenueTrader

    if plan.paper:
        return PaperAccount(plan.config, hosts)
    key = key_of(plan.config.venue, home())
    return VenueAccount(hosts, VenueTrader.of(key.signer(), plan.config.venue.wallet), key)


@dataclass(slots=True)
class PaperAccount:
    """Pretend money of this process, on the venue's market."""

    config: Config
    hosts: Hosts
    said: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        return f"paper at {self.hosts.clob}"

    @property
    def note(self) -> str:
        return "Pretend money; orders met the venue's books in this process."

    @property
    def real(self) -> bool:
        return False

    async def begin(self, clock: Clock) -> None:
        """Nobody has to be asked."""

    async def cash(self, clock: Clock) -> Micro:
        return micro(self.config.trading.cash)

    @asynccontextmanager
    async def opened(
        self, feed: LiveFeed, clock: Clock, past: Past, markets: Callable[[str], Market | None]
    ) -> AsyncIterator[Hands]:
        from agent.live import Hands, clocks_must_agree
        from market.polymarket.rest import reader

        venue, network = self.config.delay()
        exchange = PaperExchange(
            feed,
            clock,
            cash=past.cash,
            run=self.name,
            venue_delay=venue,
            network_delay=network,
            weather=weather(self.config),
            markets=markets,
            restored=past.fills,
            settled=past.settlements,
        )
        async with reader(self.hosts, clock) as asked:
            yield Hands(exchange, partial(clocks_must_agree, asked))


def _price_hosts(plan: LivePlan, hosts: Hosts) -> frozenset[str]:
    """The host of the reference prices, which may be another than the venue's."""
    from market.polymarket.prices import source_of

    named = plan.config.venue.reference_named(keyed=not plan.paper)
    return frozenset() if named == "none" else frozenset({host_of(source_of(named, hosts.price_stream, {}).url)})


async def _at_venue(
    plan: LivePlan, hosts: Hosts, account: LiveAccount, bus: Bus, stage: Callable[[str], None]
) -> RunResult:
    from agent.live import venue_clock

    stage("asking the venue for its time")
    clock = await venue_clock(hosts)
    async with open_store(database_url(plan.config)) as store:
        stage("loading the model")
        async with (
            open_engine(plan.config, slow_load(stage)) as engine,
            open_electricity(plan.config) as (electricity, measured),
        ):
            world = LiveWorld(plan, hosts, account, clock, store, bus, electricity, stage)
            primed = engine.usage
            run, ticks, log, halted = await world.run(engine)
            return RunResult(
                run, log.appended, log.compared, tuple(ticks), engine.identity, _since(engine, primed), halted, (),
                measured.said,
            )  # fmt: skip


def _since(engine: Engine, primed: Usage) -> Usage:
    """What was used after the engine had been primed."""
    used = engine.usage
    return Usage(
        used.prompt - primed.prompt, used.cached - primed.cached, used.generated - primed.generated, used.calls
    )


def slow_load(stage: Callable[[str], None]) -> Callable[[float], None]:
    """Says in quarters how far a load is that takes longer than a moment; hears of it from another thread."""
    loop, began, told = asyncio.get_running_loop(), monotonic(), 0

    def progress(share: float) -> None:
        nonlocal told
        quarter = int(share * 4)
        if told < quarter < 4 and monotonic() - began > MOMENT:
            told = quarter
            with suppress(RuntimeError):  # nobody listens any more
                loop.call_soon_threadsafe(stage, f"loading the model ({quarter * 25} %)")

    return progress


@dataclass(frozen=True, slots=True)
class VenuePlan:
    """A loopback venue: on which port, how fast its clock runs, and whose books it shows.

    `books` is "synthetic", or names recorded ones; `assets`, `seconds` and `seed` are of synthetic windows.
    `auto_redeem` pays winnings out by itself, half a minute after a window is resolved.
    """

    port: int = 0
    speed: float = 1.0
    books: str = "synthetic"
    assets: tuple[str, ...] = ("btc",)
    seconds: int = 300
    seed: int = 7
    faucet: bool = True
    strict_wallets: bool = False
    auto_redeem: bool = True


PLAY_MONEY = 1_000 * UNIT
_PAID_AFTER = timedelta(seconds=30)


@asynccontextmanager
async def open_venue(plan: VenuePlan) -> AsyncIterator[str]:
    """A loopback venue that runs until the block ends; gives its address."""
    must_trade()
    from backtest.venue.exchange import Pace
    from backtest.venue.server import VenueServer, served
    from backtest.venue.state import VenueState

    clock = ScaledClock(WallClock().now(), plan.speed)
    faucet = PLAY_MONEY if plan.faucet else None
    pace = Pace(paying=_PAID_AFTER if plan.auto_redeem else None)
    state = VenueState(clock, await asyncio.to_thread(_series, plan, clock), pace=pace, faucet=faucet)
    server = VenueServer(state, secrets.token_bytes(32), strict_wallets=plan.strict_wallets)
    async with served(server, plan.port) as base:
        yield base


def _series(plan: VenuePlan, clock: Clock) -> Sequence[Series]:
    from backtest.venue.tapes import Recorded, Walk

    if plan.books == "synthetic":
        walks = enumerate(dict.fromkeys(plan.assets))
        return [Walk(clock.now(), plan.seed + n, asset, plan.seconds) for n, asset in walks]
    recordings = open_recorded(plan.books).recordings
    ended = [r for r in recordings if r.resolution is not None and r.resolution.payout is not None]
    if not ended:
        raise DataInvalid(f"no window in {plan.books} has an outcome.", next_step="Choose other --books.")
    seconds = min(r.market.seconds for r in ended)
    return [Recorded([r for r in ended if r.market.seconds == seconds])]


def must_trade() -> None:
    """Raises NotReady where the libraries of live trading are not installed."""
    missing = [name for name in ("aiohttp", "coincurve", "msgspec", "polymarket", "Crypto") if find_spec(name) is None]
    if missing:
        raise NotReady("What trades at the venue is not installed.", next_step="Run: pip install 'edgeclaw[live]'")


@dataclass(frozen=True, slots=True)
class Replayed:
    """One recording, and the exchange that stands on it."""

    plan: Plan
    feed: PricedFeed

    def schedule(self) -> Schedule:
        info = self.feed.info
        if info.begins is None:
            raise DataInvalid(f"{info.name} holds no recorded books.", next_step="Choose another --feed.")
        trading = self.plan.config.trading
        schedule = Schedule(info.begins, info.ends, offset=timedelta(seconds=trading.offset), cycles=self.plan.cycles)
        if trading.cadence is not None:
            return replace(schedule, cadence=timedelta(seconds=trading.cadence))
        return replace(schedule, instants=info.instants or None)

    def desk(self, log: RunLog, clock: Clock, run_id: str, bus: Bus) -> Desk:
        venue, network = self.plan.config.delay()
        exchange = PaperExchange(
            self.feed,
            clock,
            cash=micro(self.plan.config.trading.cash),
            venue_delay=venue,
            network_delay=network,
            weather=weather(self.plan.config),
            fees=charged,
            run=run_id,
        )
        return Desk(RiskLimited(exchange, self.plan.config.risk_limits()), log, bus)

    async def play(self, trader: Trader, desk: Desk, clock: Clock, memory: Outcomes) -> None:
        await Session(clock, self.feed, trader, desk, memory, self.schedule()).run()

    async def profits(self, strategy: Strategy) -> dict[str, Micro]:
        """What a strategy earns in each market that it trades and whose outcome is known; nothing is written down."""
        log, clock = KeptLog(), ManualClock(self.schedule().first())
        desk = self.desk(log, clock, "trial", LocalBus())
        await self.play(StrategyTrader(strategy, desk), desk, clock, Forgetful())
        return log.profits()


@dataclass(frozen=True, slots=True)
class World(Replayed):
    """One recording, one store, and the runs that are made of them."""

    store: Store
    bus: Bus
    electricity: Electricity | None = None

    async def agent(self, engine: Engine) -> tuple[Run, list[float], RunLog, str]:
        """The agent's run: resumed where it stopped, or recomputed and compared where it had ended."""
        run = await self._begin("agent", digest(engine.identity))
        log = self.store.log(run.id)
        clock = self._clock()
        desk = self.desk(log, clock, run.id, self.bus)
        memory = self._memory()
        settings = self.plan.config.settings(counted_in_tokens=True)
        ports = Ports(clock, self.feed, memory, RecordingEngine(engine), desk, self.bus, settings, self.electricity)
        trader = AgentTrader(ports)
        await self.play(trader, desk, clock, memory)
        return await self._end(run, log, desk, clock), trader.ticks, log, desk.halted

    async def baseline(self, strategy: Strategy) -> Run:
        """A strategy's run on the same windows through an exchange of its own."""
        run = await self._begin(f"baseline:{strategy.name}", strategy_identity(strategy))
        log = self.store.log(run.id)
        clock = ManualClock(self.schedule().first())
        desk = self.desk(log, clock, run.id, LocalBus())
        await self.play(StrategyTrader(strategy, desk), desk, clock, Forgetful())
        return await self._end(run, log, desk, clock)

    async def arm(self, arm: ArmPlan, of: Run, engine: Engine) -> None:
        """An arm of the ladder on the agent's own decisions; one that is finished stands as it is."""
        if arm.placebo:
            engine = ScriptedEngine(seed=PLACEBO_SEED, name="placebo")
            await engine.prime(prompts.static())
        run = await self._begin(arm.label, digest([engine.identity, of.id]), of=of.id)
        if not run.finished:
            decisions = await self.store.records(of.id, RecordKind.DECISION)
            await run_arm(arm, self.store, decisions, self.store.log(run.id), engine, self.electricity)

    async def _begin(self, label: str, model: str, of: str = "") -> Run:
        scope: Json = {"config": self.plan.config.identity(), "cycles": self.plan.cycles}
        identity = RunIdentity(self.feed.info.fingerprint, digest(scope), code_identity(), model, label)
        manifest: dict[str, Json] = {
            "data": self.feed.info.name,
            "notes": list(self.feed.info.notes),
            "has_reference": self.feed.info.has_reference,
            "config": scope,
            "cash": micro(self.plan.config.trading.cash),
            "of": of,
        }
        return await self.store.begin_run(identity, manifest, WallClock().now())

    def _memory(self) -> Memory:
        trading = self.plan.config.trading
        source = digest([self.feed.info.fingerprint, code_identity(), trading.cadence, trading.offset])
        return Memory(self.store, self.feed, self.feed, source, Experience(self.plan.config.trading.shrink))

    def _clock(self) -> Clock:
        start = self.schedule().first()
        return ManualClock(start) if self.plan.speed is None else PacedClock(start, self.plan.speed)

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
    ticks: list[float] = field(default_factory=list)

    async def run(self, engine: Engine) -> tuple[Run, list[float], RunLog, str]:
        """Until the slots are done. Stopped before, all orders are taken back and the next start goes on. What must
        not go on by itself throws the kill switch."""
        switch = KillSwitch(home())
        try:
            return await self._run(engine, switch)
        except Halt as stop:
            with suppress(StoreUnavailable):
                switch.throw(str(stop), "edgeclaw", self.clock.now())
            raise

    async def _run(self, engine: Engine, switch: KillSwitch) -> tuple[Run, list[float], RunLog, str]:
        from agent.live import patiently
        from market.polymarket.feed import Watch, opened

        venue, clock = self.plan.config.venue, self.clock
        if self.account.real:
            await self._must_be_promoted()
        await patiently(lambda: self.account.begin(clock))
        run = await self._begin(engine)
        log = self.store.log(run.id)
        await log.go_on()
        past = await recall(self.store, self.account.name, run.id)
        self.stage("listening to the market")
        async with opened(self.hosts, clock, Watch(venue.watched(), venue.slugs), self._source()) as feed:
            known = past.markets
            for market in past.unsettled.values():
                feed.remember(market)
            lookup = lambda market_id: feed.market(market_id) or known.get(market_id)  # noqa: E731
            async with self.account.opened(feed, clock, past, lookup) as hands:
                self.stage("checking that all holds")
                await patiently(lambda: hands.ready(clock))
                spent = await self._inference(engine)
                desk, obedience = self._desk(hands, log, past, switch, spent)
                self.stage("taking back what was left open")
                await patiently(lambda: desk.withdraw_all(clock.now()))
                self.stage("trading")
                async with self._redeeming(hands):
                    async with obeying(obedience):
                        await self._trade(feed, desk, past, engine, log)
                    return await self._end(run, log, desk, hands), self.ticks, log, desk.halted

    def _redeeming(self, hands: Hands) -> AbstractAsyncContextManager[None]:
        """Only an account at the venue has winnings that can be late."""
        if self.plan.paper:
            return nullcontext()
        from agent.redeeming import redeeming

        return redeeming(self.plan.config, home(), hands, self.clock)

    async def _must_be_promoted(self) -> None:
        verdict = await promotion(self.store, self.plan.config.promotion_rule())
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
        from agent.live import patiently

        name = self.account.name
        earlier = await runs_of(self.store, name)
        if earlier:
            cash = int(str(earlier[0].manifest["cash"]))
        else:
            cash = await patiently(lambda: self.account.cash(self.clock))
        scope: Json = {"config": self.plan.config.identity(), "series": list(self.plan.config.venue.series)}
        manifest: dict[str, Json] = {
            "data": f"polymarket at {self.hosts.clob}",
            "notes": [self.account.note],
            "has_reference": self._reference() != "none",
            "config": scope,
            "cash": cash,
            "account": name,
            "of": "",
        }
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
        self, hands: Hands, log: RunLog, past: Past, switch: KillSwitch, spent: InferenceToday
    ) -> tuple[Desk, Obedience]:
        """The desk behind every limit, and what makes it obey the switch."""
        config, before = self.plan.config, past.exposure(switch.resumed_at())
        limited = RateLimited(hands.orders, self.clock, config.venue.orders_per_second)
        risk = RiskLimited(limited, config.risk_limits(), before)
        tool = Switched(CostLimited(risk, micro(config.risk.inference), spent.spent), switch, self.clock)
        desk = Desk(tool, log, self.bus, working=dict(before.promised), paid=dict(before.paid))
        return desk, Obedience(switch, desk, tool, self.clock, risk.forget_results)

    async def _trade(self, feed: LiveFeed, desk: Desk, past: Past, engine: Engine, log: RunLog) -> None:
        config = self.plan.config
        source = digest([feed.info.fingerprint, config.trading.cadence, config.trading.offset])
        memory = Memory(self.store, feed, feed, source, Experience(config.trading.shrink))
        settings = config.settings(counted_in_tokens=False)
        ports = Ports(self.clock, feed, memory, RecordingEngine(engine), desk, self.bus, settings, self.electricity)
        schedule = Schedule(
            self.clock.now(), None, timedelta(seconds=config.trading.cadence or 300),
            timedelta(seconds=config.trading.offset), self.plan.cycles,
        )  # fmt: skip
        trader = Several([self._trader(name, ports, past) for name in self.plan.trade_with])
        session = Session(self.clock, feed, trader, desk, memory, schedule, open=past.unsettled, told=dict(past.told))
        try:
            await session.run()
        except (asyncio.CancelledError, StrategyFailed):
            with suppress(VenueUnavailable, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await desk.withdraw_all(self.clock.now())
            raise

    def _trader(self, name: str, ports: Ports, past: Past) -> Trader:
        if name == "agent":
            trader = AgentTrader(ports)
            self.ticks = trader.ticks
            return trader
        quoting = {s.name: s for s in QUOTERS}
        if name in quoting:
            return QuotingTrader(quoting[name], ports.desk, ports.old)
        strategy = {s.name: s for s in BASELINES}[name]
        return StrategyTrader(strategy, ports.desk, ports.old, used=past.traded(name) if strategy.once else set())

    async def _end(self, run: Run, log: RunLog, desk: Desk, hands: Hands) -> Run:
        """Close the run, once nothing is open and the venue's account agrees with ours to the last unit."""
        from agent.live import patiently

        await patiently(lambda: desk.withdraw_all(self.clock.now()))
        differs = "the venue was not asked"
        for number in count(1):
            await desk.reconcile(self.clock.now())
            differs = await patiently(hands.audit)
            enough = number >= (_AUDITS if differs else _AUDITS_UNTIL_PAID)
            if enough or not (differs or hands.unpaid()):
                break
            await self.clock.wait_until(self.clock.now() + _BETWEEN_AUDITS)
        account = await desk.account()
        if not differs and account.cash != (expected := await self._remembered_cash()):
            differs = f"the account holds {account.cash} micro-dollars where the records say {expected}"
        if differs:
            raise LedgerMismatch(f"{differs}.", next_step="Keep the database and read `edgeclaw log verify`.")
        held = {f"{m}/{o}": size for (m, o), size in sorted(account.holdings.items())}
        body: dict[str, Json] = {"cash": account.cash, "holdings": held, "unknown": [], "halted": desk.halted}
        await log.end(self.clock.now(), body)
        return await self.store.run(run.id) or run

    async def _remembered_cash(self) -> Micro:
        """What the account must hold by every run's records."""
        runs = await runs_of(self.store, self.account.name)
        cash = int(str(runs[0].manifest["cash"]))
        for run in runs:
            cash = balance(cash, await self.store.fills(run.id), await self.store.settlements(run.id))
        return cash
