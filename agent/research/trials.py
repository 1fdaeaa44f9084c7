"""Trials of settings on decisions of the log: the store's records, an engine on this machine, one half at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.app.engines import open_electricity, open_engine
from agent.app.settings import decision_settings
from agent.config.places import own_hosts
from agent.config.renamed import with_present_names
from agent.config.schema import Config
from agent.decision.budget import Electricity
from agent.decision.decide import Decision
from agent.host.egress import confined
from agent.llm.engine import Engine
from agent.llm.recorded import RecordingEngine
from agent.replay.ablations import history_of
from agent.replay.replay import rethink
from agent.research.optimising import KNOBS, Aim, Optimised, Optimiser, Target
from market.errors import NotReady
from storage.decisions import RecordedDecision
from storage.records import Record, RecordKind, Run
from storage.store import Store

FEWEST = 4
"""Minimum number of windows with a known outcome: half of them choose, the other half confirms."""
_THREADS = 4
"""Upper limit of `edge.threads: 0`."""
Ended = tuple[Record, float]
"""A decision, and the payout of YES."""


@dataclass(slots=True)
class Bench:
    """Engines, one open at a time, and the decisions they are tried on."""

    store: Store
    run: Run
    halves: tuple[Sequence[Ended], Sequence[Ended]]
    electricity: Electricity | None
    stack: AsyncExitStack
    _open: tuple[object, Engine] | None = field(default=None)

    async def trial(self, config: Config, kept_back: bool) -> Sequence[tuple[Decision, float]]:
        """Make one half of the decisions again with a configuration."""
        recorder = RecordingEngine(await self._engine(config))
        settings, history = (
            decision_settings(config, counted_in_tokens=True),
            history_of(self.run.identity.label, self.store),
        )
        found = []
        for record, paid in self.halves[kept_back]:
            decision = await rethink(
                self.store, record, recorder, lambda _: settings, history, electricity=self.electricity
            )
            # Discards the recorded calls, which would pile up: trials are not logged.
            recorder.take()
            found.append((decision, paid))
        return found

    async def _engine(self, config: Config) -> Engine:
        """The engine of a configuration; the open one if none of its settings differ."""
        edge = config.edge
        named = (edge.runtime, edge.model, edge.precision, edge.threads, edge.library)
        if self._open is None or self._open[0] != named:
            await self.stack.aclose()
            self._open = named, await self.stack.enter_async_context(open_engine(config))
        return self._open[1]


async def optimised(
    store: Store, run: Run, config: Config, aim: Aim, cores: int, heard: Callable[[int], None]
) -> Optimised:
    """Run the search over a run's decisions. Raises NotReady where too few of them have an outcome."""
    halves = parted(await _ended(store, run))
    with confined(own_hosts(config)):
        async with _bench(store, run, halves, config) as bench:
            if aim.target is Target.ENERGY and bench.electricity is None:
                raise NotReady("energy cannot be measured here.", next_step="Set edge.cost.watts, or aim at cost.")
            return await Optimiser(config, aim, bench.trial, knobs(config, aim.target, cores), heard).run()


@asynccontextmanager
async def _bench(
    store: Store, run: Run, halves: tuple[Sequence[Ended], Sequence[Ended]], config: Config
) -> AsyncIterator[Bench]:
    async with open_electricity(config) as (electricity, _), AsyncExitStack() as stack:
        yield Bench(store, run, halves, electricity, stack)


async def _ended(store: Store, run: Run) -> list[Ended]:
    """Decisions of a run in markets with a known payout."""
    paid = {r.market_id: float(r.payout) for r in await store.outcomes(run.id) if r.payout is not None}
    records = await store.records(run.id, RecordKind.DECISION)
    return [(record, paid[market]) for record in records if (market := _market(record)) in paid]


def parted(ended: Sequence[Ended]) -> tuple[Sequence[Ended], Sequence[Ended]]:
    """Decisions of every other window, and of the windows between. Raises NotReady where there are too few."""
    windows = list(dict.fromkeys(_market(record) for record, _ in ended))
    if len(windows) < FEWEST:
        raise NotReady(
            f"only {len(windows)} of the run's markets have an outcome, and {FEWEST} are needed.",
            next_step="Continue the run, or name another: --run ID",
        )
    # Alternating, not first and second half: both parts see the same market conditions.
    first = set(windows[::2])
    return [e for e in ended if _market(e[0]) in first], [e for e in ended if _market(e[0]) not in first]


def _market(record: Record) -> str:
    return RecordedDecision.of(record).market.id


def knobs(config: Config, target: Target, cores: int) -> dict[str, Sequence[Any]]:
    """Keys to search for a target. Threads and precision change no token count, so they are only searched where time or
    energy is the target."""
    found: dict[str, Sequence[Any]] = dict(KNOBS)
    if target not in (Target.LATENCY, Target.ENERGY):
        return found
    now, usual = config.edge.threads, min(_THREADS, cores)
    found["edge.threads"] = [now, *(n for n in (1, 2, 4, 8) if n <= cores and n != (now or usual))]
    if config.edge.runtime == "openvino":
        found["edge.precision"] = ("f32", "int8", "bf16")
    return found


def other_settings(run: Run, config: Config) -> bool:
    """True if a run was made with settings that differ from this configuration."""
    scope: Any = run.about.config
    # A run of the version before has the former names of settings in it, and is not of other settings for that.
    return bool(with_present_names(scope["config"], told=False) != config.identity())
