"""Verification of claims against history. Arithmetic over past windows; reads no database and no clock.

The null is the market mid: if the price was right, the windows with the claim's feature in its bucket paid, on average,
their mids. For windows with a reference price, the diffusion is a second null, and a claim must beat both. One window
counts once, whatever the number of its rows. The posterior starts at the mid with the weight of `PRIOR` windows, so
that a short history moves it little, and its interval is widened for the number of claims that a search may try.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from strategies.claims import Claim, Effect
from strategies.logit import logit

Floats = NDArray[np.float64]

PRIOR = 100.0
MIN_SUPPORT = 50
NEGLIGIBLE = 0.03
"""Half-width around the mid that must contain the whole interval for a claim of no effect to be supported: less than a
taker pays at a price of one half."""
INCONSISTENT = 0.5
"""Largest deviation of P(claim) + P(its opposite) from 1 in the model's own answers."""
_NORMAL = NormalDist()


class Verdict(StrEnum):
    """Result of a check. `SUPPORTED` alone may move a belief."""

    SUPPORTED = "supported"
    THIN = "thin"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    FALSE = "false"
    STALE = "stale"
    LEAKED = "leaked"
    NOT_A_CLAIM = "not_a_claim"


HARD_FAILS = frozenset({Verdict.FALSE, Verdict.REFUTED, Verdict.STALE, Verdict.LEAKED})


class Finding(StrEnum):
    """A concrete fault; a correction may address those that other labels could mend."""

    FALSE_NOW = "E1"
    THIN_SUPPORT = "E2"
    WRONG_SIGN = "E3"
    INCONSISTENT = "E4"
    STALE = "E5"
    LOOK_AHEAD = "E6"


MENDABLE = frozenset({Finding.FALSE_NOW, Finding.WRONG_SIGN, Finding.INCONSISTENT})
"""Faults of the chosen labels. Thin, stale or leaked history is not among them: no other label mends it."""


@dataclass(frozen=True, slots=True, eq=False)
class AnalogArrays:
    """Past windows with the claim's feature in its bucket, each once: mids then, YES payouts and the diffusion's
    probabilities (the mid without a reference), each (n,) in [0, 1]. `age` is seconds since the newest of them became
    known."""

    mids: Floats
    payouts: Floats
    diffusions: Floats
    age: float = math.inf

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]], age: float = math.inf) -> AnalogArrays:
        """Build from (mid, payout) of each window, without a reference."""
        both = np.array(pairs, np.float64).reshape(-1, 2)
        return cls(both[:, 0], both[:, 1], both[:, 0], age)


@dataclass(frozen=True, slots=True)
class Evidence:
    """`support` windows, of which a share `rate` paid YES against `base_rate` by the mids and `rival_rate` by the
    diffusion (the nulls). `posterior` is the shrunk rate with the interval [low, high] at `confidence`, widened for the
    number of claims tried. `log_bayes_factor` compares the observed deviation with the likelier null, in nats. `age` is
    the newest window's, in whole seconds; None without windows."""

    support: int
    rate: float
    base_rate: float
    rival_rate: float
    posterior: float
    low: float
    high: float
    confidence: float
    log_bayes_factor: float
    age: int | None = None

    @property
    def shift(self) -> float:
        """Shift of the market's log-odds by the evidence."""
        return logit(self.posterior) - logit(self.base_rate) if self.support else 0.0

    @property
    def shift_sd(self) -> float:
        """Standard deviation of `shift` in log-odds."""
        spread = max(self.posterior * (1 - self.posterior), 1e-4)
        return 1 / math.sqrt(spread * (PRIOR + self.support))

    @property
    def sign(self) -> int:
        """+1 if the whole interval lies above both nulls, -1 if below both, else 0."""
        above = self.low > max(self.base_rate, self.rival_rate)
        below = self.high < min(self.base_rate, self.rival_rate)
        return above - below if self.support else 0


@dataclass(frozen=True, slots=True)
class Checked:
    """A claim with its evidence and verdict."""

    claim: Claim
    evidence: Evidence
    verdict: Verdict
    finding: Finding | None

    @property
    def verified(self) -> bool:
        return self.verdict is Verdict.SUPPORTED


NOTHING = Evidence(
    support=0,
    rate=0.0,
    base_rate=0.5,
    rival_rate=0.5,
    posterior=0.5,
    low=0.0,
    high=1.0,
    confidence=0.9,
    log_bayes_factor=0.0,
)


