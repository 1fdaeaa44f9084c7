"""From the market's probability to the agent's, claim by claim. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from agent.decision.inputs import Inputs
from agent.decision.record import path_of
from agent.review.pictures import BeliefStep, short_label
from agent.review.whatif import belief_of
from storage.decisions import RecordedDecision
from strategies.belief import parts
from strategies.logit import logit, sigmoid

_SHOWN = 5e-5
_RUNGS = (("search", "all claims"), ("verify", "verified claims only"), ("correct", "after correction"))


def buildup(inputs: Inputs, decision: RecordedDecision) -> list[BeliefStep]:
    """Each claim that history supports moves the log-odds by its share of the path's lean, times the weight learnt so
    far; then come the bound on how far a belief may lean, calibration, and what may be traded on where that is not the
    same. Nothing where there was no search."""
    search, arms = decision.search, decision.arms
    if not search or "mid" not in arms:
        return []
    mid = arms["mid"]
    belief, odds = belief_of(inputs, search, inputs.learned.weight), logit(mid)
    steps = [BeliefStep("market mid", mid)]
    for checked, share in parts(path_of(search)):
        odds += inputs.learned.weight * share
        claim = checked.claim
        steps.append(BeliefStep(short_label(claim.feature, claim.bucket, claim.effect.value), sigmoid(odds)))
    for name, value in (
        ("capped shift", belief.raw(mid)),
        ("calibrated", belief.calibrated(mid)),
        ("traded on", belief.probability(mid)),
    ):
        if name == "calibrated" or abs(value - steps[-1].value) > _SHOWN:
            steps.append(BeliefStep(name, value))
    return steps


def rungs(decision: RecordedDecision) -> Sequence[tuple[str, float]]:
    """P(YES) of each rung: all claims, verified claims only, after correction."""
    arms = decision.arms
    return [(says, arms[name]) for name, says in _RUNGS if decision.search and name in arms]
