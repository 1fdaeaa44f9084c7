"""The past as one decision may look at it: which windows were like the present one, and what they say of a claim.

Everything here costs no tokens. Rows come from the store, cut to what was known by then; nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.decision.inputs import Inputs, Settings
from market.clock import EPOCH
from market.types import UNIT
from storage.analogs import WindowHistory
from strategies.claims import Claim, true_now
from strategies.conformal import Band, band, decayed
from strategies.features import SCALES, Features
from strategies.logit import logit, sigmoid
from strategies.verification import NOTHING, AnalogArrays, Checked, Evidence, Verdict, check, weigh

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

AHEAD, NEAR = 60, 15
"""Seconds that a band looks ahead, and how far from that instant a kept row may be."""
HALF_LIFE = 200.0
"""Windows after which a move counts half in a band."""
_GAP = list(SCALES).index("gap")
_MICROSECOND = timedelta(microseconds=1)


class History(Protocol):
    """What may be read of the past; the store is one."""

    async def past(
        self, source: str, *, as_of: datetime, window: int, embargo: timedelta = timedelta(0)
    ) -> WindowHistory:
        """Windows of this length that were over, with their outcome known, strictly before `as_of` less `embargo`."""
        ...


@dataclass(slots=True)
class Analogs:
    """Windows of history around this time to close, and the evidence already drawn from them. `trials` is how many
    claims the search may try."""

    windows: WindowHistory
    now: Features
    band: tuple[int, int]
    as_of: datetime
    trials: int
    settings: Settings
    drawn: dict[tuple[str, str, int], Evidence] = field(default_factory=dict)
    hoped: frozenset[str] | None = None
    alike: dict[tuple[str, str], AnalogArrays] = field(default_factory=dict)
    squares: Floats | None = None

    @property
    def buckets(self) -> Mapping[str, str]:
        return self.now.buckets

    def rows(self) -> Rows:
        """Every window around this time to close, once: what baselines may be fitted on."""
        return self.windows.around(self.band)

    def check(self, claim: Claim) -> Checked:
        """The claim with what history says of it."""
        if claim.decides:
            return Checked(claim, NOTHING, Verdict.NOT_A_CLAIM, None)
        evidence = self.evidence(claim.feature, claim.bucket, self.trials)
        rule, fresh = self.settings.rule, self.settings.fresh_for
        true = true_now(claim, self.buckets)
        return check(claim, evidence, true=true, min_support=rule.min_support, fresh_for=fresh)

    def evidence(self, feature: str, bucket: str, trials: int) -> Evidence:
        """What the windows in which the feature was in this bucket came to."""
        key = (feature, bucket, trials)
        if key not in self.drawn:
            alike = self.alike.get((feature, bucket))
            if alike is None:
                alike = self.alike[feature, bucket] = self._analogs(feature, bucket)
            self.drawn[key] = weigh(alike, trials=trials)
        return self.drawn[key]

    def hopes(self) -> frozenset[str]:
        """Features of which a claim that is true now could be verified by itself. What is not here cannot survive the
        wider interval of many trials, so no search can find it."""
        if self.hoped is None:
            least = self.settings.rule.min_support
            enough = {f: b for f, b in self.buckets.items() if len(self.windows.like(f, b, self.band)) >= least}
            one = {f: self.evidence(f, b, 1) for f, b in enough.items()}
            self.hoped = frozenset(f for f, e in one.items() if e.sign and e.support >= least)
        return self.hoped

    def reach(self, alpha: float) -> Band | None:
        """Where the mid will be `AHEAD` seconds from now with a chance of at least 1 - `alpha`, from how far it moved
        in as much time in the windows before, newer ones counting more; None where too few of them say, or the market
        closes first."""
        left = self.now.seconds_left - AHEAD
        if left <= 0:
            return None
        after = (left - NEAR, left + NEAR)
        moves = self.windows.once(("moves", self.band, after), lambda: self._moves(after))
        if len(moves) < self.settings.rule.min_support:
            return None
        weights = decayed(len(moves), HALF_LIFE)
        reach = self.windows.once(("reach", self.band, after, alpha), lambda: band(0.0, moves, alpha, weights).high)
        odds = logit(self.now.mid / UNIT)
        return Band(sigmoid(odds - reach), sigmoid(odds + reach))

    def _moves(self, then: tuple[int, int]) -> list[float]:
        """By how much the log-odds moved from this time to close to that one, by when the window became known."""
        before, after = self.rows(), self.windows.around(then)
        _, i, j = np.intersect1d(self.windows.market[before], self.windows.market[after], return_indices=True)
        if not len(i):
            return []
        order = np.argsort(self.windows.known_at[before[i]], kind="stable")
        moved: list[float] = (self.log_odds(after[j])[0] - self.log_odds(before[i])[0])[order].tolist()
        return moved

    def digest(self) -> str:
        """SHA-256 over the rows that could be looked at."""
        return self.windows.once(("digest", self.band), lambda: self.windows.digest(self.rows()))

    def log_odds(self, rows: Rows) -> tuple[Floats, Floats, Floats]:
        """(market's log-odds, how far they lie above the diffusion's, what YES paid) of these rows."""
        mids = np.clip(self.windows.mid[rows] / UNIT, 1e-4, 1 - 1e-4)
        gaps = self.windows.states[rows, _GAP] * SCALES["gap"]
        return np.log(mids / (1 - mids)), gaps.astype(np.float64), self.windows.payout[rows] / UNIT

    def _analogs(self, feature: str, bucket: str) -> AnalogArrays:
        if not len(self.windows.like(feature, bucket, self.band)):
            return AnalogArrays.of([])
        alike = self.windows.once(("alike", feature, bucket, self.band), lambda: self._alike(feature, bucket))
        if len(alike.at) > self.settings.analogs:
            alike = alike.only(self.nearest(alike.at, self.settings.analogs))
        newest = EPOCH + int(alike.known_at.max()) * _MICROSECOND
        return AnalogArrays(alike.mids, alike.payouts, alike.diffusions, (self.as_of - newest).total_seconds())

    def _alike(self, feature: str, bucket: str) -> _Alike:
        rows = self.windows.like(feature, bucket, self.band)
        odds, gaps, payouts = self.log_odds(rows)
        mids, diffusions = 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(gaps - odds))
        return _Alike(self._inside().searchsorted(rows), mids, diffusions, payouts, self.windows.known_at[rows])

    def nearest(self, at: Rows, most: int) -> Rows:
        """Which of some rows, named by their places among those inside the band and each of another market, are most
        like now: the nearest first and of two as near the earlier."""
        if self.squares is None:
            self.squares = self.windows.distances(scaled(self.now), self._inside())
        squares = self.squares[at]
        near = np.flatnonzero(squares <= np.partition(squares, most - 1)[most - 1])
        return near[np.argsort(squares[near], kind="stable")[:most]]

    def _inside(self) -> Rows:
        return self.windows.around(self.band, per_market=False)


@dataclass(frozen=True, slots=True, eq=False)
class _Alike:
    """Windows in which a feature was in one bucket: their places among the rows inside the band, and what is weighed
    of them. Made once for all decisions that look at the same past."""

    at: Rows
    mids: Floats
    diffusions: Floats
    payouts: Floats
    known_at: Rows

    def only(self, which: Rows) -> _Alike:
        mids, diffusions, payouts = self.mids[which], self.diffusions[which], self.payouts[which]
        return _Alike(self.at[which], mids, diffusions, payouts, self.known_at[which])


def scaled(seen: Features) -> tuple[float, ...]:
    """The numbers behind the features in steps of distance, as history keeps them."""
    return tuple(number / scale for number, scale in zip(seen.state, SCALES.values(), strict=True))


async def look_back(inputs: Inputs, features: Features, history: History, trials: int) -> Analogs:
    """The past of one decision."""
    settings, left, length = inputs.settings, inputs.seconds_left, inputs.market.seconds
    windows = await history.past(inputs.source, as_of=inputs.as_of, window=length, embargo=embargo_of(settings, length))
    return Analogs(
        windows=windows,
        now=features,
        band=(left - settings.band, left + settings.band),
        as_of=inputs.as_of,
        trials=trials,
        settings=settings,
    )


def embargo_of(settings: Settings, length: int) -> timedelta:
    """How long an outcome must have been known before it counts."""
    return timedelta(seconds=length if settings.embargo is None else settings.embargo)


@dataclass(frozen=True, slots=True)
class PlaceboHistory:
    """A history in which every window was drawn at its own market price: the placebo of verification. Here the mid is
    right by construction, so what is verified all the same is no skill. The rows of a window share one draw, and it
    stays what it is however much becomes known later, until windows are so many that old ones leave the past: a draw
    goes by a window's place among those that are read. The seed makes it repeatable."""

    history: History
    seed: int

    async def past(
        self, source: str, *, as_of: datetime, window: int, embargo: timedelta = timedelta(0)
    ) -> WindowHistory:
        seen = await self.history.past(source, as_of=as_of, window=window, embargo=embargo)
        _, first, rows = np.unique(seen.market, return_index=True, return_inverse=True)
        by_age = np.argsort(np.argsort(first))
        drawn = np.random.default_rng(self.seed).random(len(first))[by_age][rows]
        return replace(seen, payout=np.where(drawn < seen.mid / UNIT, UNIT, 0))
