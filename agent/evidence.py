"""The evidence ladder: what each part of the agent adds to the market's own price, on the same decisions.

Every rung is a forecast of P(YES) made at the same instants. Losses are compared in pairs with the mid's, with
block-bootstrap intervals. A rung that cannot be climbed on this data says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.thought import Thought
from market.errors import CycleSkipped
from strategies.baselines import NO_DIFFUSION
from strategies.score import Interval, block_interval, brier, decisions_for_verdict, log_score

BLOCK = 3
"""Decisions drawn together: the three cycles of one 15-minute window share its outcome."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Forecasts of one rung by decision id, and what they took. `why_not` explains an empty one."""

    name: str
    forecasts: Mapping[str, float]
    tokens: int = 0
    dollars: float = 0.0
    milliseconds: float = 0.0
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Rung:
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
    return Arm("diffusion", {}, why_not=NO_DIFFUSION)


def no_logistic(windows: int, needed: int) -> Arm:
    """The rung that needs more history than there is."""
    return Arm("logistic", {}, why_not=f"{windows} resolved windows of history, {needed} needed to fit one")


def ladder(arms: Sequence[Arm], outcomes: Mapping[str, float], *, per_day: float) -> list[Rung]:
    """Score every arm on the decisions whose outcome is known and which the first arm (the mid) forecast.

    `per_day` is how many decisions a day brings.
    """
    if not arms:
        raise CycleSkipped("no_arms", "there is nothing to compare")
    mid = arms[0]
    scored = [d for d in sorted(outcomes) if d in mid.forecasts]
    return [_rung(arm, mid, scored, outcomes, per_day) for arm in arms]


def _rung(arm: Arm, mid: Arm, scored: Sequence[str], outcomes: Mapping[str, float], per_day: float) -> Rung:
    ids = [d for d in scored if d in arm.forecasts]
    if not ids:
        return Rung(arm.name, 0, note=arm.why_not or "no forecast")
    y = [outcomes[d] for d in ids]
    p = [arm.forecasts[d] for d in ids]
    own = log_score(p, y)
    gains = log_score([mid.forecasts[d] for d in ids], y) - own
    moved = bool(np.any(gains != 0))
    made = max(len(arm.forecasts), 1)
    return Rung(
        name=arm.name,
        n=len(ids),
        brier=float(brier(p, y).mean()),
        log_score=float(own.mean()),
        gain=block_interval(gains, block=BLOCK) if moved else Interval(0.0, 0.0, 0.0),
        tokens=arm.tokens / made,
        dollars=arm.dollars / made,
        milliseconds=arm.milliseconds / made,
        days=decisions_for_verdict(gains, per_day=per_day),
        note="" if moved or arm is mid else "never differs from the mid",
    )


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
