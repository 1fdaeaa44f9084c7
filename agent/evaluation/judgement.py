"""Profit of a run's fills, with its uncertainty. Pure: values in, values out.

Profit is counted for markets with a known outcome: payout of the shares, less their cost and fee. Markets are the
sampling unit: fills of one market win or lose together, and neighbouring markets are resampled together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import accumulate

import numpy as np

from market.types import Fill, Market, Micro, Outcome, Resolution, Side, notional
from strategies.score import FEWEST, Interval, block_interval, days_for_verdict, deflated_sharpe, sharpe

BLOCK = 12
"""Largest number of markets resampled together by the bootstrap: an hour of five-minute windows. Fewer if there are not
ten such blocks."""
_DRAWS, _SEED = 10_000, 20_260_928
_SPANS = (10, 30, 60, 120, 300)
_DAY = 86_400.0
_LEAST_REBATE: Micro = 1_000_000
"""Smallest daily rebate that the venue pays."""


@dataclass(frozen=True, slots=True)
class JudgedTrade:
    """A fill and its result. `pnl` is after fees, None while the outcome is not known; `left` are seconds to the close;
    `mid` is of the fill's own token at the fill, None if unknown; `rebate` is its share of the day's maker rebate,
    which is not part of `pnl`."""

    fill: Fill
    closes_at: datetime
    pnl: Micro | None
    mid: Decimal | None = None
    rebate: Micro = 0

    @property
    def left(self) -> float:
        return (self.closes_at - self.fill.at).total_seconds()

    @property
    def at_mid(self) -> Micro | None:
        """Profit at the mid and free of fees, as many backtests assume."""
        if self.pnl is None or self.mid is None:
            return None
        better = int((self.fill.price - self.mid) * self.fill.size)
        return self.pnl + self.fill.fee + (better if self.fill.side is Side.BUY else -better)

    @property
    def cost(self) -> Micro:
        """Micro-dollars traded, without fees."""
        return notional(self.fill.price, self.fill.size)


@dataclass(frozen=True, slots=True)
class Group:
    """Trades with a common property. `cost` is the amount paid or received for the shares."""

    name: str
    fills: int
    markets: int
    cost: Micro
    fees: Micro
    pnl: Micro


@dataclass(frozen=True, slots=True)
class ProfitPoint:
    """Cumulative profit after a market's outcome was added to it."""

    at: datetime
    market_id: str
    pnl: Micro
    total: Micro
    drawdown: Micro


@dataclass(frozen=True, slots=True)
class Judgement:
    """Statistics of a run's trades. Money in micro-dollars. `per_market` is the mean profit of a traded market with its
    95 % interval.

    `by_chance` is the probability of at least this profit if every mid was right, found by drawing outcomes at the
    mids: a few markets that all won are weak evidence, whatever their interval. `sharpe` is mean over standard
    deviation of the markets' profits, not annualised; `deflated` the probability that it is above the best of `trials`
    worthless strategies. `days` of this kind are needed for a verdict. Both are None for fewer than FEWEST markets.
    `overstated` is the excess profit of fills at the mid without fees. `rebates` is the venue's additional payment for
    our maker fills, days of less than a dollar left out.
    """

    fills: int
    open: int
    markets: int
    won: int
    cost: Micro
    fees: Micro
    pnl: Micro
    drawdown: Micro
    per_market: Interval | None
    by_chance: float | None
    sharpe: float | None
    deflated: float | None
    trials: int
    days: float | None
    overstated: Micro | None
    rebates: Micro
    by: Mapping[str, tuple[Group, ...]]
    equity: tuple[ProfitPoint, ...]


def earned(fill: Fill, resolution: Resolution | None) -> Micro | None:
    """Micro-dollars of a fill's profit after its fee; None while its payout is not known."""
    payout = resolution.pays(fill.outcome) if resolution else None
    if payout is None:
        return None
    paid = notional(payout, fill.size)
    return fill.cash + (paid if fill.side is Side.BUY else -paid)


