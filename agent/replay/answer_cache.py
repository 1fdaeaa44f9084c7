"""Answer cache: model answers are read from the log where the same model has given them before.

A decision's answers are stored with it. Where an earlier run of the same kind decided on the same market at the same
instant, its conversation is replayed question by question; if one question differs, all are asked of the model again,
so that the charged cost never depends on the log's content.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agent.decision.analogs import History
from agent.decision.budget import Electricity
from agent.decision.decide import Decision, make_decision
from agent.decision.inputs import Inputs, identify
from agent.decision.record import recorded_calls
from agent.llm.engine import Usage
from agent.llm.recorded import InOrder, RecordedCall, RecordingEngine
from market.errors import Drift
from storage.records import RecordKind
from storage.store import Store

_LOOKED_THROUGH = 3
"""Number of earlier runs searched for a decision."""


@dataclass(slots=True)
class AnswerCache:
    """Runs to search, of one label and one model, newest first. `spared` sums the usage that was not spent again."""

    store: Store
    runs: Sequence[str]
    spared: Usage = field(default_factory=Usage)

    async def conversation(self, inputs: Inputs) -> tuple[RecordedCall, ...]:
        """The newest conversation on this market at this instant; empty if there is none, or if the model failed in
        it."""
        for run_id in self.runs:
            key = identify(run_id, inputs.market.id, inputs.as_of)
            record = await self.store.record(run_id, RecordKind.DECISION, key)
            if record is not None:
                calls = await recorded_calls(self.store, record)
                return () if any(call.error for call in calls) else tuple(calls)
        return ()


async def earlier_runs(store: Store, label: str, model: str) -> list[str]:
    """Runs of this label whose answers are this model's, newest first."""
    runs = [r for r in await store.runs() if r.identity.label == label and r.about.answers_by == model]
    return [r.id for r in reversed(runs)][:_LOOKED_THROUGH]


async def decide_or_recall(
    inputs: Inputs,
    engine: RecordingEngine,
    history: History,
    *,
    electricity: Electricity | None = None,
    recall: AnswerCache | None = None,
) -> Decision:
    """Decide with logged answers where they exist, else with the engine; the recorder keeps the answers either way."""
    calls = await recall.conversation(inputs) if recall is not None else ()
    if recall is not None and calls:
        known = RecordingEngine(InOrder(calls, engine.identity, engine.capabilities))
        # A question that is not in the log raises Drift; the decision is then made afresh, with nothing of the cached
        # part.
        with suppress(Drift):
            decision = await make_decision(inputs, known, history)
            engine.adopt(known.take())
            recall.spared += known.usage
            return decision
    return await make_decision(inputs, engine, history, electricity=electricity)
