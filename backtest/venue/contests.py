"""Negative-risk events of the loopback venue: one question with several answers, a Yes/No market for each.

Exactly one of them resolves Yes. The odds are a random walk of all answers together, so that they add up to one, and
books stand around them as around those of a window. From a seed alone.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from backtest.venue.scenarios import Contested, Scenario, shares
from market.types import Book, Level, Market

_CENT = Decimal("0.01")
_DEPTH = 5
_FEE, _CATEGORY = Decimal("0.04"), "politics_fees"


@dataclass(frozen=True, slots=True)
class Contest:
    """A series of negative-risk events on the wall clock's grid, each open for `seconds` and quoted anew every `step`
    seconds. `answers` are at most 256; `sigma` is the movement of their log odds per square-root second, `half_spread`
    in dollars."""

    seed: int
    answers: tuple[str, ...] = ("Ada", "Grace", "Katherine", "Other")
    name: str = "election"
    seconds: int = 900
    step: int = 5
    sigma: float = 0.01
    half_spread: Decimal = _CENT

    def __post_init__(self) -> None:
        if not 2 <= len(self.answers) <= 256:
            raise ValueError("an event has from 2 to 256 answers")

    @property
    def asset(self) -> str:
        """Name of the series; there is no price of it."""
        return self.name

    def tapes(self, opens_at: datetime) -> Sequence[Scenario]:
        """Scenarios of the event that opens then, one for each answer. Each is listed a whole length before."""
        slug = f"{self.name}-{int(opens_at.timestamp())}"
        begins = opens_at - timedelta(seconds=self.seconds)
        chance = random.Random(f"{self.seed}|{slug}")  # noqa: S311 - a simulation, not a secret
        paths = self._odds(2 * self.seconds // self.step, chance)
        (winner,) = chance.choices(range(len(self.answers)), paths[-1])
        return [
            self._tape(slug=slug, index=n, begins=begins, odds=[at[n] for at in paths], won=n == winner)
            for n in range(len(self.answers))
        ]

    def _odds(self, steps: int, chance: random.Random) -> list[list[float]]:
        """Chance of each answer at each step; they add up to one."""
        logs, sigma = [chance.gauss(0.0, 0.5) for _ in self.answers], self.sigma * math.sqrt(self.step)
        found = []
        for _ in range(steps):
            logs = [one + chance.gauss(0.0, sigma) for one in logs]
            weights = [math.exp(one) for one in logs]
            total = sum(weights)
            found.append([one / total for one in weights])
        return found

    def _tape(self, *, slug: str, index: int, begins: datetime, odds: Sequence[float], won: bool) -> Scenario:
        market = self._market(slug, index, begins + timedelta(seconds=self.seconds))
        chance = random.Random(f"{self.seed}|{market.slug}|quotes")  # noqa: S311 - a simulation, not a secret
        step = timedelta(seconds=self.step)
        books = [self._quoted(market, begins + n * step, one, chance) for n, one in enumerate(odds)]
        place = Contested(
            slug=slug,
            title=f"Who wins the {self.name}?",
            market_id=_event_id(self.seed, slug),
            index=index,
            answer=self.answers[index],
        )
        return Scenario(market=market, begins=begins, books=books, ticks=[], payout=Decimal(int(won)), place=place)

    def _market(self, slug: str, index: int, opens_at: datetime) -> Market:
        answer = self.answers[index]
        own = f"{slug}-{answer.lower().replace(' ', '-')}"
        condition, yes, no = (
            hashlib.sha256(f"{self.seed}|{own}|{what}".encode()) for what in ("condition", "yes", "no")
        )
        return Market(
            id=f"0x{condition.hexdigest()}",
            slug=own,
            question=f"Will {answer} win the {self.name}?",
            yes_token=str(int(yes.hexdigest(), 16)),
            no_token=str(int(no.hexdigest(), 16)),
            opens_at=opens_at,
            closes_at=opens_at + timedelta(seconds=self.seconds),
            category=_CATEGORY,
            outcomes=("Yes", "No"),
            fee_rate=_FEE,
            neg_risk=True,
        )

    def _quoted(self, market: Market, at: datetime, odds: float, chance: random.Random) -> Book:
        """Some levels a side around the odds, a cent apart."""
        fair = Decimal(f"{odds:.4f}")
        first = int((fair - self.half_spread) / _CENT), math.ceil((fair + self.half_spread) / _CENT)
        bids = [n for n in range(first[0], first[0] - _DEPTH, -1) if 1 <= n <= 99]
        asks = [n for n in range(first[1], first[1] + _DEPTH) if 1 <= n <= 99]
        sides = ([Level(n * _CENT, shares(chance)) for n in side] for side in (bids, asks))
        shown = [tuple(side) for side in sides]
        return Book(market.id, at, at, shown[0], shown[1])


def _event_id(seed: int, slug: str) -> str:
    """Id of the event's questions together: 32 bytes, the last of which is zero."""
    return "0x" + hashlib.sha256(f"{seed}|{slug}|event".encode()).hexdigest()[:62] + "00"
