"""Claims that a search may make: a ladder of closed choices. Knows no model and no database.

A claim states: given that `feature` is in `bucket` now, YES is worth more (`up`), less (`down`) or neither more nor
less (`none`) than the market's mid. The last rung is the decision itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    UP = "up"
    DOWN = "down"
    NONE = "none"

    @property
    def sign(self) -> int:
        return {"up": 1, "down": -1, "none": 0}[self.value]


@dataclass(frozen=True, slots=True)
class Rung:
    """One level of the ladder and its features."""

    name: str
    features: tuple[str, ...]


LADDER: tuple[Rung, ...] = (
    Rung("regime", ("trend", "volatility", "range")),
    Rung("state", ("level", "time", "drift", "distance")),
    Rung("flow", ("momentum", "imbalance", "pressure", "lead")),
    Rung("market", ("spread", "bias", "activity", "gap")),
    Rung("decision", ()),
)

DECISIONS: tuple[str, ...] = ("up", "down", "abstain")


@dataclass(frozen=True, slots=True)
class Claim:
    """One machine-checkable statement; on the decision rung `feature` is "decision" and `bucket` the choice."""

    rung: str
    feature: str
    bucket: str
    effect: Effect

    @property
    def decides(self) -> bool:
        return self.rung == LADDER[-1].name

    def sentence(self) -> str:
        """The claim as a sentence, for display."""
        if self.decides:
            return f"therefore {self.bucket}"
        says = {Effect.UP: "is worth more than its price", Effect.DOWN: "is worth less than its price"}
        return f"{self.feature} is {self.bucket}, so Up {says.get(self.effect, 'is priced right')}"


def decision(choice: str) -> Claim:
    """The claim of the last rung."""
    return Claim(
        rung=LADDER[-1].name,
        feature="decision",
        bucket=choice,
        effect=Effect(choice) if choice in ("up", "down") else Effect.NONE,
    )


def true_now(claim: Claim, buckets: Mapping[str, str]) -> bool:
    """True if the feature is in the claimed bucket."""
    return claim.decides or buckets.get(claim.feature) == claim.bucket
