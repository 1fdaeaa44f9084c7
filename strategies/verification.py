"""Does history bear a claim out? Arithmetic over past windows; reads no database and no clock.

The null is the market mid: if the price was right, the windows in which the claim's feature was in its bucket paid, on
average, what their mids said. One window counts once, whatever the number of rows kept of it. The posterior starts at
the mid with the weight of `PRIOR` windows, so that a short history moves it little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from market.types import UNIT
from strategies.claims import Claim, Effect
from strategies.logit import logit

PRIOR = 100.0
MIN_SUPPORT = 50
NEGLIGIBLE = 0.03
"""A claim of no effect is borne out only where the whole interval lies this close to the mid: less than what a taker
pays at a price of one half."""
_NORMAL = NormalDist()


class Verdict(StrEnum):
    """`SUPPORTED` alone may move a belief."""

    SUPPORTED = "supported"
    THIN = "thin"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    FALSE = "false"
    NOT_A_CLAIM = "not_a_claim"


class Finding(StrEnum):
    """A concrete fault that a correction may answer to."""

    FALSE_NOW = "E1"
    THIN_SUPPORT = "E2"
    WRONG_SIGN = "E3"


@dataclass(frozen=True, slots=True)
class Analog:
    """A past window in which the claim's feature was in its bucket: its mid then, what YES paid, both in [0, 1]."""

    mid: float
    payout: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """`support` windows, of which a share `rate` paid YES where the mids said `base_rate` (the null). `posterior` is
    the shrunk rate with the interval [low, high] at `confidence`, widened for the number of claims tried.
    `log_bayes_factor` compares "off by what the data say" with "the mid was right", in nats."""

    support: int
    rate: float
    base_rate: float
    posterior: float
    low: float
    high: float
    confidence: float
    log_bayes_factor: float

    @property
    def shift(self) -> float:
        """What the evidence adds to the market's log-odds."""
        return logit(self.posterior) - logit(self.base_rate) if self.support else 0.0

    @property
    def shift_sd(self) -> float:
        """Standard deviation of `shift` in log-odds."""
        spread = max(self.posterior * (1 - self.posterior), 1e-4)
        return 1 / math.sqrt(spread * (PRIOR + self.support))


@dataclass(frozen=True, slots=True)
class Checked:
    """A claim with what history says of it."""

    claim: Claim
    evidence: Evidence
    verdict: Verdict
    finding: Finding | None

    @property
    def verified(self) -> bool:
        return self.verdict is Verdict.SUPPORTED


NOTHING = Evidence(0, 0.0, 0.5, 0.5, 0.0, 1.0, 0.9, 0.0)


def weigh(analogs: Sequence[Analog], *, trials: int = 1, confidence: float = 0.9) -> Evidence:
    """Evidence from independent past windows. `trials` claims were tried, so the interval is Bonferroni-widened."""
    k = len(analogs)
    if k == 0:
        return NOTHING
    base = sum(a.mid for a in analogs) / k
    wins = sum(a.payout for a in analogs)
    base = min(max(base, 1e-3), 1 - 1e-3)
    posterior = (PRIOR * base + wins) / (PRIOR + k)
    z = _NORMAL.inv_cdf(1 - (1 - confidence) / (2 * max(trials, 1)))
    sd = math.sqrt(posterior * (1 - posterior) / (PRIOR + k))
    return Evidence(
        support=k,
        rate=wins / k,
        base_rate=base,
        posterior=posterior,
        low=max(0.0, posterior - z * sd),
        high=min(1.0, posterior + z * sd),
        confidence=confidence,
        log_bayes_factor=_log_bayes_factor(wins, k, base),
    )


def _log_bayes_factor(wins: float, k: int, base: float) -> float:
    """Beta-binomial with the prior around the mid against the mid itself."""
    a, b = PRIOR * base, PRIOR * (1 - base)
    alternative = _log_beta(a + wins, b + k - wins) - _log_beta(a, b)
    null = wins * math.log(base) + (k - wins) * math.log(1 - base)
    return alternative - null


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def check(claim: Claim, evidence: Evidence, *, true: bool, min_support: int = MIN_SUPPORT) -> Checked:
    """The verdict on a claim, with the first fault found."""
    if claim.decides:
        return Checked(claim, NOTHING, Verdict.NOT_A_CLAIM, None)
    if not true:
        return Checked(claim, evidence, Verdict.FALSE, Finding.FALSE_NOW)
    if evidence.support < min_support:
        return Checked(claim, evidence, Verdict.THIN, Finding.THIN_SUPPORT)
    return Checked(claim, evidence, *_sign(claim.effect, evidence))


def _sign(effect: Effect, evidence: Evidence) -> tuple[Verdict, Finding | None]:
    above, below = evidence.low > evidence.base_rate, evidence.high < evidence.base_rate
    if effect is Effect.NONE:
        if above or below:
            return Verdict.REFUTED, Finding.WRONG_SIGN
        near = evidence.high - evidence.base_rate < NEGLIGIBLE and evidence.base_rate - evidence.low < NEGLIGIBLE
        return (Verdict.SUPPORTED, None) if near else (Verdict.UNDECIDED, None)
    agrees, contradicts = (above, below) if effect is Effect.UP else (below, above)
    if agrees:
        return Verdict.SUPPORTED, None
    return (Verdict.REFUTED, Finding.WRONG_SIGN) if contradicts else (Verdict.UNDECIDED, None)


def distinct(rows: Sequence[tuple[str, int, int, int]], seconds_left: int) -> list[Analog]:
    """One analog per window from (market id, seconds left, mid, payout) rows: the row nearest in time to close.

    Mids and payouts are micro-dollars.
    """
    nearest: dict[str, tuple[int, int, int]] = {}
    for market_id, left, mid, payout in rows:
        distance = abs(left - seconds_left)
        if market_id not in nearest or distance < nearest[market_id][0]:
            nearest[market_id] = (distance, mid, payout)
    return [Analog(mid / UNIT, payout / UNIT) for _, mid, payout in nearest.values()]
