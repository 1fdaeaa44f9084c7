"""Resolution rules of Up/Down windows and delays of takers by date, and the price and size grid of orders.

A window resolves Up when the closing value is at or above the opening one; a tie is Up. Until 2026-08-06 both values
are instantaneous Chainlink prices; from 2026-08-07 they are time-weighted averages (venue change log): 5-minute windows
30 s and from 2026-08-14 60 s, longer windows 60 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from market.types import Market, Micro

_TWAP_BEGINS = datetime(2026, 8, 7, tzinfo=UTC)
_TWAP_60_FOR_5M = datetime(2026, 8, 14, tzinfo=UTC)
_FINE_BELOW, _FINE_ABOVE = Decimal("0.04"), Decimal("0.96")
_FINE_TICK = Decimal("0.001")


_TAKER_DELAYS = (
    (datetime(2026, 9, 4, tzinfo=UTC), timedelta(milliseconds=150)),
    (datetime(2026, 8, 17, tzinfo=UTC), timedelta(milliseconds=50)),
    (datetime.min.replace(tzinfo=UTC), timedelta(milliseconds=250)),
)
"""Delays of takers in crypto markets and the dates from which they hold, newest first (the venue's change log)."""


class PriceKind(StrEnum):
    INSTANT = "instant"
    TWAP = "twap"


@dataclass(frozen=True, slots=True)
class ResolutionRule:
    """Values compared by a window; `average_seconds` is 0 for instantaneous prices."""

    kind: PriceKind
    average_seconds: int
    tie: str = "up"


def resolution_rule(opens_at: datetime, seconds: int) -> ResolutionRule:
    """Rule of a window of `seconds` that opened at `opens_at`."""
    # Labels of a backtest have to follow the rule of the window's own date: the same path can resolve differently under
    # an instantaneous price and under an average.
    if opens_at < _TWAP_BEGINS:
        return ResolutionRule(PriceKind.INSTANT, 0)
    if seconds <= 300 and opens_at < _TWAP_60_FOR_5M:
        return ResolutionRule(PriceKind.TWAP, 30)
    return ResolutionRule(PriceKind.TWAP, 60)


def taker_delay(market: Market, at: datetime) -> timedelta:
    """The venue's delay of an order that takes at once; only crypto markets have one."""
    if not market.category.startswith("crypto"):
        return timedelta(0)
    return next(delay for since, delay in _TAKER_DELAYS if at >= since)


def tick_at(price: Decimal, tick: Decimal) -> Decimal:
    """Tick in force around `price`: finer near 0 and 1, where the venue refines it."""
    # The venue announces the refinement by `tick_size_change`; older documentation puts it at a mid below 0.04 or above
    # 0.96. A recording need not hold that event, so the tick follows from the price as well.
    return min(tick, _FINE_TICK) if price < _FINE_BELOW or price > _FINE_ABOVE else tick


def on_grid(price: Decimal, tick: Decimal) -> bool:
    """True if `price` is valid for an order in a market whose base tick is `tick`."""
    step = tick_at(price, tick)
    return step <= price <= 1 - step and price % step == 0


def size_allowed(size: Micro, min_size: Micro) -> bool:
    """True if `size` is valid for an order: at least the minimum, and whole hundredths of a share."""
    return size >= min_size and size % 10_000 == 0
