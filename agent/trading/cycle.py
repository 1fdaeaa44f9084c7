"""One cycle, top to bottom: observe, think (gate, search, correct, believe, decide), remember, act, tell.

The one code path of live, paper and backtest. The decision is remembered before anything is done about it, so that
an order in the log always has the decision it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.decision.budget import Electricity
from agent.decision.decide import Decision
from agent.decision.inputs import Inputs, Settings, identify
from agent.decision.record import record_of
from agent.learning.market_history import Memory
from agent.llm.recorded import RecordingEngine
from agent.llm.together import SharedEngine
from agent.replay.answer_cache import AnswerCache, decide_or_recall
from agent.trading.bus import Bus
from agent.trading.execution import Execution
from market.clock import Clock, monotonic
from market.errors import CycleSkipped, Transient
from market.events import DecisionMade
from market.feed import Feed
from market.fees import charged
from market.types import Ack, Book, Market, Outcome
from strategies.features import features

SPAN = timedelta(minutes=10)
"""How much of a market's recent past is kept at each cycle: twice what features look back on, however far apart the
cycles are. The rest of a window is kept with its outcome."""


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a cycle touches. `electricity` is None where tokens alone are counted, `recall` where answers are never
    taken from the log, `together` where markets are thought about one at a time."""

    clock: Clock
    feed: Feed
    memory: Memory
    engine: RecordingEngine
    execution: Execution
    bus: Bus
    settings: Settings
    electricity: Electricity | None = None
    recall: AnswerCache | None = None
    together: SharedEngine | None = None

    def old(self, book: Book) -> bool:
        """Whether what a book offers may be gone by now."""
        return (self.clock.now() - book.received_at).total_seconds() > self.settings.max_age


@dataclass(frozen=True, slots=True)
class CommittedDecision:
    """A remembered decision. `acted` says whether an order was handed to the desk, and `ack` is the venue's answer to
    it, None where none came; `milliseconds` is how long the cycle took."""

    id: str
    decision: Decision
    acted: bool = False
    ack: Ack | None = None
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PendingDecision:
    """A decision that nobody knows of yet, and the engine that recorded its answers."""

    decision: Decision
    engine: RecordingEngine
    timings: Mapping[str, float]
    begun: float


async def consider(ports: Ports, market: Market, as_of: datetime, blocked: str = "") -> PendingDecision:
    """Observe and think, once about one market at `as_of`: nothing is written down but prices, and nothing is ordered.
    `blocked` is a reason not to trade, recorded with the decision."""
    begun = monotonic()
    blocked = blocked or ("halted" if ports.execution.halted else ports.execution.inhibitor.reason(as_of))
    try:
        inputs = await observe(ports, market, as_of, blocked)
    except CycleSkipped as skipped:
        inputs = unseen(ports, market, as_of, skipped.reason)
    except Transient:
        inputs = unseen(ports, market, as_of, "feed_unavailable")
    observed = monotonic()
    decision = await decide_or_recall(
        inputs, ports.engine, ports.memory.store, electricity=ports.electricity, recall=ports.recall
    )
    decided = monotonic()
    timings = {"observe": (observed - begun) * 1e3, "think": (decided - observed) * 1e3, **decision.budget.timings()}
    return PendingDecision(decision, ports.engine, timings, begun)


async def conclude(ports: Ports, made: PendingDecision) -> CommittedDecision:
    """Remember a decision, and act on it."""
    inputs = made.decision.inputs
    decision_id = identify(ports.execution.log.run_id, inputs.market.id, inputs.as_of)
    await ports.execution.log.decision(record_of(decision_id, made.decision, made.engine.take(), made.timings))
    done = await act(ports, CommittedDecision(decision_id, made.decision))
    return replace(done, milliseconds=(monotonic() - made.begun) * 1e3)


async def act(ports: Ports, decided: CommittedDecision) -> CommittedDecision:
    """Order what was wished for, unless the book it was wished on grew old in the thinking, or the account is not what
    it was, because another market of the slot has ordered: then the belief stands, and the next book decides."""
    intent, view = decided.decision.intent, decided.decision.inputs.view()
    if intent is None or view is None or ports.old(view.book) or await _moved(ports, decided.decision.inputs):
        return decided
    return replace(decided, acted=True, ack=await ports.execution.act(intent, view, decided.id, 0))


async def _moved(ports: Ports, inputs: Inputs) -> bool:
    """Whether the account is another one than the decision saw."""
    account, market = await ports.execution.account(), inputs.market.id
    now = (
        account.free,
        account.held(market, Outcome.YES),
        account.held(market, Outcome.NO),
        ports.execution.at_risk(market),
    )
    return now != (inputs.cash, inputs.held_yes, inputs.held_no, inputs.at_risk)


async def observe(ports: Ports, market: Market, as_of: datetime, blocked: str) -> Inputs:
    """Record what the market did, and gather all that the decision may depend on."""
    memory, settings = ports.memory, ports.settings
    await memory.record(market, as_of, SPAN)
    left = int((market.closes_at - as_of).total_seconds())
    bars = await memory.recent(market, as_of)
    account = await ports.execution.account()
    return Inputs(
        market=market,
        as_of=as_of,
        source=memory.source,
        book=await ports.feed.book(market.id, as_of),
        features=features(bars, left, market.seconds, await memory.reference(market, as_of)),
        fees=charged(market, as_of),
        cash=account.free,
        held_yes=account.held(market.id, Outcome.YES),
        held_no=account.held(market.id, Outcome.NO),
        at_risk=ports.execution.at_risk(market.id),
        windows=await memory.windows(market, as_of, (left - settings.band, left + settings.band), settings),
        blocked=blocked,
        settings=settings,
        learned=memory.learner.learned(as_of),
    )


def unseen(ports: Ports, market: Market, as_of: datetime, reason: str) -> Inputs:
    """Inputs of a cycle in which nothing could be seen: the decision says why and nothing else."""
    fees, memory = charged(market, as_of), ports.memory
    learned = memory.learner.learned(as_of)
    return Inputs(
        market=market,
        as_of=as_of,
        source=memory.source,
        book=None,
        features=None,
        fees=fees,
        cash=0,
        held_yes=0,
        held_no=0,
        at_risk=0,
        windows=0,
        blocked=reason,
        settings=ports.settings,
        learned=learned,
    )


def publish(bus: Bus, decided: CommittedDecision) -> None:
    """Publish the decision to whoever watches, once it is on disk."""
    decision = decided.decision
    inputs = decision.inputs
    bus.publish(
        DecisionMade(
            at=inputs.as_of,
            decision_id=decided.id,
            market_id=inputs.market.id,
            slug=inputs.market.slug,
            closes_at=inputs.market.closes_at,
            action=decision.action,
            reason=decision.reason,
            bid=inputs.book.best_bid if inputs.book else None,
            ask=inputs.book.best_ask if inputs.book else None,
            mid=decision.mid,
            probability=decision.probability,
            phase_tokens=tuple((r.phase.value, r.prompt + r.generated) for r in decision.ledger),
            phase_seconds=tuple((r.phase.value, r.milliseconds / 1e3) for r in decision.ledger),
            dollars=decision.budget.dollars,
            milliseconds=decided.milliseconds,
        )
    )
