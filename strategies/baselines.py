"""Baselines for the agent: the market's own price, a diffusion, and simple rules that trade. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from market.columns import NOBODY, Columns, Mask
from market.feed import ReferenceTick
from market.rules import on_grid, resolution_rule
from market.types import UNIT, Market, Micro, Outcome, Side, micro
from strategies.base import OrderIntent, View
from strategies.edge import offered
from strategies.sizing import shares_for

_NORMAL = NormalDist()

VOLATILITY_SPAN = timedelta(minutes=15)
"""Span of ticks before the instant: enough of them for the estimate, and all of an averaging window."""

_SPACING = 10.0
"""Seconds between the ticks that returns are taken over. Settlement streams are smoothed: over one second they move
a third less than a diffusion that moves as much in five minutes; from ten seconds on the difference is gone."""
_LEAST_RETURNS = 10

NO_DIFFUSION = "no reference price series in this data: a diffusion has nothing to diffuse"


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


def average_diffusion(
    reference: float, strike: float, sigma: float, seconds_left: float, window: float, so_far: float | None = None
) -> float:
    """P(average over the last `window` seconds >= strike) for a driftless log-price.

    The average of a log-price over the next h seconds, begun d seconds from now, is normal around the present one with
    variance sigma^2 (d + h/3); the average of prices is taken to be log-normal with the same moments, which over
    minutes is exact to a hundredth of a basis point. Inside the window, the e elapsed seconds with their average
    `so_far` are known, and the rest has to average (window K - e so_far) / h or more. A strike that is itself an
    average is a number like any other.
    """
    ahead = min(seconds_left, window)
    if ahead >= window:
        return diffusion(reference, strike, sigma, seconds_left - window + window / 3)
    if so_far is None:
        raise ValueError("inside the averaging window, the average so far is needed")
    if ahead <= 0:
        return 1.0 if so_far >= strike else 0.0
    needed = (window * strike - (window - ahead) * so_far) / ahead
    return 1.0 if needed <= 0 else diffusion(reference, needed, sigma, ahead / 3)


def realised_volatility(
    ticks: Sequence[ReferenceTick], *, spacing: float = _SPACING, half_life: float | None = None
) -> float | None:
    """Standard deviation of the log-price per square-root second, or None for too few ticks.

    The square root of sum(r^2) / sum(dt), over returns between ticks at least `spacing` seconds apart by the source's
    time: for a driftless price it needs no regular grid, and two ticks a moment apart cannot blow it up. Of ticks with
    one source time the last received counts. With a `half_life` in seconds both sums fade with age. A price that never
    moved has no defined volatility.
    """
    prices = {t.at: t.price for t in sorted(ticks, key=lambda t: t.received_at)}
    kept: list[datetime] = []
    for at in sorted(prices):
        if not kept or (at - kept[-1]).total_seconds() >= spacing:
            kept.append(at)
    squares = seconds = 0.0
    for before, now in pairwise(kept):
        fade = 1.0 if half_life is None else 0.5 ** ((kept[-1] - now).total_seconds() / half_life)
        squares += fade * math.log(prices[now] / prices[before]) ** 2
        seconds += fade * (now - before).total_seconds()
    return math.sqrt(squares / seconds) if len(kept) > _LEAST_RETURNS and squares > 0 else None


def p_up(market: Market, ticks: Sequence[ReferenceTick], at: datetime) -> float | None:
    """P(YES) of an Up/Down window by its dated rule, as of `at`; None without a price to beat, a tick or a volatility,
    and before the window opens, when the price to beat is not known.

    The path since the newest tick is as unknown as the future, so time runs from that tick.
    """
    known = (t for t in ticks if t.received_at <= at and t.at <= market.closes_at)
    seen = sorted(known, key=lambda t: (t.at, t.received_at))
    sigma = realised_volatility(seen)
    if at < market.opens_at or market.price_to_beat is None or sigma is None:
        return None
    last, strike = float(seen[-1].price), float(market.price_to_beat)
    # Under an averaging rule a part of the result is already fixed inside the last window: it enters as `so_far`.
    left = (market.closes_at - seen[-1].at).total_seconds()
    window = resolution_rule(market.opens_at, market.seconds).average_seconds
    if not window:
        return diffusion(last, strike, sigma, left)
    so_far = average_price(seen, market.closes_at - timedelta(seconds=window)) if left < window else None
    return average_diffusion(last, strike, sigma, left, window, so_far)


def average_price(ticks: Sequence[ReferenceTick], since: datetime) -> float:
    """Time-weighted price from `since` to the last tick, each price standing until the next.

    `ticks` are in order of the source's time and end after `since`; before the first of them its price is used.
    """
    inside = [t for t in ticks if t.at > since]
    earlier = ticks[: len(ticks) - len(inside)]
    standing = earlier[-1] if earlier else inside[0]
    spans = [(b - a).total_seconds() for a, b in pairwise([since, *(t.at for t in inside)])]
    prices = [float(t.price) for t in (standing, *inside[:-1])]
    return math.fsum(p * s for p, s in zip(prices, spans, strict=True)) / math.fsum(spans)


@dataclass(frozen=True, slots=True)
class MarketMid:
    """Forecasts the mid, so it never finds an edge: the strategy without costs and gains."""

    name: str = "market_mid"
    once: bool = True

    def decide(self, view: View) -> OrderIntent | None:
        return None

    def worth(self, market: Market, books: Columns, held_yes: Micro, held_no: Micro) -> Mask:
        return np.zeros(len(books), np.bool_)


@dataclass(frozen=True, slots=True)
class LateFavourite:
    """Buys the favourite once in the last `seconds` of a window if its ask lies in [low, high], and holds it."""

    name: str = "late_favourite"
    once: bool = True
    seconds: int = 120
    low: Decimal = Decimal("0.60")
    high: Decimal = Decimal("0.90")
    stake: int = 10 * UNIT

    def decide(self, view: View) -> OrderIntent | None:
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
                return OrderIntent(
                    outcome, Side.BUY, ask, size, f"favourite at {ask} with {view.seconds_left:.0f} s left"
                )
        return None

    def worth(self, market: Market, books: Columns, held_yes: Micro, held_no: Micro) -> Mask:
        if held_yes or held_no:
            return np.zeros(len(books), np.bool_)
        left = books.before(market.closes_at)
        low, high = micro(self.low), micro(self.high)
        # An empty side gives NOBODY (-1), which is outside [low, high] for YES and above 1 for NO: neither passes.
        yes, no = books.asks.best, UNIT - books.bids.best
        favoured = ((yes >= low) & (yes <= high)) | ((no >= low) & (no <= high))
        late: Mask = (left > 0) & (left <= self.seconds * 1000)
        return late & favoured


@dataclass(frozen=True, slots=True)
class Diffusion:
    """Forecasts by the reference price alone: buys, once a market, shares that a driftless log-price values above their
    cost by `margin` dollars, and holds them."""

    name: str = "diffusion"
    once: bool = True
    every: float = 1.0
    margin: Decimal = Decimal("0.05")
    stake: int = 10 * UNIT

    def decide(self, view: View) -> OrderIntent | None:
        if view.reference is None or view.held_yes or view.held_no or view.book.crossed:
            return None
        for outcome, worth in ((Outcome.YES, view.reference), (Outcome.NO, 1 - view.reference)):
            own = view.book.of(outcome)
            ask = own.best_ask
            if ask is None or not on_grid(ask, view.market.tick):
                continue
            cost = ask + view.fees.per_share(ask)
            size = shares_for(min(self.stake, view.cash), cost, available=offered(own, ask))
            if worth - float(cost) > float(self.margin) and size >= view.market.min_size:
                return OrderIntent(outcome, Side.BUY, ask, size, f"the diffusion says {worth:.3f}, it costs {cost:.4f}")
        return None


@dataclass(frozen=True, slots=True)
class Threshold:
    """Buys `size` YES shares at or below `low` and sells them at or above `high`, repeatedly: no forecast, and the
    reference rule for comparing replays."""

    name: str = "threshold"
    once: bool = False
    low: Decimal = Decimal("0.47")
    high: Decimal = Decimal("0.53")
    size: Micro = 10 * UNIT

    def decide(self, view: View) -> OrderIntent | None:
        ask, bid, tick = view.book.best_ask, view.book.best_bid, view.market.tick
        if view.held_yes and bid is not None and bid >= self.high and on_grid(bid, tick):
            return OrderIntent(Outcome.YES, Side.SELL, bid, view.held_yes, f"bid at {bid}")
        if view.held_yes or ask is None or ask > self.low or not on_grid(ask, tick):
            return None
        if view.cash < (ask + view.fees.per_share(ask)) * self.size:
            return None
        return OrderIntent(Outcome.YES, Side.BUY, ask, self.size, f"ask at {ask}")

    def worth(self, market: Market, books: Columns, held_yes: Micro, held_no: Micro) -> Mask:
        bid, ask = books.bids.best, books.asks.best
        high: Mask = bid >= micro(self.high)
        low: Mask = (ask <= micro(self.low)) & (ask != NOBODY)
        return high if held_yes else low
