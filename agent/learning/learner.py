"""Online learner: from outcomes to the calibration of forecasts, the weight of verified leans, and the gain of
searching by kind of state. An outcome counts only after the time it was known.

Every decision is learnt from, abstentions too. Decisions of one window share its outcome and count as one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from agent.decision.analogs import AHEAD, NEAR
from agent.decision.decide import Decision
from agent.decision.inputs import Earned, Learned
from agent.decision.search_budget import kind
from market.types import Resolution
from strategies.belief import lean
from strategies.calibration import fitted, learned_weight
from strategies.conformal import Adaptive, Band
from strategies.score import log_score

MISSED, RATE = 0.1, 0.02
"""Target miss rate of the mid's band, and the step size of its adaptive level."""
NEWEST = 5_000
"""Windows that are learnt from, the newest: older ones say little of how a market is priced now, and all that is learnt
from is gone through after every window, in a service that runs for months."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One decision as the learner keeps it: the market's P(YES), the verified lean in log-odds before shrinking, the
    forecast before calibration; `searched` if a search ran, `found` if it found a verified claim. `band` is the
    interval forecast of the mid `AHEAD` seconds later; `missed` is True if the mid fell outside, None if it was not
    observed."""

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
    def of(cls, decision: Decision) -> Sample | None:
        """The sample of a decision; None if the decision saw no price."""
        if decision.mid is None:
            return None
        made, state = decision.forecast, kind(decision.inputs, decision.gate)
        left, band = decision.inputs.seconds_left, decision.band
        if made is None:
            return cls(
                kind=state,
                seconds_left=left,
                mid=decision.mid,
                lean=0.0,
                forecast=decision.mid,
                searched=False,
                found=False,
                band=band,
            )
        verified = any(c.verified and c.claim.effect.sign for c in made.path)
        return cls(
            kind=state,
            seconds_left=left,
            mid=decision.mid,
            lean=lean(made.path)[0],
            forecast=made.arms["correct"],
            searched=True,
            found=verified,
            band=band,
        )

    def seen(self, mids: Mapping[int, float]) -> Sample:
        """The same sample with `missed` filled in; `mids` are by seconds to the close."""
        then = self.seconds_left - AHEAD
        at = min(mids, key=lambda left: abs(left - then), default=None)
        if self.band is None or at is None or abs(at - then) > NEAR:
            return self
        return replace(self, missed=mids[at] not in self.band)


@dataclass(slots=True)
class OnlineLearner:
    """Decisions of one run, waiting for their outcomes or with them. `start` is the prior weight of a lean. More
    windows are kept than are learnt from, so that the result as of a past instant is the same however many came
    later."""

    start: float
    waiting: dict[str, list[Sample]] = field(default_factory=dict)
    known: list[tuple[datetime, float, Sequence[Sample]]] = field(default_factory=list)
    _learned: tuple[int, Learned] | None = None

    def decided(self, market_id: str, decision: Decision) -> None:
        sample = Sample.of(decision)
        if sample is not None:
            self.waiting.setdefault(market_id, []).append(sample)

    def ended(self, resolution: Resolution, mids: Mapping[int, float]) -> None:
        """Record the outcome of a window, and its mids by seconds to the close. An unresolved window teaches
        nothing."""
        if resolution.payout is None or resolution.market_id not in self.waiting:
            return
        samples = [s.seen(mids) for s in self.waiting.pop(resolution.market_id)]
        self.known.append((resolution.known_at, float(resolution.payout), samples))
        # Outcomes arrive out of order; `learned` finds its cut by bisection.
        self.known.sort(key=lambda row: row[0])
        if len(self.known) > 3 * NEWEST:
            # The cached result is keyed by a count of the untrimmed list, so it is dropped with it.
            del self.known[: -2 * NEWEST]
            self._learned = None

    def learned(self, as_of: datetime) -> Learned:
        """Parameters learnt from outcomes known strictly before `as_of`, from the newest windows."""
        count = bisect_left(self.known, as_of, key=lambda row: row[0])
        # Asked at every cycle: until the next outcome the count, and so the result, stays the same.
        if self._learned is None or self._learned[0] != count:
            self._learned = count, self._lesson(self.known[max(0, count - NEWEST) : count])
        return self._learned[1]

    def scored(self) -> tuple[int, float, float]:
        """Over the newest windows: their number, and the mean log scores of the forecasts and of the mids; each window
        has weight one."""
        rows = [(n, s, paid) for n, (_, paid, samples) in enumerate(self.known[-NEWEST:]) for s in samples]
        if not rows:
            return 0, 0.0, 0.0
        _, window, decisions = np.unique([n for n, _, _ in rows], return_inverse=True, return_counts=True)
        paid = [y for _, _, y in rows]
        weights = 1 / decisions[window] / len(decisions)
        ours, mids = log_score([s.forecast for _, s, _ in rows], paid), log_score([s.mid for _, s, _ in rows], paid)
        return len(decisions), float(ours @ weights), float(mids @ weights)

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
    """Gain of searching by kind of state, over windows that were searched in it."""
    rows = [(n, s, paid) for n, (_, paid, samples) in enumerate(ended) for s in samples if s.searched]
    if not rows:
        return {}
    paid = [y for _, _, y in rows]
    gains = log_score([s.mid for _, s, _ in rows], paid) - log_score([s.forecast for _, s, _ in rows], paid)
    by_kind: dict[str, dict[int, list[tuple[bool, float]]]] = {}
    for (n, s, _), gain in zip(rows, gains.tolist(), strict=True):
        by_kind.setdefault(s.kind, {}).setdefault(n, []).append((s.found, gain))
    return {name: _summed([_once(some) for some in windows.values()]) for name, windows in sorted(by_kind.items())}


def _once(decisions: Sequence[tuple[bool, float]]) -> tuple[bool, float]:
    """The decisions of one window as one: True if any found a verified claim, and their mean gain."""
    return any(found for found, _ in decisions), sum(gain for _, gain in decisions) / len(decisions)


def _summed(rows: Sequence[tuple[bool, float]]) -> Earned:
    n = len(rows)
    mean = sum(gain for _, gain in rows) / n
    variance = sum((gain - mean) ** 2 for _, gain in rows) / max(n - 1, 1)
    return Earned(n, sum(found for found, _ in rows), mean, variance**0.5)
