"""Everything that is known of one decision, gathered from the store for a reader. Judges nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from market.types import Fill, Resolution
from storage.canonical import Json, plain
from storage.decisions import RecordedDecision, RecordedMarket, RecordedNode, thought_of
from storage.log_reader import LogReader
from storage.records import LedgerRow, Record


@dataclass(frozen=True, slots=True)
class Explanation:
    """`decision` is the recorded decision and `thought` the part of its record that a replay must reproduce, as it
    stands; `nodes` are its search tree in the order it grew; `book` and `inputs` what it was made from."""

    id: str
    run_id: str
    seq: int
    hash: str
    at: str
    decision: RecordedDecision
    thought: Mapping[str, Json]
    inputs: Mapping[str, Any]
    book: Mapping[str, Any] | None
    nodes: Sequence[RecordedNode]
    tokens: Sequence[LedgerRow]
    timings: Mapping[str, float]
    orders: Sequence[Mapping[str, Any]]
    fills: Sequence[Fill]
    outcome: Resolution | None

    @property
    def market(self) -> RecordedMarket:
        return self.decision.market

    def to_json(self) -> dict[str, Json]:
        """For other programs: the record as it stands."""
        # `decision` says what `thought` says, in our own types; other programs get the record.
        names = [f.name for f in fields(self) if f.name not in ("decision", "nodes")]
        nodes: list[Json] = [{"hash": node.hash, **node.to_json()} for node in self.nodes]
        return {**{name: plain(getattr(self, name)) for name in names}, "market": plain(self.market), "nodes": nodes}


async def explain(store: LogReader, record: Record) -> Explanation:
    """Gather a decision with its objects, ledger rows, orders, fills and outcome."""
    decision = RecordedDecision.of(record)
    nodes = decision.search.nodes if decision.search else ()
    found = await store.objects([decision.inputs, decision.book, *nodes])
    intents = await store.intents(record.run_id, decision_id=record.key)
    used = await store.ledger(record.run_id, decision_id=record.key)
    took = await store.timings(record.run_id, decision_id=record.key)
    return Explanation(
        id=record.key,
        run_id=record.run_id,
        seq=record.seq,
        hash=record.hash,
        at=record.at.isoformat(),
        decision=decision,
        thought=thought_of(record),
        inputs=json.loads(found[decision.inputs].text),
        book=json.loads(found[decision.book].text),
        nodes=[RecordedNode.of(found[name]) for name in nodes],
        tokens=used.get(record.key, ()),
        timings=took.get(record.key, {}),
        orders=[{"order_id": i.order_id, "status": i.status, "order": i.order} for i in intents],
        fills=await store.fills_of([i.order_id for i in intents]),
        outcome=await store.outcome_of(record.run_id, decision.market.id),
    )
