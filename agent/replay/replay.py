"""Replay: makes a recorded decision again, with its recorded answers (replay) or with another engine (an ablation).

Needs the record and the history as of then; no feed, no exchange, and for a replay no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from agent.decision.analogs import History
from agent.decision.budget import Electricity
from agent.decision.decide import Decision, make_decision
from agent.decision.inputs import Inputs, Settings
from agent.decision.record import inputs_of, recorded_calls, written
from agent.llm.engine import Capabilities, Engine, ModelIdentity
from agent.llm.recorded import RecordingEngine, ReplayEngine
from agent.replay.answer_cache import AnswerCache, decide_or_recall
from market.errors import Drift
from storage.canonical import Json, plain
from storage.decisions import RecordedDecision, thought_of
from storage.projections import RecordedOrder
from storage.records import Record, RecordKind
from storage.store import Store
from strategies.base import View
from strategies.edge import decide

_VIEW = TypeAdapter(View)
_NO_MODEL = ModelIdentity("recorded", "recorded", "")
_RECORDED = Capabilities(score=True, bit_exact=True, abort=False, context=0)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Differences between record and replay as plain lines; none means reproduced to the byte."""

    decision_id: str
    differences: tuple[str, ...]


async def replay(store: Store, record: Record, history: History) -> ReplayResult:
    """Reproduce a decision from its recorded answers and stop points, and the history that its run read."""
    inputs = await inputs_of(store, record)
    engine = ReplayEngine(await recorded_calls(store, record), _NO_MODEL, _RECORDED)
    try:
        again = await make_decision(inputs, engine, history, stops=dict(RecordedDecision.of(record).stops))
    except Drift as drift:
        return ReplayResult(record.key, (str(drift),))
    found = differences(thought_of(record), written(again).body)
    for intent in await store.records(record.run_id, RecordKind.INTENT):
        if (order := RecordedOrder.of(intent)).decision_id == record.key:
            found += await _reorder(store, again, order)
    return ReplayResult(record.key, tuple(found))


async def regenerate(store: Store, record: Record, engine: Engine, history: History) -> ReplayResult:
    """Ask the model again with the recorded inputs and stop points; its answers must equal the recorded ones."""
    inputs, recorder = await inputs_of(store, record), RecordingEngine(engine)
    again = await make_decision(inputs, recorder, history, stops=dict(RecordedDecision.of(record).stops))
    was, now = await recorded_calls(store, record), recorder.take()
    found = [f"{len(was)} questions were asked, {len(now)} are now"] if len(was) != len(now) else []
    for number, (before, after) in enumerate(zip(was, now, strict=False)):
        if before.key != after.key:
            found.append(f"question {number}: another one is asked ({before.kind}, then {after.kind})")
            break  # the ones that follow depend on it
        found += differences(before.result, after.result, f"answer {number}")
    return ReplayResult(record.key, (*found, *differences(thought_of(record), written(again).body)))


async def _reorder(store: Store, decision: Decision, placed: RecordedOrder) -> list[str]:
    """Decide again on the view that an order was placed on, at the cycle or later on the hot path."""
    kept, signed = await store.object(placed.view), placed.signed
    if kept is None or decision.forecast is None:
        return [f"order {signed.id}: what was seen when it was placed is missing"]
    settings = decision.inputs.settings
    view = _VIEW.validate_python(json.loads(kept.text))
    intent, reason = decide(view, decision.forecast.belief, settings.rule, settings.sizing)
    if intent is None:
        return [f"order {signed.id}: was placed, is not: {reason}"]
    names = ("outcome", "side", "price", "size", "tif")
    was, now = (plain({n: getattr(order, n) for n in names}) for order in (signed.order, intent))
    return differences(was, now, f"order {signed.id}")


async def rethink(
    store: Store,
    record: Record,
    engine: RecordingEngine,
    settings: Callable[[Inputs], Settings],
    history: History,
    *,
    electricity: Electricity | None = None,
    recall: AnswerCache | None = None,
) -> Decision:
    """Decide on recorded inputs with another engine, other settings or another history."""
    inputs = await inputs_of(store, record)
    inputs = replace(inputs, settings=settings(inputs))
    return await decide_or_recall(inputs, engine, history, electricity=electricity, recall=recall)


def differences(was: Json, now: Json, where: str = "") -> list[str]:
    """Every place where two JSON values differ, as "path: was X, is Y"."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        keys = sorted({*was, *now})
        return [d for k in keys for d in differences(was.get(k), now.get(k), f"{where}.{k}" if where else k)]
    if isinstance(was, list | tuple) and isinstance(now, list | tuple) and len(was) == len(now):
        return [d for i, (a, b) in enumerate(zip(was, now, strict=True)) for d in differences(a, b, f"{where}[{i}]")]
    return [] if was == now else [f"{where}: was {_short(was)}, is {_short(now)}"]


def _short(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
