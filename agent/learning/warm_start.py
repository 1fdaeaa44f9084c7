"""Warm start: rebuilds the online learner from the decision log when a live run starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from itertools import chain

from agent.decision.gate import Gate
from agent.decision.inputs import Inputs
from agent.decision.record import inputs_at, path_of
from agent.decision.search_budget import kind
from agent.learning.learner import NEWEST, OnlineLearner, Sample
from market.types import Resolution
from storage.decisions import RecordedDecision
from storage.records import DecisionFilter, RecordKind, Run
from storage.store import Store
from strategies.belief import lean
from strategies.conformal import Band

SPAN = timedelta(days=30)
"""Older decisions came from code and models that are no longer in use."""
_PAGE = 500


async def warm_start(store: Store, source: str, runs: Sequence[Run], learner: OnlineLearner, now: datetime) -> int:
    """Learn from the newest decisions of these runs, oldest run first, and from outcomes that any of them recorded.
    Returns the number of decisions. Little more is read than is learnt from."""
    since, outcomes = now - SPAN, dict[str, Resolution]()
    recent = [run for run in runs if not await _old(store, run, since)]
    for run in recent:
        outcomes |= {r.market_id: r for r in await store.outcomes(run.id)}
    pages, windows = list[list[tuple[str, Sample]]](), set[str]()
    async for page in _newest_first(store, recent, since):
        pages.append(page)
        windows |= outcomes.keys() & {market_id for market_id, _ in page}
        if len(windows) > NEWEST + _PAGE:  # the oldest of them may have more decisions on the page before
            break
    for market_id, sample in chain.from_iterable(reversed(pages)):
        learner.waiting.setdefault(market_id, []).append(sample)
    known = [market_id for market_id in learner.waiting if market_id in outcomes]
    mids = await store.mids(source, known)
    for market_id in known:
        learner.ended(outcomes[market_id], mids.get(market_id, {}))
    return sum(map(len, pages))


async def _newest_first(store: Store, runs: Sequence[Run], since: datetime) -> AsyncIterator[list[tuple[str, Sample]]]:
    """Pages of samples with their market ids, newest page first, each page in the order of the decisions."""
    for run in reversed(runs):
        read = 0
        while listed := await store.listed(DecisionFilter(run_id=run.id, since=since), limit=_PAGE, after=read):
            read += len(listed)
            first = min(decision.seq for decision in listed)
            records = await store.some(run.id, [RecordKind.DECISION], since=first, limit=len(listed))
            made = [(record.key, RecordedDecision.of(record)) for record in records]
            yield [(d.market.id, await _sample(store, key, d)) for key, d in made if d.mid is not None]


async def _old(store: Store, run: Run, since: datetime) -> bool:
    newest = await store.decisions(run.id, limit=1)
    return not newest or newest[-1].at < since


async def _sample(store: Store, decision_id: str, decision: RecordedDecision) -> Sample:
    """The sample that `Sample.of` made of the decision at the time."""
    return sample(await inputs_at(store, decision_id, decision.inputs), decision)


def sample(inputs: Inputs, decision: RecordedDecision) -> Sample:
    """The sample of a recorded decision that saw a price."""
    gate, band = decision.gate, decision.band
    entry = Gate(gate.reason, gate.plausible, gate.cost)
    state, left, mid = kind(inputs, entry), inputs.seconds_left, decision.mid or 0.0
    reach = None if band is None else Band(band.low, band.high)
    if decision.search is None:
        return Sample(
            kind=state, seconds_left=left, mid=mid, lean=0.0, forecast=mid, searched=False, found=False, band=reach
        )
    path = path_of(decision.search)
    verified = any(c.verified and c.claim.effect.sign for c in path)
    return Sample(
        kind=state,
        seconds_left=left,
        mid=mid,
        lean=lean(path)[0],
        forecast=decision.arms["correct"],
        searched=True,
        found=verified,
        band=reach,
    )