def judge(trades: Sequence[JudgedTrade], *, days: float, others: Sequence[float] = ()) -> Judgement:
    """Statistics of trades. `days` is the length of the recording; `others` are the Sharpe ratios of the other trials
    on the same data."""
    ended = [t for t in trades if t.pnl is not None]
    profits = _by_market(ended)
    # In order of close, which the moving-block bootstrap needs.
    values = np.array(list(profits.values()), np.float64)
    ratio = sharpe(values)
    equity = _equity(ended)
    return Judgement(
        fills=len(trades),
        open=len(trades) - len(ended),
        markets=len(profits),
        won=int((values > 0).sum()),
        cost=sum(t.cost for t in ended),
        fees=sum(t.fill.fee for t in ended),
        pnl=sum(profits.values()),
        drawdown=max((p.drawdown for p in equity), default=0),
        per_market=block_interval(values, block=max(1, min(BLOCK, len(values) // 10))),
        by_chance=_by_chance(ended),
        sharpe=ratio,
        deflated=None if ratio is None else deflated_sharpe(values, [*others, ratio]),
        trials=len(others) + 1,
        days=days_for_verdict(values, per_day=len(values) / days) if days > 0 and len(values) >= FEWEST else None,
        overstated=_overstated(ended),
        rebates=_rebates(trades),
        by={name: _groups(ended, key) for name, key in _VIEWS.items()},
        equity=equity,
    )


def _by_chance(trades: Sequence[JudgedTrade]) -> float | None:
    """Monte Carlo p-value: each market's outcome is drawn at the mean of the mids at its fills; None if a mid is not
    known."""
    if not trades or any(t.mid is None for t in trades):
        return None
    markets: dict[str, list[JudgedTrade]] = defaultdict(list)
    for trade in trades:
        markets[trade.fill.market_id].append(trade)
    up = np.array([np.mean([_yes_mid(t) for t in own]) for own in markets.values()])
    won = np.array([sum(_if_paid(t, yes=True) for t in own) for own in markets.values()], np.float64)
    lost = np.array([sum(_if_paid(t, yes=False) for t in own) for own in markets.values()], np.float64)
    chance = np.random.default_rng(_SEED)
    total = np.zeros(_DRAWS)
    for p, high, low in zip(up, won, lost, strict=True):
        total += np.where(chance.random(_DRAWS) < p, high, low)
    seen = sum(t.pnl or 0 for t in trades)
    # One added on both sides: the observed result counts as a draw, so that a p-value is never zero.
    return float((1 + (total >= seen).sum()) / (1 + _DRAWS))


def _yes_mid(trade: JudgedTrade) -> float:
    mid = float(trade.mid or 0)
    return mid if trade.fill.outcome is Outcome.YES else 1 - mid


def _if_paid(trade: JudgedTrade, *, yes: bool) -> Micro:
    """A fill's profit if YES had paid, or NO."""
    fill = trade.fill
    paid = fill.size if (fill.outcome is Outcome.YES) is yes else 0
    return fill.cash + (paid if fill.side is Side.BUY else -paid)


def _by_market(trades: Iterable[JudgedTrade]) -> dict[str, Micro]:
    """Profit of each market, in order of close."""
    profits: dict[str, Micro] = defaultdict(int)
    for trade in sorted(trades, key=lambda t: (t.closes_at, t.fill.market_id)):
        profits[trade.fill.market_id] += trade.pnl or 0
    return dict(profits)


def market_sharpe(trades: Sequence[JudgedTrade]) -> float | None:
    """Mean over standard deviation of the markets' profits; None if it is undefined."""
    profits = _by_market(t for t in trades if t.pnl is not None)
    return sharpe(np.array(list(profits.values()), np.float64))


def _equity(trades: Sequence[JudgedTrade]) -> tuple[ProfitPoint, ...]:
    closes = {t.fill.market_id: t.closes_at for t in trades}
    profits = _by_market(trades)
    totals = list(accumulate(profits.values()))
    best = accumulate(totals, max, initial=0)
    next(best, None)
    rows = zip(profits.items(), totals, best, strict=True)
    return tuple(
        ProfitPoint(at=closes[m], market_id=m, pnl=pnl, total=total, drawdown=top - total)
        for (m, pnl), total, top in rows
    )


def _rebates(trades: Sequence[JudgedTrade]) -> Micro:
    days: dict[str, Micro] = defaultdict(int)
    for trade in trades:
        days[f"{trade.fill.at:%Y-%m-%d}"] += trade.rebate
    return sum(day for day in days.values() if day >= _LEAST_REBATE)


def _overstated(trades: Sequence[JudgedTrade]) -> Micro | None:
    told = [t for t in trades if t.at_mid is not None]
    return sum((t.at_mid or 0) - (t.pnl or 0) for t in told) if told else None


def _span(trade: JudgedTrade) -> str:
    below = next((s for s in _SPANS if trade.left <= s), None)
    return f"over {_SPANS[-1]} s left" if below is None else f"{below:>3} s or less left"


_VIEWS: Mapping[str, Callable[[JudgedTrade], str]] = {
    "evidence": lambda t: t.fill.evidence.value,
    "time to expiry": _span,
    "hour (UTC)": lambda t: f"{t.fill.at:%H}",
    "day": lambda t: f"{t.fill.at:%Y-%m-%d}",
}


def _groups(trades: Sequence[JudgedTrade], key: Callable[[JudgedTrade], str]) -> tuple[Group, ...]:
    grouped: dict[str, list[JudgedTrade]] = defaultdict(list)
    for trade in trades:
        grouped[key(trade)].append(trade)
    return tuple(
        Group(
            name=name,
            fills=len(own),
            markets=len({t.fill.market_id for t in own}),
            cost=sum(t.cost for t in own),
            fees=sum(t.fill.fee for t in own),
            pnl=sum(t.pnl or 0 for t in own),
        )
        for name, own in sorted(grouped.items())
    )


def days_of(markets: Iterable[Market]) -> float:
    """Time in days in which at least one of the markets was open."""
    spans = sorted((m.opens_at, m.closes_at) for m in markets)
    total, end = 0.0, None
    for opens, closes in spans:
        begin = opens if end is None or opens > end else end
        total += max((closes - begin).total_seconds(), 0.0)
        end = closes if end is None or closes > end else end
    return total / _DAY
