"""The evidence ladder: the gain of each part of the agent over the market mid, on the same decisions.

Every rung is a forecast of P(YES) made at the same instants. Losses are compared in pairs with the mid's, with
block-bootstrap intervals over windows. A rung without data carries a note with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from strategies.baselines import NO_DIFFUSION
from strategies.logit import logit, sigmoid
from strategies.score import (
    Interval,
    block_interval,
    brier,
    clark_west,
    cluster_means,
    days_for_verdict,
    log_score,
)

MID = "market mid"


@dataclass(frozen=True, slots=True)
class RungSource:
    """Source of a rung's forecasts: `run` is the label of the run that holds them, `arm` their name in its decisions.
    Baselines cost nothing; the rungs of one search share its cost."""

    name: str
    run: str
    arm: str
    costs: bool = True


RUNGS = (
    RungSource(MID, "agent", "mid", costs=False),
    RungSource("diffusion", "agent", "diffusion", costs=False),
    RungSource("logistic", "agent", "logistic", costs=False),
    RungSource("model greedy", "arm:greedy", "search"),
    RungSource("+ search", "arm:search", "search"),
    RungSource("+ verify", "agent", "verify"),
    RungSource("+ correct", "agent", "correct"),
    RungSource("+ calibrate", "agent", "calibrate"),
    RungSource("placebo: outcomes", "arm:redrawn", "correct"),
    RungSource("placebo: claims", "arm:claims", "correct"),
    RungSource("placebo: search", "arm:moves", "search"),
)
"""From the bottom. `arm:` runs decide again on the agent's own inputs: the model without a tree or without history,
with outcomes drawn at the market's price, or with chance in the place of the model, once as the agent searches and once
without history."""


@dataclass(frozen=True, slots=True)
class DecisionCost:
    """Cost of one decision: tokens, US dollars, milliseconds."""

    tokens: int = 0
    dollars: float = 0.0
    milliseconds: float = 0.0


@dataclass(slots=True)
class LadderArm:
    """Forecasts of P(YES) of one rung by decision key, and the cost of each. `note` explains an empty or unusual
    one."""

    name: str
    forecasts: dict[str, float] = field(default_factory=dict)
    costs: dict[str, DecisionCost] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class LadderRung:
    """One line of the ladder. `gain` is the mid's log score minus this rung's: positive is better than the market.
    `chance` is the p-value of the improvement in squared error (Clark and West). Tokens, dollars and
    milliseconds are per decision; `days` is the number of further days that a verdict needs."""

    name: str
    n: int
    windows: int = 0
    brier: float | None = None
    log_score: float | None = None
    gain: Interval | None = None
    chance: float | None = None
    tokens: float = 0.0
    dollars: float = 0.0
    milliseconds: float = 0.0
    days: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Truth:
    """Payout of YES and window by decision key, windows in order of time; `per_day` is the number of decisions a day.
    Decisions that share an outcome are resampled together and count as one observation."""

    outcomes: Mapping[str, float]
    windows: Mapping[str, str]
    per_day: float


def ladder(arms: Sequence[LadderArm], truth: Truth) -> list[LadderRung]:
    """Score every arm on the decisions with a known outcome and a forecast by the first arm, the mid. Raises ValueError
    without arms."""
    if not arms:
        raise ValueError("a ladder needs at least the mid")
    mid = arms[0]
    scored = [d for d in truth.windows if d in truth.outcomes and d in mid.forecasts]
    # Decisions of a window share one outcome: the rate of independent observations is that of windows.
    per_day = truth.per_day * len({truth.windows[d] for d in scored}) / max(1, len(scored))
    return [_rung(arm, mid, scored, Truth(truth.outcomes, truth.windows, per_day)) for arm in arms]


def _rung(arm: LadderArm, mid: LadderArm, scored: Sequence[str], truth: Truth) -> LadderRung:
    ids = [d for d in scored if d in arm.forecasts]
    if not ids:
        note = NO_DIFFUSION if arm.name == "diffusion" else "no forecast"
        return LadderRung(arm.name, 0, note=arm.note or note)
    y = [truth.outcomes[d] for d in ids]
    within = [truth.windows[d] for d in ids]
    p = [arm.forecasts[d] for d in ids]
    own = log_score(p, y)
    mids = [mid.forecasts[d] for d in ids]
    gains = log_score(mids, y) - own
    moved = bool(np.any(gains != 0))
    # Over all forecasts, unscored ones too: they cost the same.
    spent = [arm.costs.get(d, DecisionCost()) for d in arm.forecasts]
    windows = len(set(within))
    return LadderRung(
        name=arm.name,
        n=len(ids),
        windows=windows,
        brier=float(brier(p, y).mean()),
        log_score=float(own.mean()),
        gain=block_interval(gains, within, block=round(windows ** (1 / 3))) if moved else Interval(0.0, 0.0, 0.0),
        chance=clark_west(p, mids, y, within),
        tokens=sum(c.tokens for c in spent) / len(spent),
        dollars=sum(c.dollars for c in spent) / len(spent),
        milliseconds=sum(c.milliseconds for c in spent) / len(spent),
        days=days_for_verdict(cluster_means(gains, within), per_day=truth.per_day),
        note=arm.note or ("" if moved or arm is mid else "never differs from the mid"),
    )


def constant_lean(arm: LadderArm, mid: LadderArm) -> LadderArm:
    """A placebo without information: the arm's mean lean in log-odds, applied everywhere. Where it gains as much as the
    arm, the arm's gain is a constant bias that happened to suit these outcomes."""
    both = [d for d in arm.forecasts if d in mid.forecasts]
    leans = [logit(arm.forecasts[d]) - logit(mid.forecasts[d]) for d in both]
    mean = sum(leans) / len(leans) if leans else 0.0
    leaning = {d: sigmoid(logit(mid.forecasts[d]) + mean) for d in both}
    return LadderArm(
        "placebo: constant", leaning, note=f"the mean lean of {arm.name} ({mean:+.3f} log-odds), everywhere"
    )
