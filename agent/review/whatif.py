"""Counterfactual decisions: another threshold, weight of verified claims or fee, from the recorded search and without
the model. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from agent.decision.inputs import Inputs
from agent.decision.record import path_of
from storage.decisions import RecordedSearch
from strategies.belief import Belief, believe
from strategies.edge import best_edge, decide


@dataclass(frozen=True, slots=True)
class Changed:
    """None leaves what it was. `shrink` is the weight of a verified lean, `fee` the rate of the taker's fee."""

    threshold: float | None = None
    shrink: float | None = None
    fee: Decimal | None = None


@dataclass(frozen=True, slots=True)
class WhatIfAnswer:
    """The counterfactual decision; `net` is dollars a share of the better side after fee and buffer, and `sure` the
    probability that it is above zero."""

    action: str
    reason: str
    probability: float
    side: str
    price: Decimal | None
    net: float | None
    sure: float | None
    threshold: float
    shrink: float
    fee: Decimal


def answer(inputs: Inputs, search: RecordedSearch, changed: Changed) -> WhatIfAnswer | None:
    """None where there was no book to decide on."""
    view = inputs.view()
    mid = None if view is None else view.book.mid
    if view is None or mid is None:
        return None
    shrink = inputs.learned.weight if changed.shrink is None else changed.shrink
    rule = inputs.settings.rule
    rule = rule if changed.threshold is None else replace(rule, threshold=changed.threshold)
    view = view if changed.fee is None else replace(view, fees=replace(view.fees, rate=changed.fee))
    belief = belief_of(inputs, search, shrink)
    intent, reason = decide(view, belief, rule, inputs.settings.sizing)
    best = best_edge(view, belief, rule)
    return WhatIfAnswer(
        action="abstain" if intent is None else "post" if intent.post_only else "take",
        reason=reason,
        probability=belief.calibrated(float(mid)),
        side="" if best is None else best.outcome.value,
        price=None if best is None else best.price,
        net=None if best is None else best.net,
        sure=None if best is None else best.confidence,
        threshold=rule.threshold,
        shrink=shrink,
        fee=view.fees.rate,
    )


def belief_of(inputs: Inputs, search: RecordedSearch, shrink: float) -> Belief:
    """Belief from the recorded path, with `shrink` as the weight of verified claims."""
    settings = inputs.settings
    return believe(
        path_of(search),
        market_id=inputs.market.id,
        as_of=inputs.as_of,
        expires_at=min(inputs.market.closes_at, inputs.as_of + timedelta(seconds=settings.band)),
        shrink=shrink,
        max_shift=settings.max_shift,
        calibration=inputs.learned.calibration,
    )
