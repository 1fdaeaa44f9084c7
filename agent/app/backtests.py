"""Backtests and trials: any strategies over a recording."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from tempfile import TemporaryDirectory

from agent.app.engines import open_electricity, open_engine, slow_load
from agent.app.identity import strategy_identity
from agent.app.recorded import PaperPlan, ReplayWorld, World
from agent.app.recordings import open_recording
from agent.app.traders import BASELINES
from agent.config.places import database_url, own_hosts
from agent.config.schema import Config
from agent.host.egress import confined
from agent.install import read_until
from agent.replay.ablations import ARMS
from agent.replay.answer_cache import AnswerCache
from agent.trading.bus import Bus, LocalBus
from backtest.replay import ReplayFeed
from backtest.sources import open_recorded
from market.errors import DataInvalid, Misconfigured, StrategyFailed
from market.feed import PricedFeed
from market.types import Market, Micro
from storage.records import Run
from storage.store import Store, open_store
from strategies.base import Strategy
from strategies.baselines import Diffusion, Threshold

STRATEGIES: tuple[Strategy, ...] = (*BASELINES, Diffusion(), Threshold())
"""Strategies that a backtest knows by name, besides the agent."""
STRATEGY_GROUP = "edgeclaw.strategies"


@dataclass(frozen=True, slots=True)
class BacktestPlan:
    """A backtest as asked for: strategies, the agent among them or not, and a recording. `include_read` keeps markets
    whose end the agent's model may have read about."""

    config: Config
    data: str
    strategies: tuple[str, ...]
    cycles: int | None = None
    include_read: bool = False


@dataclass(frozen=True, slots=True)
class Backtested:
    """`runs` by strategy, and of those that broke off why; `recalled` counts the tokens of answers that were taken from
    the log."""

    feed: ReplayFeed
    runs: Mapping[str, Run]
    failed: Mapping[str, str]
    recalled: int = 0


def strategies() -> dict[str, Strategy]:
    """Every strategy by name: the product's own, and those that installed packages offer as `edgeclaw.strategies`."""
    known = {s.name: s for s in STRATEGIES}
    for offer in entry_points(group=STRATEGY_GROUP):
        try:
            made = offer.load()
            strategy: Strategy = made() if callable(made) else made
            # The interface is tried now, so that a broken package is named here and not in the middle of a run.
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
        feed = unread(await open_recording(plan.data), plan)
        async with open_store(database_url(plan.config)) as store:
            recalls: list[AnswerCache] = []
            world = World(PaperPlan(plan.config, plan.data, None, plan.cycles), feed, store, bus, recalls=recalls)
            for name in plan.strategies:
                stage(f"trading: {name}")
                try:
                    runs[name] = await _strategy(world, name, stage)
                except StrategyFailed as error:
                    failed[name] = error.sentence()
    return Backtested(feed, runs, failed, sum(recall.spared.charged for recall in recalls))


def unread(feed: ReplayFeed, plan: BacktestPlan) -> ReplayFeed:
    """Without the markets of which the agent's model may have read how they ended. Raises DataInvalid where none are
    left."""
    edge = plan.config.edge
    known = edge.knowledge_cutoff or read_until(edge.model)
    if "agent" not in plan.strategies or plan.include_read or known is None or edge.runtime == "scripted":
        return feed
    later = [r.market.id for r in feed.recordings if r.market.opens_at.date() > known]
    left_out = len(feed.recordings) - len(later)
    if not left_out:
        return feed
    said = f"the model may have read about what happened until {known.isoformat()}"
    if not later:
        raise DataInvalid(
            f"{said}, which is later than every market here.", next_step="Add --include-read to include it."
        )
    return feed.only(later, f"Left out: {left_out} of {len(feed.recordings)} markets, since {said}.")


@asynccontextmanager
async def once(plan: BacktestPlan, name: str, feed: PricedFeed | None = None) -> AsyncIterator[tuple[Store, Run]]:
    """One strategy over the plan's data, or another feed, in a store that is thrown away. Raises StrategyFailed."""
    with TemporaryDirectory() as place, confined(own_hosts(plan.config)):
        feed = feed or await open_recording(plan.data)
        async with open_store(f"sqlite:///{place}/once.db") as store:
            world = World(PaperPlan(plan.config, plan.data, None, plan.cycles), feed, store, LocalBus())
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
        """Profit of a strategy in each of these markets that it trades, as if there were no others."""
        plan = PaperPlan(self.config, self.feed.info.name)
        return await ReplayWorld(plan, self.feed.only(market_ids)).profits(strategy)


def rehearsal(config: Config, data: str) -> Rehearsal:
    """Reads the recording. Raises DataInvalid, NotReady."""
    return Rehearsal(config, open_recorded(data))
