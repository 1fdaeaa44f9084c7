"""The evidence ladder: what each part of the agent adds to the market's own price, on the same decisions.

Every rung is a forecast of P(YES) made at the same instants. Losses are compared in pairs with the mid's, with
block-bootstrap intervals. A rung that cannot be climbed on this data says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.thought import Thought
from strategies.baselines import NO_DIFFUSION
from strategies.logit import logit, sigmoid
from strategies.score import Interval, block_interval, brier, cluster_means, days_for_verdict, log_score


@dataclass(frozen=True, slots=True)
class Arm:
    """Forecasts of one rung by decision id, and what they took. `note` explains an empty or an odd one."""

    name: str
    forecasts: Mapping[str, float]
    tokens: int = 0
    dollars: float = 0.0
    milliseconds: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class LadderRung:
    """One line of the ladder. `gain` is the mid's log score minus this rung's: positive is better than the market.
    Tokens, dollars and milliseconds are per decision; `days` is how many more days a verdict would need."""

    name: str
    n: int
    brier: float | None = None
    log_score: float | None = None
    gain: Interval | None = None
    tokens: float = 0.0
    dollars: float = 0.0
    milliseconds: float = 0.0
    days: float | None = None
    note: str = ""


def no_diffusion() -> Arm:
    """The rung that book-only data cannot climb."""
    return Arm("diffusion", {}, note=NO_DIFFUSION)


def ladder(
    arms: Sequence[Arm], outcomes: Mapping[str, float], windows: Mapping[str, str], *, per_day: float
) -> list[LadderRung]:
    """Score every arm on the decisions whose outcome is known and which the first arm (the mid) forecast.

    `windows` names each decision's market: decisions that share an outcome are drawn together and count as one
    observation of a gain. `per_day` is how many decisions a day brings.
    """
    if not arms:
        raise ValueError("a ladder needs at least the mid")
    mid = arms[0]
    scored = [d for d in windows if d in outcomes and d in mid.forecasts]
    truth = Truth(outcomes, windows, per_day * len({windows[d] for d in scored}) / max(1, len(scored)))
    return [_rung(arm, mid, scored, truth) for arm in arms]


@dataclass(frozen=True, slots=True)
class Truth:
    """What happened, in which window, and how many windows a day brings."""

    outcomes: Mapping[str, float]
    windows: Mapping[str, str]
    per_day: float


def _rung(arm: Arm, mid: Arm, scored: Sequence[str], truth: Truth) -> LadderRung:
    ids = [d for d in scored if d in arm.forecasts]
    if not ids:
        return LadderRung(arm.name, 0, note=arm.note or "no forecast")
    y = [truth.outcomes[d] for d in ids]
    within = [truth.windows[d] for d in ids]
    p = [arm.forecasts[d] for d in ids]
    own = log_score(p, y)
    gains = log_score([mid.forecasts[d] for d in ids], y) - own
    moved = bool(np.any(gains != 0))
    made = max(len(arm.forecasts), 1)
    return LadderRung(
        name=arm.name,
        n=len(ids),
        brier=float(brier(p, y).mean()),
        log_score=float(own.mean()),
        gain=block_interval(gains, within) if moved else Interval(0.0, 0.0, 0.0),
        tokens=arm.tokens / made,
        dollars=arm.dollars / made,
        milliseconds=arm.milliseconds / made,
        days=days_for_verdict(cluster_means(gains, within), per_day=truth.per_day),
        note=arm.note or ("" if moved or arm is mid else "never differs from the mid"),
    )


def constant_lean(arm: Arm, mid: Arm) -> Arm:
    """A placebo with no information: everywhere the same lean, the arm's own mean. Where it gains as much as the arm,
    the arm's gain is a habit that happened to suit these outcomes."""
    both = [d for d in arm.forecasts if d in mid.forecasts]
    leans = [logit(arm.forecasts[d]) - logit(mid.forecasts[d]) for d in both]
    mean = sum(leans) / len(leans) if leans else 0.0
    leaning = {d: sigmoid(logit(mid.forecasts[d]) + mean) for d in both}
    return Arm("placebo: constant", leaning, note=f"the mean lean of {arm.name} ({mean:+.3f} log-odds), everywhere")


@dataclass(slots=True)
class Gathering:
    """Collects one rung's forecasts while decisions are thought through again."""

    name: str
    key: str
    forecasts: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    dollars: float = 0.0
    milliseconds: float = 0.0

    def add(self, decision_id: str, thought: Thought) -> None:
        """Take the rung's forecast of one decision; a decision that was not searched forecasts the mid."""
        if thought.mid is None:
            return
        self.forecasts[decision_id] = thought.forecast.arms[self.key] if thought.forecast else thought.mid
        self.tokens += thought.budget.tokens
        self.dollars += thought.budget.dollars
        self.milliseconds += sum(r.milliseconds for r in thought.ledger)

    def arm(self) -> Arm:
        return Arm(self.name, self.forecasts, self.tokens, self.dollars, self.milliseconds)
