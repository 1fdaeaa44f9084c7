"""Two runs side by side: what each came to, and the decisions on which they parted. Reads the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.review.reading import SCORED, Overview, overview
from market.types import UNIT
from storage.records import DecisionFilter, DecisionSummary, Run
from storage.store import Store
from strategies.score import Interval, block_interval, log_score

Pair = tuple[DecisionSummary, DecisionSummary]


@dataclass(frozen=True, slots=True)
class RunComparison:
    """`rows` are what is worth reading side by side. Of the newest decisions, `shared` were made by both on the same
    market at the same instant; `parted` are those that came to something else. `gain` is how much log loss the second
    run spares against the first, in nats per window, one vote each; None where no shared window has paid."""

    sides: tuple[Run, Run]
    rows: Sequence[tuple[str, tuple[str, str]]]
    shared: int
    parted: Sequence[Pair]
    gain: Interval | None


async def versus(store: Store, one: Run, other: Run) -> RunComparison:
    """The comparison; of long runs the newest decisions are paired."""
    told = [_told(await overview(store, run)) for run in (one, other)]
    pairs = _paired(*[await store.listed(DecisionFilter(run_id=run.id), limit=SCORED) for run in (one, other)])
    paid = {r.market_id: float(r.payout) for r in await store.outcomes(one.id) if r.payout is not None}
    return RunComparison(
        sides=(one, other),
        rows=[(name, (told[0][name], told[1][name])) for name in told[0]],
        shared=len(pairs),
        parted=[pair for pair in pairs if _parted(*pair)],
        gain=_gain(pairs, paid),
    )


def _told(seen: Overview) -> dict[str, str]:
    scores, spent = seen.scores, sum(row.prompt + row.generated for row in seen.spent)
    made = max(seen.decisions, 1)
    return {
        "run": seen.run.id[:12],
        "label": f"{seen.run.identity.label} on {seen.run.about.data}",
        "decisions": f"{seen.decisions:,}",
        "settled profit": f"{seen.profit / UNIT:+,.2f} dollars",
        "log score": "-" if scores is None else f"{scores.ours:.4f} nats per window",
        "log score of mid": "-" if scores is None else f"{scores.mids:.4f} nats per window",
        "tokens": f"{spent / made:,.0f} per decision",
        "inference cost": f"${seen.dollars / made:.7f} per decision",
    }


def _paired(first: Sequence[DecisionSummary], second: Sequence[DecisionSummary]) -> list[Pair]:
    """Decisions of both on the same market at the same instant, the newest first."""
    known = {(d.market_id, d.at): d for d in second}
    return [(d, known[d.market_id, d.at]) for d in first if (d.market_id, d.at) in known]


def _parted(a: DecisionSummary, b: DecisionSummary) -> bool:
    return (a.action, a.reason, a.probability) != (b.action, b.reason, b.probability)


def _gain(pairs: Sequence[Pair], paid: dict[str, float]) -> Interval | None:
    scored = [
        (a.market_id, a.probability, b.probability)
        for a, b in pairs
        if a.market_id in paid and a.probability is not None and b.probability is not None
    ]
    if not scored:
        return None
    # By market: decisions on one window share its outcome and are one observation.
    names = {market: number for number, market in enumerate(dict.fromkeys(market for market, _, _ in scored))}
    number, outcome = np.array([names[m] for m, _, _ in scored]), [paid[m] for m, _, _ in scored]
    spared = log_score([p for _, p, _ in scored], outcome) - log_score([q for _, _, q in scored], outcome)
    return block_interval(np.bincount(number, spared) / np.bincount(number), block=1)
