"""Read models of the pages, from the store: overviews and the surroundings of one decision. Judges nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from agent.decision.record import inputs_of
from agent.replay.replay import differences
from agent.reports.explain import Explanation, explain
from agent.review.buildup import buildup, rungs
from agent.review.pictures import BeliefStep, Mark, label_of
from agent.review.standing import AccountOverview, standing
from agent.review.whatif import Changed, WhatIfAnswer, answer
from market.errors import Misconfigured
from market.types import UNIT, Micro
from storage.canonical import Json
from storage.decisions import RecordedNode
from storage.records import DecisionFilter, DecisionSummary, LedgerRow, Run, Sorting
from storage.store import Store
from strategies.score import Interval, block_interval, log_score, reliability

SCORED = 5_000
"""The newest decisions that an overview scores; more would not change what it says."""
_STEP, _FEW = 5, 5
_BEFORE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Scores:
    """Of decisions with a known outcome, windows weighted equally: mean log scores in nats of agent and mid, the gain
    over the mid, and the bins of the reliability diagram as (mean forecast, observed frequency, count)."""

    windows: int
    ours: float
    mids: float
    gain: Interval | None
    bins: Sequence[tuple[float, float, int]]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean distance of forecast and frequency over the bins, weighted by count."""
        return sum(n * abs(forecast - share) for forecast, share, n in self.bins) / sum(n for _, _, n in self.bins)


@dataclass(frozen=True, slots=True)
class Overview:
    """A run at a glance; `profit` is of orders whose market has settled, in micro-dollars after fees, and `per_market`
    its mean in dollars: the orders of a market share its outcome and count once."""

    run: Run
    decisions: int
    reasons: Sequence[tuple[str, str, int]]
    spent: Sequence[LedgerRow]
    profit: Micro
    per_market: Interval | None
    best: Sequence[DecisionSummary]
    worst: Sequence[DecisionSummary]
    scores: Scores | None
    standing: AccountOverview

    @property
    def dollars(self) -> float:
        return sum(row.micro_usd for row in self.spent) / UNIT


@dataclass(frozen=True, slots=True)
class DecisionPage:
    """One decision with what is around it. `points` are (seconds since the window opened, bid, ask)."""

    e: Explanation
    steps: Sequence[BeliefStep]
    rungs: Sequence[tuple[str, float]]
    points: Sequence[tuple[float, float, float]]
    marks: Sequence[Mark]
    nodes: Sequence[RecordedNode]
    picked: frozenset[str]
    older: str
    newer: str
    profit: Micro | None
    whatif: WhatIfAnswer | None


async def runs_with_decisions(store: Store) -> list[Run]:
    """Newest first; the arms of a ladder come after what they belong to."""
    runs = [run for run in await store.runs() if run.records]
    return sorted(runs, key=lambda run: (bool(run.about.account) or run.identity.label == "agent", run.started_at))[
        ::-1
    ]


async def run_named(store: Store, prefix: str) -> Run:
    """The run whose id begins so, or the newest. Raises Misconfigured where there is none."""
    runs = [run for run in await runs_with_decisions(store) if run.id.startswith(prefix)]
    if not runs:
        raise Misconfigured("There is no such run.", next_step="Make one first: edgeclaw run --feed sample")
    return runs[0]


async def overview(store: Store, run: Run) -> Overview:
    """A run's figures."""
    of_run = DecisionFilter(run_id=run.id)
    best = await store.listed(of_run, sorting=Sorting.EARNED_MOST, limit=_FEW)
    worst = await store.listed(of_run, sorting=Sorting.LOST_MOST, limit=_FEW)
    profits = list((await store.profits(run.id)).values())
    spent = await store.spent(run.id)
    return Overview(
        run=run,
        decisions=await store.count(of_run),
        reasons=await store.reasons(run.id),
        spent=list(spent.values()),
        profit=sum(profits),
        per_market=block_interval(np.array(profits, np.float64) / UNIT, block=1),
        best=[d for d in best if d.profit is not None and d.profit > 0],
        worst=[d for d in worst if d.profit is not None and d.profit < 0],
        scores=await _scores(store, run),
        standing=await standing(store, run),
    )


async def _scores(store: Store, run: Run) -> Scores | None:
    newest = await store.listed(DecisionFilter(run_id=run.id), limit=SCORED)
    paid = {r.market_id: float(r.payout) for r in await store.outcomes(run.id) if r.payout is not None}
    rows = [d for d in newest if d.market_id in paid and d.mid is not None and d.probability is not None]
    if not rows:
        return None
    said, mids = [float(d.probability or 0.0) for d in rows], [float(d.mid or 0.0) for d in rows]
    outcome = [paid[d.market_id] for d in rows]
    names = sorted({d.market_id for d in rows})
    number = np.array([names.index(d.market_id) for d in rows])

    def by_window(losses: Any) -> Any:
        return np.bincount(number, losses) / np.bincount(number)

    ours, theirs = by_window(log_score(said, outcome)), by_window(log_score(mids, outcome))
    bins = [(b.forecast, b.share, b.n) for b in reliability(said, outcome)]
    return Scores(len(names), float(ours.mean()), float(theirs.mean()), block_interval(theirs - ours, block=1), bins)


