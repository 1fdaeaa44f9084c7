"""Everything that is known of one decision, gathered from the store for a reader. Judges nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from market.types import Fill, Resolution
from storage.canonical import Json
from storage.records import LedgerRow, Record
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Explanation:
    """`thought` is the recorded decision; `nodes` its search tree in the order it grew, each with its hash;
    `book` and `inputs` what it was made from."""

    id: str
    run_id: str
    seq: int
    hash: str
    at: str
    market: Mapping[str, Json]
    thought: Mapping[str, Any]
    inputs: Mapping[str, Any]
    book: Mapping[str, Any] | None
    nodes: Sequence[Mapping[str, Any]]
    tokens: Sequence[LedgerRow]
    timings: Mapping[str, float]
    orders: Sequence[Mapping[str, Any]]
    fills: Sequence[Fill]
    outcome: Resolution | None


async def explain(store: Store, record: Record) -> Explanation:
    """Gather a decision with its objects, ledger rows, orders, fills and outcome."""
    decision: Any = record.body["thought"]
    market: Any = record.body["market"]
    search = decision["search"]
    hashes = [decision["inputs"], decision["book"], *(search["nodes"] if search else [])]
    found = {h: json.loads(o.text) for h, o in (await store.objects(hashes)).items()}
    intents = await store.intents(record.run_id, decision_id=record.key)
    used = await store.ledger(record.run_id, decision_id=record.key)
    took = await store.timings(record.run_id, decision_id=record.key)
    return Explanation(
        id=record.key,
        run_id=record.run_id,
        seq=record.seq,
        hash=record.hash,
        at=record.at.isoformat(),
        market=market,
        thought=decision,
        inputs=found[decision["inputs"]],
        book=found[decision["book"]],
        nodes=[{"hash": h, **found[h]} for h in (search["nodes"] if search else [])],
        tokens=used.get(record.key, ()),
        timings=took.get(record.key, {}),
        orders=[{"order_id": i.order_id, "status": i.status, "order": i.order} for i in intents],
        fills=await store.fills_of([i.order_id for i in intents]),
        outcome=await store.outcome_of(record.run_id, str(market["id"])),
    )
