"""Analogs: past windows that resemble the present one, and the evidence they give on a claim.

Nothing here costs tokens. Rows come from the store, cut to what was known as of the decision; nothing is written.
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
"""Horizon of a band in seconds, and the tolerance of a stored row around that instant."""
HALF_LIFE = 200.0
"""Half-life of a move's weight in a band, in windows."""
_GAP = list(SCALES).index("gap")
_MICROSECOND = timedelta(microseconds=1)


class History(Protocol):
    """Read access to past windows; the store implements it."""

    async def past(
        self, source: str, *, as_of: datetime, window: int, embargo: timedelta = timedelta(0)
    ) -> WindowHistory:
        """Windows of this length that were over, with their outcome known, strictly before `as_of` less `embargo`."""
        ...


@dataclass(slots=True)
class Analogs:
    """Past windows around this time to close, and the evidence already drawn from them. `trials` is the number of
    claims the search may test: intervals widen with it."""

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
        """Every window around this time to close, once: the training set of the baselines."""
        return self.windows.around(self.band)

    def check(self, claim: Claim) -> Checked:
        """The claim with its evidence from history and the verdict on it."""
        if claim.decides:
            return Checked(claim, NOTHING, Verdict.NOT_A_CLAIM, None)
        evidence = self.evidence(claim.feature, claim.bucket, self.trials)
        rule, fresh = self.settings.rule, self.settings.fresh_for
        true = true_now(claim, self.buckets)
        return check(claim, evidence, true=true, min_support=rule.min_support, fresh_for=fresh)

    def evidence(self, feature: str, bucket: str, trials: int) -> Evidence:
        """Evidence from the windows in which the feature was in this bucket."""
        key = (feature, bucket, trials)
        if key not in self.drawn:
            alike = self.alike.get((feature, bucket))
            if alike is None:
                alike = self.alike[feature, bucket] = self._analogs(feature, bucket)
            self.drawn[key] = weigh(alike, trials=trials)
        return self.drawn[key]

    def hopes(self) -> frozenset[str]:
        """Features of which a claim that is true now would verify as a single test. The others cannot survive the wider
        interval of many trials, so no search can find them."""
        if self.hoped is None:
            least = self.settings.rule.min_support
            enough = {f: b for f, b in self.buckets.items() if len(self.windows.like(f, b, self.band)) >= least}
            one = {f: self.evidence(f, b, 1) for f, b in enough.items()}
            self.hoped = frozenset(f for f, e in one.items() if e.sign and e.support >= least)
        return self.hoped

    def reach(self, alpha: float) -> Band | None:
        """Interval that holds the mid `AHEAD` seconds from now with probability at least 1 - `alpha`, from its moves
        over the same time in past windows, newer ones weighted more. None with too few windows, or if the market closes
        first."""
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
        """Moves in log-odds from this time to close to `then`, in the order in which the windows became known."""
        before, after = self.rows(), self.windows.around(then)
        _, i, j = np.intersect1d(self.windows.market[before], self.windows.market[after], return_indices=True)
        if not len(i):
            return []
        order = np.argsort(self.windows.known_at[before[i]], kind="stable")
        moved: list[float] = (self.log_odds(after[j])[0] - self.log_odds(before[i])[0])[order].tolist()
        return moved

    def digest(self) -> str:
        """SHA-256 over the rows that the decision may read."""
        return self.windows.once(("digest", self.band), lambda: self.windows.digest(self.rows()))

    def log_odds(self, rows: Rows) -> tuple[Floats, Floats, Floats]:
        """(market log-odds, their excess over the diffusion's, payout of YES from 0 to 1) of these rows."""
        # Log-odds of 0 and 1 are infinite.
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
        """The `most` rows nearest to the present state, nearest first, ties by the earlier row. `at` are positions
        among the rows inside the band, each of another market."""
        if self.squares is None:
            self.squares = self.windows.distances(scaled(self.now), self._inside())
        squares = self.squares[at]
        # The partition finds the threshold in linear time; all ties at it are kept until the stable sort, so that the
        # choice among them does not depend on the partition.
        near = np.flatnonzero(squares <= np.partition(squares, most - 1)[most - 1])
        return near[np.argsort(squares[near], kind="stable")[:most]]

    def _inside(self) -> Rows:
        return self.windows.around(self.band, per_market=False)


@dataclass(frozen=True, slots=True, eq=False)
class _Alike:
    """Windows in which a feature was in one bucket: positions among the rows inside the band, and the columns that are
    weighed. Computed once for all decisions that read the same history."""

    at: Rows
    mids: Floats
    diffusions: Floats
    payouts: Floats
    known_at: Rows

    def only(self, which: Rows) -> _Alike:
        mids, diffusions, payouts = self.mids[which], self.diffusions[which], self.payouts[which]
        return _Alike(self.at[which], mids, diffusions, payouts, self.known_at[which])


def scaled(seen: Features) -> tuple[float, ...]:
    """Feature values in units of the distance scales, as history stores them."""
    return tuple(number / scale for number, scale in zip(seen.state, SCALES.values(), strict=True))


async def look_back(inputs: Inputs, features: Features, history: History, trials: int) -> Analogs:
    """The analogs of one decision."""
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
    """Minimum time for which an outcome must have been known before it counts."""
    return timedelta(seconds=length if settings.embargo is None else settings.embargo)


@dataclass(frozen=True, slots=True)
class PlaceboHistory:
    """A history with every outcome redrawn at the window's own market price: the placebo of verification. The mid is
    right by construction, so anything verified against it is no skill. The rows of a window share one draw, which stays
    the same as more becomes known, until there are so many windows that old ones are dropped: a draw goes by a window's
    rank among those read. The seed makes it reproducible."""

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
