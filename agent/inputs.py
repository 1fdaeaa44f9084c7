"""Everything one decision may depend on, as one value that is kept and can be thought through again.

A decision is a function of its `Inputs`, the engine's answers and history as of `as_of`. The record holds the inputs,
so a replay needs no feed and no exchange.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.budget import Limits
from agent.search.tree import Policy
from market.fees import FeeSchedule
from market.types import Book, Market
from strategies.base import View
from strategies.edge import EdgeRule
from strategies.features import Features
from strategies.sizing import Sizing


@dataclass(frozen=True, slots=True)
class Settings:
    """How to think; part of the run's identity. `band` is how far, in seconds to close, an analog may be; `frugal`
    gives a decision only the search that the edge in reach is worth."""

    policy: Policy
    limits: Limits
    rule: EdgeRule
    sizing: Sizing
    shrink: float = 0.1
    max_shift: float = 0.3
    band: int = 60
    max_age: float = 15.0
    self_verify: bool = True
    correct: bool = True
    shadow: bool = False
    answer_tokens: int = 16
    frugal: bool = True


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was known at `as_of`. `source` names the history that may be read; `windows` counts the resolved past
    windows in it. `blocked` is a reason not to look further (no book, stale, halted), or empty."""

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

    def view(self) -> View | None:
        """The market as a strategy sees it; None without a book."""
        if self.book is None:
            return None
        return View(self.market, self.book, self.fees, self.as_of, self.cash, self.held_yes, self.held_no, self.at_risk)

    @property
    def seconds_left(self) -> int:
        return int((self.market.closes_at - self.as_of).total_seconds())
