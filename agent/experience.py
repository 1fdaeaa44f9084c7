"""What outcomes teach while a run goes on: how well calibrated the forecasts were, how much of a verified lean was
right, and in which kinds of state searching has found anything. An outcome counts only after it was known.

Every decision is learnt from, abstentions too. Decisions of one window share its outcome and count as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.allocation import kind
from agent.inputs import Earned, Learned
from agent.thought import Thought
from market.types import Resolution
from strategies.belief import lean
from strategies.calibration import Calibration, fitted, learned_weight
from strategies.score import log_score


@dataclass(frozen=True, slots=True)
class Sample:
    """One decision: the market's P(YES), the verified lean in log-odds before shrinking, the forecast before
    calibration; whether it was searched, and whether that found a verified claim."""

    kind: str
    mid: float
    lean: float
    forecast: float
    searched: bool
    found: bool

    @classmethod
    def of(cls, thought: Thought) -> Sample | None:
        """None for a decision in which no price was seen."""
        if thought.mid is None:
            return None
        made, state = thought.forecast, kind(thought.inputs, thought.gate)
        if made is None:
            return cls(state, thought.mid, 0.0, thought.mid, False, False)
        verified = any(c.verified and c.claim.effect.sign for c in made.path)
        return cls(state, thought.mid, lean(made.path)[0], made.arms["correct"], True, verified)


@dataclass(slots=True)
class Experience:
    """Decisions of one run, waiting for their outcomes or with them. `start` is the weight of a lean before anything
    was learnt."""

    start: float
    waiting: dict[str, list[Sample]] = field(default_factory=dict)
    known: list[tuple[datetime, float, Sequence[Sample]]] = field(default_factory=list)
    _fits: tuple[int, float, Calibration] | None = None

    def decided(self, market_id: str, thought: Thought) -> None:
        sample = Sample.of(thought)
        if sample is not None:
            self.waiting.setdefault(market_id, []).append(sample)

    def ended(self, resolution: Resolution) -> None:
        """The outcome of a window; one that stays unresolved teaches nothing."""
        if resolution.payout is None or resolution.market_id not in self.waiting:
            return
        self.known.append((resolution.known_at, float(resolution.payout), self.waiting.pop(resolution.market_id)))
        self.known.sort(key=lambda row: row[0])

    def learned(self, as_of: datetime) -> Learned:
        """All that could be learnt strictly before `as_of`."""
        ended = [row for row in self.known if row[0] < as_of]
        if self._fits is None or self._fits[0] != len(ended):
            self._fits = (len(ended), *self._fitted(ended))
        _, weight, calibration = self._fits
        return Learned(weight, calibration, _earned(ended))

    def _fitted(self, ended: Sequence[tuple[datetime, float, Sequence[Sample]]]) -> tuple[float, Calibration]:
        rows = [(s, y) for _, y, samples in ended for s in samples]
        paid = [y for _, y in rows]
        weight = learned_weight([s.mid for s, _ in rows], [s.lean for s, _ in rows], paid, start=self.start)
        return weight, fitted([s.forecast for s, _ in rows], paid, outcomes=len(ended))


def _earned(ended: Sequence[tuple[datetime, float, Sequence[Sample]]]) -> Mapping[str, Earned]:
    """By kind of state, over windows that were searched in it."""
    rows: dict[str, list[tuple[bool, float]]] = {}
    for _, paid, samples in ended:
        by_kind: dict[str, list[Sample]] = {}
        for s in samples:
            if s.searched:
                by_kind.setdefault(s.kind, []).append(s)
        for name, some in by_kind.items():
            losses = log_score([s.mid for s in some] + [s.forecast for s in some], [paid] * 2 * len(some))
            gain = float(losses[: len(some)].mean() - losses[len(some) :].mean())
            rows.setdefault(name, []).append((any(s.found for s in some), gain))
    return {name: _summed(found) for name, found in sorted(rows.items())}


def _summed(rows: Sequence[tuple[bool, float]]) -> Earned:
    n = len(rows)
    mean = sum(gain for _, gain in rows) / n
    variance = sum((gain - mean) ** 2 for _, gain in rows) / max(n - 1, 1)
    return Earned(n, sum(found for found, _ in rows), mean, variance**0.5)
