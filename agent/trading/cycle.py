"""One cycle, top to bottom: observe, decide (gate, search, correct, believe), record, act, publish.

The one code path of live, paper and backtest. A decision is recorded before it is acted on, so that an order in the log
always has the decision it came from.
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
"""Span of recent bars that each cycle stores: twice what features look back on, however far apart the
cycles are. The rest of a window is stored with its outcome."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Dependencies of a cycle. `electricity` is None where tokens alone are counted, `recall` where answers are never
    taken from the log, `together` where markets are decided one at a time."""

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
        """True if a book is older than `max_age`, so that its quotes may be gone."""
        return (self.clock.now() - book.received_at).total_seconds() > self.settings.max_age


@dataclass(frozen=True, slots=True)
class CommittedDecision:
    """A recorded decision. `acted` is True if an order was handed to execution, `ack` is the venue's answer to it, None
    where none came; `milliseconds` is the duration of the cycle."""

    id: str
    decision: Decision
    acted: bool = False
    ack: Ack | None = None
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PendingDecision:
    """A decision that is not recorded yet, and the engine that recorded its answers."""

    decision: Decision
    engine: RecordingEngine
    timings: Mapping[str, float]
    begun: float


async def consider(ports: Ports, market: Market, as_of: datetime, blocked: str = "") -> PendingDecision:
    """Observe one market at `as_of` and decide: nothing is written but prices, and nothing is ordered. `blocked` is a
    reason not to trade, recorded with the decision."""
    begun = monotonic()
    blocked = blocked or ("halted" if ports.execution.halted else ports.execution.inhibitor.reason(as_of))
    try:
        inputs = await observe(ports, market, as_of, blocked)
    except CycleSkipped as skipped:
        inputs = unseen(ports, market, as_of, skipped.reason)
    except Transient as error:
        ports.execution.incidents.note("unseen", error)
        inputs = unseen(ports, market, as_of, "feed_unavailable")
    observed = monotonic()
    decision = await decide_or_recall(
        inputs, ports.engine, ports.memory.store, electricity=ports.electricity, recall=ports.recall
    )
    decided = monotonic()
    timings = {"observe": (observed - begun) * 1e3, "think": (decided - observed) * 1e3, **decision.budget.timings()}
    return PendingDecision(decision, ports.engine, timings, begun)


async def conclude(ports: Ports, made: PendingDecision) -> CommittedDecision:
    """Record a decision, then act on it."""
    inputs = made.decision.inputs
    decision_id = identify(ports.execution.log.run_id, inputs.market.id, inputs.as_of)
    await ports.execution.log.decision(record_of(decision_id, made.decision, made.engine.take(), made.timings))
    # After the record is written: a crash in between leaves a decision without an order, never the reverse.
    done = await act(ports, CommittedDecision(decision_id, made.decision))
    return replace(done, milliseconds=(monotonic() - made.begun) * 1e3)


async def act(ports: Ports, decided: CommittedDecision) -> CommittedDecision:
    """Send the decision's order. Skipped if the book is older than `max_age` by now, or if cash or holdings changed
    since the inputs were taken (another market of this slot traded first): the belief stays active, and the next book
    update decides again."""
    intent, view = decided.decision.intent, decided.decision.inputs.view()
    if intent is None or view is None or ports.old(view.book) or await _moved(ports, decided.decision.inputs):
        return decided
    return replace(decided, acted=True, ack=await ports.execution.act(intent, view, decided.id, 0))


async def _moved(ports: Ports, inputs: Inputs) -> bool:
    """True if the account differs from the one that the decision saw."""
    account, market = await ports.execution.account(), inputs.market.id
    now = (
        account.free,
        account.held(market, Outcome.YES),
        account.held(market, Outcome.NO),
        ports.execution.at_risk(market),
    )
    return now != (inputs.cash, inputs.held_yes, inputs.held_no, inputs.at_risk)


async def observe(ports: Ports, market: Market, as_of: datetime, blocked: str) -> Inputs:
    """Store the market's latest bars, and gather the inputs of a decision."""
    memory, settings = ports.memory, ports.settings
    # First, because the features read these bars back from the store.
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
    """Inputs of a cycle without market data: the decision records the reason alone."""
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
    """Publish a decision to observers, once it is on disk."""
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
