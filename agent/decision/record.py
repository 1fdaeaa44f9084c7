"""The record of a decision: what is written down of it, and how it is read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from agent.decision.budget import charged
from agent.decision.decide import Decision
from agent.decision.forecast import Forecast
from agent.decision.inputs import Inputs
from agent.llm.recorded import RecordedCall
from market.errors import Drift
from storage.canonical import Json, plain
from storage.records import DecisionRecord, Record, StoredObject
from storage.store import Store
from strategies.edge import best_edge
from strategies.verification import Checked


@dataclass(frozen=True, slots=True)
class Written:
    """A thought as JSON, and the objects its hashes point to."""

    body: dict[str, Json]
    objects: tuple[StoredObject, ...]


def written(decision: Decision) -> Written:
    """The part of a decision's record that a replay must reproduce."""
    inputs = StoredObject.of("inputs", decision.inputs)
    book = StoredObject.of("book", decision.inputs.book)
    nodes = _nodes(decision.forecast) if decision.forecast else []
    body: dict[str, Json] = {
        "inputs": inputs.hash,
        "book": book.hash,
        "gate": plain(decision.gate),
        "mid": decision.mid,
        "probability": decision.probability,
        "features": plain(decision.inputs.features.buckets) if decision.inputs.features else None,
        "arms": plain(decision.arms),
        "band": plain(decision.band),
        "edge": _edge(decision),
        "search": _search(decision.forecast, nodes) if decision.forecast else None,
        "tokens": charged(decision.budget.spent),
        "stops": plain(sorted(decision.budget.stops.items())) or None,
        "action": decision.action,
        "reason": decision.reason,
        "wish": plain(decision.intent),
    }
    return Written(body, (inputs, book, *nodes))


def _edge(decision: Decision) -> Json:
    """The better side of the book for the belief, traded on or not, and the fee that was counted."""
    view = decision.inputs.view()
    if view is None or decision.forecast is None:
        return None
    edge = best_edge(view, decision.forecast.belief, decision.inputs.settings.rule)
    fee = str(view.fees.per_share(edge.price)) if edge else None
    return {"best": plain(edge), "fee_per_share": fee, "fee_rate": str(view.fees.rate)}


def _search(made: Forecast, nodes: Sequence[StoredObject]) -> Json:
    return {
        "policy": made.policy,
        "stop": made.tree.stop,
        "failed": made.failed,
        "rows": made.rows,
        "read": made.read,
        "nodes": [n.hash for n in nodes],
        "picked": list(made.picked),
        "path": [_claim(c) for c in made.path],
        "correction": plain(made.correction),
        "belief": plain(made.belief),
        "words": made.words,
    }


def _claim(checked: Checked) -> Json:
    return {"says": checked.claim.sentence(), "shift": checked.evidence.shift, **_fields(checked)}


def _fields(checked: Checked) -> dict[str, Json]:
    return {
        "claim": plain(checked.claim),
        "evidence": plain(checked.evidence),
        "verdict": checked.verdict.value,
        "finding": checked.finding.value if checked.finding else None,
    }


def _nodes(made: Forecast) -> list[StoredObject]:
    """Every node under the hash of its content and its parent's hash, in the order they were made."""
    kept: list[StoredObject] = []
    for i, visit in enumerate(made.tree.visits):
        node = visit.item
        parent = kept[visit.parent].hash if visit.parent is not None else ""
        body: dict[str, Json] = {
            "parent": parent,
            "depth": visit.depth,
            "prior": node.prior,
            "odds": node.odds,
            "verdict_p": plain(made.verdicts.get(i)),
            "value": visit.value,
            **(_fields(node.checked) if node.checked else {}),
        }
        kept.append(StoredObject.holding("node", body))
    return kept


def record_of(
    decision_id: str, decision: Decision, calls: Sequence[RecordedCall], timings: Mapping[str, float]
) -> DecisionRecord:
    """All that is kept of a decision, with its tree, evidence, engine answers and token ledger: enough to think it
    through again without the model."""
    made = written(decision)
    answers = [StoredObject.holding("answer", call.to_json()) for call in calls]
    market = decision.inputs.market
    body: dict[str, Json] = {
        "market": {"id": market.id, "slug": market.slug, "question": market.question},
        "thought": made.body,
        "answers": [a.hash for a in answers],
    }
    return DecisionRecord(
        id=decision_id,
        market_id=market.id,
        slug=market.slug,
        at=decision.inputs.as_of,
        action=decision.action,
        reason=decision.reason,
        body=body,
        objects=(*made.objects, *answers),
        ledger=decision.ledger,
        timings=timings,
    )


_INPUTS = TypeAdapter(Inputs)


async def inputs_of(store: Store, record: Record) -> Inputs:
    """What the decision was made from."""
    decision = _thought(record)
    kept = await store.object(str(decision["inputs"]))
    if kept is None:
        raise Drift(f"the inputs of decision {record.key} are missing from the database.")
    return _INPUTS.validate_python(json.loads(kept.text))


def _stops(record: Record) -> dict[int, str]:
    """Reservations that a clock or a meter refused while the decision was made."""
    found: Any = _thought(record).get("stops") or ()
    return {int(number): str(what) for number, what in found}


def _thought(record: Record) -> Mapping[str, Json]:
    body = record.body["thought"]
    if not isinstance(body, Mapping):
        raise Drift(f"decision {record.key} holds no thought.")
    return body


async def recorded_calls(store: Store, record: Record) -> list[RecordedCall]:
    """The answers that a decision was made with. Raises Drift where some are missing."""
    hashes: Any = record.body["answers"]
    found = await store.objects([str(h) for h in hashes])
    missing = [h for h in hashes if h not in found]
    if missing:
        raise Drift(f"{len(missing)} recorded answers of decision {record.key} are missing from the database.")
    return [RecordedCall.from_json(json.loads(found[h].text)) for h in hashes]
