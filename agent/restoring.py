"""What earlier decisions taught, learnt again from the log when a live run starts: a restart forgets nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from agent.allocation import kind
from agent.experience import Experience, Sample
from agent.gate import Gate
from agent.inputs import Inputs
from agent.rethink import inputs_of
from market.types import Resolution
from storage.records import Record, RecordKind, Run
from storage.store import Store
from strategies.belief import lean
from strategies.conformal import Band
from strategies.verification import Checked

SPAN = timedelta(days=30)
"""Older decisions were made by what nobody trades with any more."""
_PATH, _GATE, _BAND = TypeAdapter(list[Checked]), TypeAdapter(Gate), TypeAdapter(Band)


async def relive(store: Store, source: str, runs: Sequence[Run], experience: Experience, now: datetime) -> int:
    """Learn from the decisions of these runs, and from outcomes that any of them saw; how many decisions it were."""
    since, count, outcomes = now - SPAN, 0, dict[str, Resolution]()
    for run in runs:
        if await _old(store, run, since):
            continue
        outcomes |= {r.market_id: r for r in await store.outcomes(run.id)}
        for record in await store.records(run.id, RecordKind.DECISION):
            if record.at < since:
                continue
            sample = await _sample(store, record)
            if sample is not None:
                experience.waiting.setdefault(_market(record), []).append(sample)
                count += 1
    known = [market_id for market_id in experience.waiting if market_id in outcomes]
    mids = await store.mids(source, known)
    for market_id in known:
        experience.ended(outcomes[market_id], mids.get(market_id, {}))
    return count


async def _old(store: Store, run: Run, since: datetime) -> bool:
    newest = await store.decisions(run.id, limit=1)
    return not newest or newest[-1].at < since


def _market(record: Record) -> str:
    market: Any = record.body["market"]
    return str(market["id"])


async def _sample(store: Store, record: Record) -> Sample | None:
    """What `Sample.of` made of the thought when it was thought."""
    thought: Any = record.body["thought"]
    if thought["mid"] is None:
        return None
    inputs, entry = await inputs_of(store, record), _GATE.validate_python(thought["gate"])
    return sample(inputs, entry, thought)


def sample(inputs: Inputs, entry: Gate, thought: Mapping[str, Any]) -> Sample:
    """From what is kept of a thought in which a price was seen."""
    state, left, mid = kind(inputs, entry), inputs.seconds_left, float(thought["mid"])
    band = None if thought["band"] is None else _BAND.validate_json(json.dumps(thought["band"]))
    search = thought["search"]
    if search is None:
        return Sample(state, left, mid, 0.0, mid, False, False, band)
    path = _PATH.validate_json(json.dumps(search["path"]))
    verified = any(c.verified and c.claim.effect.sign for c in path)
    return Sample(state, left, mid, lean(path)[0], float(thought["arms"]["correct"]), True, verified, band)
