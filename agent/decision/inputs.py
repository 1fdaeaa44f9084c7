"""Inputs of a decision: everything it may depend on, as one value that is recorded and can be replayed.

A decision is a function of its `Inputs`, the engine's answers and history as of `as_of`. The record holds the inputs,
so a replay needs no feed and no exchange.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.search.tree import Policy
from market.fees import FeeSchedule
from market.types import Book, Market
from strategies.base import View
from strategies.calibration import IDENTITY, Calibration
from strategies.edge import EdgeRule
from strategies.features import Features
from strategies.sizing import Sizing


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds` is None where the deadline is counted in tokens (replays). `cost` and `token_price` are dollars; the
    price is the owner's estimate of what a token costs on the box."""

    tokens: int
    seconds: float | None
    cost: float
    token_price: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Parameters of a decision; part of the run's identity. In seconds: `band` is the largest difference in time to
    close of an analog, `embargo` the minimum time for which a window's outcome must have been known (None is one
    window's length), `fresh_for` the maximum age of the newest analog. `analogs` is the maximum number of windows that
    are weighed, the nearest first. `external` lets history judge; without it only the model's own verdict counts.
    `frugal` limits a decision to the search that the edge in reach is worth."""

    policy: Policy
    limits: Limits
    rule: EdgeRule
    sizing: Sizing
    shrink: float
    max_shift: float
    band: int = 60
    embargo: int | None
    fresh_for: float
    analogs: int
    max_age: float
    external: bool = True
    self_verify: bool
    correct: bool
    shadow: bool
    answer_tokens: int
    frugal: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Earned:
    """Results of searching in one kind of state: of `n` searched windows with a known outcome, `found` had a verified
    claim; `gain` is the log score gained over the mid, in nats a window, `sd` its standard deviation."""

    n: int
    found: int
    gain: float
    sd: float


@dataclass(frozen=True, slots=True)
class Learned:
    """Parameters learnt from the outcomes known so far: the weight of verified leans, the calibration of the forecast,
    and the gain of searching by kind of state. `alpha` is the nominal miss rate of a band of the mid at which, in the
    long run, a tenth of the mids fall outside."""

    weight: float
    calibration: Calibration = IDENTITY
    earned: Mapping[str, Earned] = field(default_factory=dict)
    alpha: float = 0.1


@dataclass(frozen=True, slots=True)
class Inputs:
    """Information available at `as_of`. `source` names the history that may be read; `windows` counts the resolved past
    windows in it. `blocked` is a reason not to trade (no book, stale, halted), or empty. `learned` comes from earlier
    outcomes. `cash` and `at_risk` are micro-dollars, holdings micro-shares."""

    market: Market
    as_of: datetime
    source: str
    book: Book | None
    features: Features | None
    fees: FeeSchedule
    cash: int
    held_yes: int
    held_no: int
    at_risk: int
    windows: int
    blocked: str
    settings: Settings
    learned: Learned

    def view(self) -> View | None:
        """The market as a strategy sees it; None without a book."""
        if self.book is None:
            return None
        return View(
            market=self.market,
            book=self.book,
            fees=self.fees,
            at=self.as_of,
            cash=self.cash,
            held_yes=self.held_yes,
            held_no=self.held_no,
            at_risk=self.at_risk,
        )

    @property
    def seconds_left(self) -> int:
        return int((self.market.closes_at - self.as_of).total_seconds())


def identify(run_id: str, market_id: str, as_of: datetime) -> str:
    """Decision id from run, market and slot: a cycle that is run again gives the same decision."""
    return hashlib.sha256(f"{run_id}|{market_id}|{as_of.isoformat()}".encode()).hexdigest()[:12]
