"""What the agent has to beat: the market's own price, a diffusion, and one simple rule that trades. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist

from market.rules import on_grid
from market.types import UNIT, Book, Outcome, Side
from strategies.base import View, Wish
from strategies.edge import offered
from strategies.sizing import shares_for

_NORMAL = NormalDist()

NO_DIFFUSION = "no reference price series in this data: a diffusion has nothing to diffuse"


def market_mid(book: Book) -> float | None:
    """The null of every claim: P(YES) is the mid."""
    return None if book.mid is None else float(book.mid)


def diffusion(reference: float, strike: float, sigma: float, seconds_left: float) -> float:
    """P(close >= strike) for a driftless log-price: Phi(ln(S/K) / (sigma sqrt(t))).

    `sigma` is per square-root second. At no time left, or no volatility, it is the sign of S - K; a tie is Up.
    """
    if reference <= 0 or strike <= 0 or sigma < 0:
        raise ValueError("prices must be positive and sigma must not be negative")
    width = sigma * math.sqrt(max(seconds_left, 0.0))
    if width == 0:
        return 1.0 if reference >= strike else 0.0
    return _NORMAL.cdf(math.log(reference / strike) / width)


@dataclass(frozen=True, slots=True)
class MarketMid:
    """Believes the mid, so it never finds an edge: the strategy that has no costs and no gains."""

    name: str = "market_mid"

    def decide(self, view: View) -> Wish | None:
        return None


@dataclass(frozen=True, slots=True)
class LateFavourite:
    """Buys the favourite once in the last `seconds` of a window, where its ask lies in [low, high], and holds it."""

    name: str = "late_favourite"
    seconds: int = 120
    low: Decimal = Decimal("0.60")
    high: Decimal = Decimal("0.90")
    stake: int = 10 * UNIT

    def decide(self, view: View) -> Wish | None:
        if view.held_yes or view.held_no or not 0 < view.seconds_left <= self.seconds or view.book.crossed:
            return None
        for outcome in Outcome:
            own = view.book.of(outcome)
            ask = own.best_ask
            if ask is None or not self.low <= ask <= self.high or not on_grid(ask, view.market.tick):
                continue
            cost = ask + view.fees.per_share(ask)
            size = shares_for(min(self.stake, view.cash), cost, available=offered(own, ask))
            if size >= view.market.min_size:
                return Wish(outcome, Side.BUY, ask, size, f"favourite at {ask} with {view.seconds_left:.0f} s left")
        return None