def weigh(analogs: AnalogArrays, *, trials: int = 1, confidence: float = 0.9) -> Evidence:
    """Evidence from independent past windows. `trials` claims may be tried, so the interval is Bonferroni-widened."""
    k = len(analogs.mids)
    if k == 0:
        return NOTHING
    base, rival = _inside(_summed(analogs.mids) / k), _inside(_summed(analogs.diffusions) / k)
    wins = _summed(analogs.payouts)
    posterior = (PRIOR * base + wins) / (PRIOR + k)
    z = _NORMAL.inv_cdf(1 - (1 - confidence) / (2 * max(trials, 1)))
    sd = math.sqrt(posterior * (1 - posterior) / (PRIOR + k))
    return Evidence(
        support=k,
        rate=wins / k,
        base_rate=base,
        rival_rate=rival,
        posterior=posterior,
        low=max(0.0, posterior - z * sd),
        high=min(1.0, posterior + z * sd),
        confidence=confidence,
        log_bayes_factor=min(_log_bayes_factor(wins, k, null, base) for null in (base, rival)),
        age=None if math.isinf(analogs.age) else int(analogs.age),
    )


def _summed(values: Floats) -> float:
    return float(np.add.reduce(values))  # what `sum` and `mean` come to, without their way there


def _inside(p: float) -> float:
    # Off 0 and 1, where the log-likelihood of the null is infinite.
    return min(max(p, 1e-3), 1 - 1e-3)


def _log_bayes_factor(wins: float, k: int, null: float, centre: float) -> float:
    """Beta-binomial with the prior around the mid against a known rate."""
    a, b = PRIOR * centre, PRIOR * (1 - centre)
    alternative = _log_beta(a + wins, b + k - wins) - _log_beta(a, b)
    return alternative - (wins * math.log(null) + (k - wins) * math.log(1 - null))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def check(
    claim: Claim, evidence: Evidence, *, true: bool, min_support: int = MIN_SUPPORT, fresh_for: float = math.inf
) -> Checked:
    """Verdict on a claim, with the first fault found. `fresh_for` is the largest age of the newest window in seconds: a
    market without newer ones may have changed its regime."""
    if claim.decides:
        return Checked(claim, NOTHING, Verdict.NOT_A_CLAIM, None)
    return Checked(claim, evidence, *_judged(claim.effect, evidence, true, min_support, fresh_for))


def _judged(
    effect: Effect, evidence: Evidence, true: bool, min_support: int, fresh_for: float
) -> tuple[Verdict, Finding | None]:
    age = evidence.age
    # Look-ahead first: evidence from the future invalidates everything else.
    if age is not None and age < 0:
        return Verdict.LEAKED, Finding.LOOK_AHEAD
    if not true:
        return Verdict.FALSE, Finding.FALSE_NOW
    if age is not None and age > fresh_for:
        return Verdict.STALE, Finding.STALE
    if evidence.support < min_support:
        return Verdict.THIN, Finding.THIN_SUPPORT
    return _sign(effect, evidence)


def _sign(effect: Effect, evidence: Evidence) -> tuple[Verdict, Finding | None]:
    sign, base = evidence.sign, evidence.base_rate
    if effect is Effect.NONE:
        if sign:
            return Verdict.REFUTED, Finding.WRONG_SIGN
        near = evidence.high - base < NEGLIGIBLE and base - evidence.low < NEGLIGIBLE
        return (Verdict.SUPPORTED, None) if near else (Verdict.UNDECIDED, None)
    if sign == effect.sign:
        return Verdict.SUPPORTED, None
    # Against the mid alone: the diffusion may fail to confirm a claim, but does not refute it.
    against = evidence.high < base if effect is Effect.UP else evidence.low > base
    return (Verdict.REFUTED, Finding.WRONG_SIGN) if against else (Verdict.UNDECIDED, None)


def self_support(claimed: float, opposed: float) -> tuple[float, float]:
    """Self-consistency of the model's two verdicts: P("yes") to the claim and to its opposite.

    Half the difference of their log-odds, within [-3, 3], so that yes to everything counts for nothing; and the
    deviation of the two from a sum of 1.
    """
    lean = (logit(claimed) - logit(opposed)) / 2
    return min(max(lean, -3.0), 3.0), abs(claimed + opposed - 1)


def multiplicity(trials: int) -> float:
    """Standard deviations that the best of `trials` claims of pure noise reaches half the time or more."""
    return _NORMAL.inv_cdf(1 - 1 / trials) if trials > 2 else 0.0