async def decision_page(store: Store, run_id: str | None, prefix: str, changed: Changed) -> DecisionPage:
    """All that is known of one decision, and what would have been decided had some numbers been `changed`. Raises
    Misconfigured where there is none, or several."""
    record = await store.decision(run_id, prefix)
    e = await explain(store, record)
    inputs = await inputs_of(store, record)
    market = inputs.market
    until = min(market.closes_at, record.at + _BEFORE)
    bars = await store.bars(
        inputs.source, market.id, _STEP, as_of=until, limit=int(2 * _BEFORE.total_seconds() / _STEP)
    )
    points = [
        ((bar.at - market.opens_at).total_seconds(), bar.bid / UNIT, bar.ask / UNIT)
        for bar in bars
        if bar.bid is not None and bar.ask is not None
    ]
    search = e.decision.search
    older = await store.listed(DecisionFilter(record.run_id, until=record.at, slug=market.slug), limit=1)
    # Lists run from newest to oldest, so the next decision is the last of the later ones.
    later = DecisionFilter(record.run_id, since=record.at + timedelta(microseconds=1), slug=market.slug)
    newer = await store.listed(later, limit=1, after=max(await store.count(later) - 1, 0))
    mine = await store.listed(
        DecisionFilter(record.run_id, since=record.at, until=record.at + timedelta(microseconds=1))
    )
    return DecisionPage(
        e=e,
        steps=buildup(inputs, e.decision),
        rungs=rungs(e.decision),
        points=points,
        marks=_marks(e, market.opens_at, record.at, market.closes_at if market.closes_at <= until else None),
        nodes=e.nodes,
        picked=frozenset(e.nodes[i].hash for i in search.picked) if search else frozenset(),
        older=older[0].id if older else "",
        newer=newer[0].id if newer else "",
        profit=next((d.profit for d in mine if d.id == record.key), None),
        whatif=answer(inputs, search, changed) if search else None,
    )


@dataclass(frozen=True, slots=True)
class DecisionComparison:
    """Two decisions, what is worth reading side by side, and every place in which their thoughts differ."""

    sides: tuple[Explanation, Explanation]
    rows: Sequence[tuple[str, tuple[str, str]]]
    lines: Sequence[str]


async def comparison(store: Store, a: str, b: str) -> DecisionComparison:
    """Raises Misconfigured where one of them is none, or several."""
    sides = (await explain(store, await store.decision(None, a)), await explain(store, await store.decision(None, b)))
    told = [_told(e) for e in sides]
    rows = [(name, (told[0][name], told[1].get(name, ""))) for name in told[0]]
    return DecisionComparison(sides, rows, differences(sides[0].thought, sides[1].thought))


def _told(e: Explanation) -> dict[str, str]:
    """A decision in a few words each."""
    made, search = e.decision, e.decision.search
    path = " · ".join(label_of(step.claim) for step in search.path) if search else ""
    return {
        "run": e.run_id,
        "market": made.market.slug,
        "time": e.at,
        "decision": f"{made.action}: {made.reason}",
        "mid": "-" if made.mid is None else f"{made.mid:.4f}",
        "P(Up)": "-" if made.probability is None else f"{made.probability:.4f}",
        "path": path or "-",
        "verified share": f"{search.belief.verified_share:.0%}" if search else "-",
        "tokens": f"{sum(r.prompt + r.generated for r in e.tokens):,}",
        "orders": str(len(e.orders)),
        **{f"feature {name}": value for name, value in (made.features or {}).items()},
    }


def _marks(e: Explanation, opens: datetime, at: datetime, closes: datetime | None) -> list[Mark]:
    def seconds(when: datetime) -> float:
        return (when - opens).total_seconds()

    marks = [Mark(seconds(at), "decision", f"{e.decision.action}: {e.decision.reason}")]
    marks += [Mark(seconds(f.at), "fill", f"{f.side} {f.size / UNIT:g} {f.outcome} at {f.price}") for f in e.fills]
    return marks + ([Mark(seconds(closes), "close", "the window closes")] if closes is not None else [])


def listed_row(d: DecisionSummary) -> dict[str, Json]:
    """A line of the list, as text."""
    return {
        "id": d.id,
        "run": d.run_id,
        "at": f"{d.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        "slug": d.slug,
        "action": d.action,
        "reason": d.reason,
        "mid": "" if d.mid is None else f"{d.mid:.3f}",
        "probability": "" if d.probability is None else f"{d.probability:.3f}",
        "lean": "" if d.mid is None or d.probability is None else f"{d.probability - d.mid:+.3f}",
        "verified": "" if d.verified_share is None else f"{d.verified_share:.0%}",
        "corrected": d.corrected,
        "profit": "" if d.profit is None else f"{d.profit / UNIT:+,.2f}",
        "tokens": f"{d.tokens:,}",
    }
