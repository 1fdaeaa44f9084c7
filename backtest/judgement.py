"""What a run's fills came to, and how sure that is. Pure: values in, values out.

Profit is counted where a market's outcome is known: what a share paid, less what it and its fee cost. Markets are the
unit of chance: fills of one market win or lose together, and neighbouring markets are drawn together.
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
"""Markets drawn together by the bootstrap at most: an hour of five-minute windows. Fewer where there are not ten such
blocks."""
_DRAWS, _SEED = 10_000, 20_260_928
_SPANS = (10, 30, 60, 120, 300)
_DAY = 86_400.0
_LEAST_REBATE: Micro = 1_000_000
"""What a day's rebate has to come to, to be paid."""


@dataclass(frozen=True, slots=True)
class JudgedTrade:
    """A fill and its end. `pnl` is after fees, None where the outcome is not known; `left` are seconds to the close;
    `mid` is of the fill's own token when it was filled, None where nothing says what it was; `rebate` what it earns of
    the day's maker rebate, which is not part of `pnl`."""

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
        """What it would have earned at the mid and free of fees, as many backtests assume."""
        if self.pnl is None or self.mid is None:
            return None
        better = int((self.fill.price - self.mid) * self.fill.size)
        return self.pnl + self.fill.fee + (better if self.fill.side is Side.BUY else -better)

    @property
    def cost(self) -> Micro:
        """Dollars that changed hands, fees apart."""
        return notional(self.fill.price, self.fill.size)


@dataclass(frozen=True, slots=True)
class Group:
    """The trades that have something in common. `cost` is what was paid or received for the shares."""

    name: str
    fills: int
    markets: int
    cost: Micro
    fees: Micro
    pnl: Micro


@dataclass(frozen=True, slots=True)
class ProfitPoint:
    """The profit so far, when a market's outcome was added to it."""

    at: datetime
    market_id: str
    pnl: Micro
    total: Micro
    drawdown: Micro


@dataclass(frozen=True, slots=True)
class Judgement:
    """Money in micro-dollars. `per_market` is the mean profit of a traded market with its 95 % interval.

    `by_chance` is the probability of at least this profit where every mid was right, found by drawing outcomes at the
    mids: few markets that all won say little, whatever their interval. `sharpe` is mean over standard deviation of the
    markets' profits, not annualised; `deflated` the probability that it is above what the best of `trials` worthless
    strategies would have shown. `days` are those of this kind that a verdict needs. Neither is told of fewer than
    FEWEST markets. `overstated` is what fills at the mid without fees would have shown beyond the truth. `rebates` is
    what the venue would pay besides for orders of ours that were taken, days of less than a dollar left out.
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
    """A fill's profit after its fee, once it is known what its shares paid."""
    payout = resolution.pays(fill.outcome) if resolution else None
    if payout is None:
        return None
    paid = notional(payout, fill.size)
    return fill.cash + (paid if fill.side is Side.BUY else -paid)


def judge(trades: Sequence[JudgedTrade], *, days: float, others: Sequence[float] = ()) -> Judgement:
    """The whole judgement. `days` is how long the recording lasted; `others` are the Sharpe ratios of the other trials
    on the same data."""
    ended = [t for t in trades if t.pnl is not None]
    profits = _by_market(ended)
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
    """Each market's outcome is drawn once at the mean of the mids at its fills; None where a mid is not known."""
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
    """Profit of each market, in the order in which they closed."""
    profits: dict[str, Micro] = defaultdict(int)
    for trade in sorted(trades, key=lambda t: (t.closes_at, t.fill.market_id)):
        profits[trade.fill.market_id] += trade.pnl or 0
    return dict(profits)


def market_sharpe(trades: Sequence[JudgedTrade]) -> float | None:
    """Mean over standard deviation of the markets' profits; None where they do not say."""
    profits = _by_market(t for t in trades if t.pnl is not None)
    return sharpe(np.array(list(profits.values()), np.float64))


def _equity(trades: Sequence[JudgedTrade]) -> tuple[ProfitPoint, ...]:
    closes = {t.fill.market_id: t.closes_at for t in trades}
    profits = _by_market(trades)
    totals = list(accumulate(profits.values()))
    best = accumulate(totals, max, initial=0)
    next(best, None)
    rows = zip(profits.items(), totals, best, strict=True)
    return tuple(ProfitPoint(closes[m], m, pnl, total, top - total) for (m, pnl), total, top in rows)


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
            name,
            len(own),
            len({t.fill.market_id for t in own}),
            sum(t.cost for t in own),
            sum(t.fill.fee for t in own),
            sum(t.pnl or 0 for t in own),
        )
        for name, own in sorted(grouped.items())
    )


def days_of(markets: Iterable[Market]) -> float:
    """How long a recording's markets were open, gaps left out, in days."""
    spans = sorted((m.opens_at, m.closes_at) for m in markets)
    total, end = 0.0, None
    for opens, closes in spans:
        begin = opens if end is None or opens > end else end
        total += max((closes - begin).total_seconds(), 0.0)
        end = closes if end is None or closes > end else end
    return total / _DAY
