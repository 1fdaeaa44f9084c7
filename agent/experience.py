"""What outcomes teach while a run goes on: how well calibrated the forecasts were, how much of a verified lean was
right, and in which kinds of state searching has found anything. An outcome counts only after it was known.

Every decision is learnt from, abstentions too. Decisions of one window share its outcome and count as one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.allocation import kind
from agent.inputs import Earned, Learned
from agent.past import AHEAD, NEAR
from agent.thought import Thought
from market.types import Resolution
from strategies.belief import lean
from strategies.calibration import fitted, learned_weight
from strategies.conformal import Adaptive, Band
from strategies.score import log_score

MISSED, RATE = 0.1, 0.02
"""The share of mids that may lie outside their band, and how fast its level follows what was missed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One decision: the market's P(YES), the verified lean in log-odds before shrinking, the forecast before
    calibration; whether it was searched, and whether that found a verified claim. `band` is where the mid was said to
    be `AHEAD` seconds later, and `missed` whether it was not, None where nobody saw."""

    kind: str
    seconds_left: int
    mid: float
    lean: float
    forecast: float
    searched: bool
    found: bool
    band: Band | None
    missed: bool | None = None

    @classmethod
    def of(cls, thought: Thought) -> Sample | None:
        """None for a decision in which no price was seen."""
        if thought.mid is None:
            return None
        made, state = thought.forecast, kind(thought.inputs, thought.gate)
        left, band = thought.inputs.seconds_left, thought.band
        if made is None:
            return cls(state, left, thought.mid, 0.0, thought.mid, False, False, band)
        verified = any(c.verified and c.claim.effect.sign for c in made.path)
        return cls(state, left, thought.mid, lean(made.path)[0], made.arms["correct"], True, verified, band)

    def seen(self, mids: Mapping[int, float]) -> Sample:
        """The same with what became of the mid; `mids` are by seconds to the close."""
        then = self.seconds_left - AHEAD
        at = min(mids, key=lambda left: abs(left - then), default=None)
        if self.band is None or at is None or abs(at - then) > NEAR:
            return self
        return replace(self, missed=mids[at] not in self.band)


@dataclass(slots=True)
class Experience:
    """Decisions of one run, waiting for their outcomes or with them. `start` is the weight of a lean before anything
    was learnt."""

    start: float
    waiting: dict[str, list[Sample]] = field(default_factory=dict)
    known: list[tuple[datetime, float, Sequence[Sample]]] = field(default_factory=list)
    _learned: tuple[int, Learned] | None = None

    def decided(self, market_id: str, thought: Thought) -> None:
        sample = Sample.of(thought)
        if sample is not None:
            self.waiting.setdefault(market_id, []).append(sample)

    def ended(self, resolution: Resolution, mids: Mapping[int, float]) -> None:
        """The outcome of a window, and its mids by seconds to the close; one that stays unresolved teaches nothing."""
        if resolution.payout is None or resolution.market_id not in self.waiting:
            return
        samples = [s.seen(mids) for s in self.waiting.pop(resolution.market_id)]
        self.known.append((resolution.known_at, float(resolution.payout), samples))
        self.known.sort(key=lambda row: row[0])

    def learned(self, as_of: datetime) -> Learned:
        """All that could be learnt strictly before `as_of`."""
        count = bisect_left(self.known, as_of, key=lambda row: row[0])
        if self._learned is None or self._learned[0] != count:
            self._learned = count, self._lesson(self.known[:count])
        return self._learned[1]

    def scored(self) -> tuple[int, float, float]:
        """How many windows have ended, and the mean log scores of the forecasts and of the mids; each window counts
        once."""
        rows = [(float(paid), samples) for _, paid, samples in self.known if samples]
        if not rows:
            return 0, 0.0, 0.0
        ours = [log_score([s.forecast for s in some], [y] * len(some)).mean() for y, some in rows]
        mids = [log_score([s.mid for s in some], [y] * len(some)).mean() for y, some in rows]
        return len(rows), float(sum(ours)) / len(rows), float(sum(mids)) / len(rows)

    def _lesson(self, ended: Sequence[tuple[datetime, float, Sequence[Sample]]]) -> Learned:
        rows = [(window, s, y) for window, (_, y, samples) in enumerate(ended) for s in samples]
        windows, seen, paid = [w for w, _, _ in rows], [s for _, s, _ in rows], [y for _, _, y in rows]
        weight = learned_weight(windows, [s.mid for s in seen], [s.lean for s in seen], paid, start=self.start)
        calibration = fitted([s.forecast for s in seen], paid, outcomes=len(ended))
        level = Adaptive.beginning(MISSED, RATE)
        for sample in seen:
            level = level if sample.missed is None else level.after(sample.missed)
        return Learned(weight, calibration, _earned(ended), level.alpha)


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
