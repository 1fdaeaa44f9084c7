"""Thousands of random decisions with engines that fail and meters that lie: no limit is passed, nothing is lost from
the account, and every decision replays whatever a clock or a meter said.

A few hundred here; ten thousand under `make soak`.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.app.recorded import PaperPlan, World
from agent.config.load import load_config
from agent.decision.budget import Electricity
from agent.decision.decide import Decision, make_decision
from agent.decision.inputs import Inputs, Limits
from agent.decision.record import written
from agent.llm.engine import Answers, Generated, Prompt, Question, Sampling
from agent.llm.recorded import RecordedCall, RecordingEngine, ReplayEngine
from agent.llm.scripted import GREEDY, ScriptedEngine
from agent.search.tree import Policy
from agent.trading.bus import LocalBus
from backtest.replay import ReplayFeed
from market.clock import monotonic
from market.errors import EngineTimeout, EngineUnavailable
from storage.records import Phase, RecordKind
from tests.fakes import Remembered, replay
from tests.integration.test_trading import planted
from tests.profiles import examples
from tests.stores import open_store
from tests.unit.test_decide import inputs, lifted


@cache
def history() -> Remembered:
    return lifted(80)


class Faulty(ScriptedEngine):
    """Fails at the calls named: "timeout" stops one call, "gone" all from there on."""

    def __init__(self, seed: int, faults: dict[int, str]) -> None:
        super().__init__(seed=seed)
        self._faults, self._made = faults, 0

    async def classify(self, questions: Sequence[Question], *, deadline: float | None = None) -> Answers:
        self._fail()
        return await super().classify(questions, deadline=deadline)

    async def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        n: int = 1,
        sampling: Sampling = GREEDY,
        stop: str = "",
        deadline: float | None = None,
    ) -> Generated:
        self._fail()
        return await super().generate(
            prompt, max_tokens=max_tokens, n=n, sampling=sampling, stop=stop, deadline=deadline
        )

    def _fail(self) -> None:
        self._made += 1
        if self._faults.get(self._made) == "timeout":
            raise EngineTimeout("The model was stopped at its deadline.")
        if any(kind == "gone" and self._made >= at for at, kind in self._faults.items()):
            raise EngineUnavailable("The model is gone.")


@dataclass
class Erratic:
    """A meter that jumps by anything, and now and then cannot be read."""

    chance: random.Random
    largest: float
    at: float = 0.0
    source: str = "an erratic meter"

    def joules(self) -> float | None:
        self.at += self.chance.random() * self.largest
        return None if self.chance.random() < 0.05 else self.at


@dataclass
class Proportional:
    """A meter of an engine that draws the same for every token."""

    engine: ScriptedEngine
    rate: float
    source: str = "a proportional meter"

    def joules(self) -> float | None:
        return self.engine.usage.charged * self.rate


@dataclass(frozen=True)
class Case:
    """One random decision."""

    seed: int
    tokens: int
    cost: float
    nodes: int
    depth: int
    width: int
    branching: int
    seconds: float | None
    faults: dict[int, str] = field(default_factory=dict)
    self_verify: bool = True
    joules: float = 1.0

    def inputs(self) -> Inputs:
        policy = Policy.named(
            "beam", depth=self.depth, branching=self.branching, width=self.width, max_nodes=self.nodes
        )
        limits = Limits(tokens=self.tokens, seconds=self.seconds, cost=self.cost, token_price=1e-6)
        return inputs(200, policy=policy, limits=limits, self_verify=self.self_verify, frugal=False)

    def erratic(self, salt: int) -> Electricity:
        return Electricity(Erratic(random.Random(self.seed + salt), self.joules), kwh_price=0.3)

    def think(
        self, electricity: Electricity | None = None, engine: ScriptedEngine | None = None
    ) -> tuple[Decision, ScriptedEngine, tuple[RecordedCall, ...]]:
        engine = engine or Faulty(self.seed, self.faults)
        recording = RecordingEngine(engine)
        made = asyncio.run(make_decision(self.inputs(), recording, history(), electricity=electricity))
        return made, engine, recording.take()


cases = st.builds(
    Case,
    seed=st.integers(0, 10**9),
    tokens=st.sampled_from([1600, 10_000]) | st.integers(0, 2500),
    cost=st.sampled_from([0.0, 1e-5, 3e-4, 1.0]) | st.floats(0, 2e-3),
    nodes=st.integers(1, 40),
    depth=st.integers(1, 5),
    width=st.integers(1, 3),
    branching=st.integers(1, 3),
    seconds=st.sampled_from([None, None, 0.0, 0.003, 60.0, 60.0]),
    faults=st.dictionaries(st.integers(1, 15), st.sampled_from(["timeout", "gone"]), max_size=2),
    self_verify=st.booleans(),
    joules=st.sampled_from([0.0, 1.0, 500.0, 1e6]),
)


def account(case: Case) -> None:
    """One decision: within every limit, accounted to the token, and the same again from its record."""
    made, engine, calls = case.think(case.erratic(1))
    budget = made.budget
    assert budget.tokens <= case.tokens and budget.tokens * 1e-6 <= case.cost
    assert made.forecast is None or len(made.forecast.tree.visits) <= case.nodes
    rows = budget.ledger()
    booked = tuple(sum(getattr(r, name) for r in rows) for name in ("prompt", "cached", "generated", "calls"))
    used = engine.usage
    assert booked == (used.prompt, used.cached, used.generated, used.calls)
    assert sum(r.micro_usd for r in rows) == pytest.approx(budget.dollars * 1e6)
    again = asyncio.run(
        make_decision(
            case.inputs(),
            ReplayEngine(calls, engine.identity, engine.capabilities),
            history(),
            electricity=case.erratic(2),
            stops=budget.stops,
        )
    )
    assert written(again) == written(made), "a replay stops where the decision stopped"
    if case.seconds is None:
        assert budget.stops == {}
        assert written(case.think()[0]) == written(made), "nothing measured changes a thought about recorded data"


@examples(150)
@given(case=cases)
def test_no_decision_passes_a_limit_or_loses_a_token(case: Case) -> None:
    account(case)


@pytest.mark.soak
@examples(1_000)
@given(case=cases)
def test_no_decision_of_ten_thousand_passes_a_limit_or_loses_a_token(case: Case) -> None:
    account(case)


@examples(60)
@given(case=cases, rate=st.floats(1e-3, 1e3))
def test_live_no_decision_passes_the_limit_by_energy_once_the_rate_is_known(case: Case, rate: float) -> None:
    live = replace(case, seconds=60.0)
    engine = Faulty(live.seed, live.faults)
    price = 3.6e6 * 1e-6 / rate * 3  # by energy a token costs three times its token price
    electricity = Electricity(Proportional(engine, rate), price, rates=dict.fromkeys(Phase, (rate, monotonic())))
    made, _, _ = live.think(electricity, engine)
    assert made.budget.dollars == pytest.approx(3e-6 * made.budget.tokens)
    assert made.budget.dollars <= live.cost * (1 + 1e-9)


def chain(database: Path, feed: ReplayFeed, electricity: Electricity | None) -> tuple[list[str], dict[str, float]]:
    """Hashes of a run's records, and the timings that are joules."""

    async def scope() -> tuple[list[str], dict[str, float]]:
        async with open_store(f"sqlite:///{database}") as store:
            world = World(
                PaperPlan(load_config(None, {"edge.shadow_search": True}), "planted"),
                feed,
                store,
                LocalBus(),
                electricity,
            )
            run = (await world.agent(ScriptedEngine(seed=5)))[0]
            timings = await store.timings(run.id)
            joules = {f"{d}/{n}": v for d, per in timings.items() for n, v in per.items() if n.startswith("joules:")}
            decided = [r for r in await store.records(run.id) if r.kind is RecordKind.DECISION]
            assert len(decided) == len(feed.recordings)
            return [r.hash for r in await store.records(run.id)], joules

    return asyncio.run(scope())


def test_a_run_has_the_same_hashes_whatever_the_meter_reads_and_keeps_what_it_read(tmp_path: Path) -> None:
    feed = replay(*planted().recordings[:6])
    plain, nothing = chain(tmp_path / "plain.db", feed, None)
    quiet, some = chain(tmp_path / "quiet.db", feed, Electricity(Erratic(random.Random(1), 0.01), 0.3))
    loud, more = chain(tmp_path / "loud.db", feed, Electricity(Erratic(random.Random(2), 1e12), 1e6))
    assert plain == quiet == loud
    assert nothing == {} and some and more and some != more
    assert max(some.values()) < 1.0 < max(more.values())
