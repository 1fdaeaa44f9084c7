"""Ablations: the arms of the evidence ladder that need a search of their own. Each decides again on the agent's
recorded inputs with a part removed or replaced, as a run of its own in the log, read and replayed like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.decision.analogs import History, PlaceboHistory
from agent.decision.budget import Electricity
from agent.decision.inputs import Inputs, Settings, identify
from agent.decision.record import record_of
from agent.llm.engine import Engine
from agent.llm.recorded import RecordingEngine
from agent.replay.answer_cache import AnswerCache
from agent.replay.replay import rethink
from agent.search.tree import Policy
from storage.records import Record
from storage.store import RunLog, Store

REDRAW_SEED = 20_260_928


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """An ablation. `settings` derives its settings from the agent's, `history` its view of the real one; `placebo`
    replaces the model by chance."""

    name: str
    settings: Callable[[Inputs], Settings]
    history: Callable[[History], History] = lambda real: real
    placebo: bool = False

    @property
    def label(self) -> str:
        return f"arm:{self.name}"


def _bare(inputs: Inputs) -> Settings:
    """Without history: only the model's own judgement counts."""
    return replace(inputs.settings, external=False, correct=False, frugal=False, answer_tokens=0)


def _greedy(inputs: Inputs) -> Settings:
    """Without history and without a tree."""
    s = _bare(inputs)
    lone = Policy.named("greedy", depth=s.policy.depth, branching=1, width=1, max_nodes=s.policy.max_nodes)
    return replace(s, policy=lone, self_verify=False)


def _silent(inputs: Inputs) -> Settings:
    """The agent's own search without the final sentence; no search where history is too thin for any claim to pass."""
    s = inputs.settings
    return replace(s, answer_tokens=0, shadow=s.shadow and inputs.windows >= s.rule.min_support)


ARMS = (
    ArmPlan("greedy", _greedy),
    ArmPlan("search", _bare),
    ArmPlan("redrawn", _silent, lambda real: PlaceboHistory(real, REDRAW_SEED)),
    ArmPlan("claims", _silent, placebo=True),
    ArmPlan("moves", _bare, placebo=True),
)


def history_of(label: str, store: Store) -> History:
    """The history that a run of this label read: an arm's own, or the store."""
    return next((plan.history(store) for plan in ARMS if plan.label == label), store)


async def run_arm(
    plan: ArmPlan,
    store: Store,
    decisions: Sequence[Record],
    log: RunLog,
    engine: Engine,
    electricity: Electricity | None = None,
    recall: AnswerCache | None = None,
) -> None:
    """Decide again on every recorded decision and log the result. Resumes where an earlier attempt stopped."""
    recorder = RecordingEngine(engine)
    history = plan.history(store)
    for record in decisions:
        decision = await rethink(
            store, record, recorder, plan.settings, history, electricity=electricity, recall=recall
        )
        key = identify(log.run_id, decision.inputs.market.id, decision.inputs.as_of)
        await log.decision(record_of(key, decision, recorder.take(), decision.budget.timings()))
    if decisions:
        await log.end(decisions[-1].at, {"decisions": len(decisions)})
