"""How Up/Down windows resolve, by date, and which prices an order may name.

A window resolves Up when the closing value is at or above the opening one; a tie is Up. Until 2026-08-06 both values
are instantaneous Chainlink prices; from 2026-08-07 they are time-weighted averages (venue change log): 5-minute
windows 30 s and from 2026-08-14 60 s, longer windows 60 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from market.types import Micro

_TWAP_BEGINS = datetime(2026, 8, 7, tzinfo=UTC)
_TWAP_60_FOR_5M = datetime(2026, 8, 14, tzinfo=UTC)
_FINE_BELOW, _FINE_ABOVE = Decimal("0.04"), Decimal("0.96")
_FINE_TICK = Decimal("0.001")


class PriceKind(StrEnum):
    INSTANT = "instant"
    TWAP = "twap"


@dataclass(frozen=True, slots=True)
class ResolutionRule:
    """What a window compares; `average_seconds` is 0 for instantaneous prices."""

    kind: PriceKind
    average_seconds: int
    tie: str = "up"


def resolution_rule(opens_at: datetime, seconds: int) -> ResolutionRule:
    """The rule of a window of `seconds` that opened at `opens_at`."""
    if opens_at < _TWAP_BEGINS:
        return ResolutionRule(PriceKind.INSTANT, 0)
    if seconds <= 300 and opens_at < _TWAP_60_FOR_5M:
        return ResolutionRule(PriceKind.TWAP, 30)
    return ResolutionRule(PriceKind.TWAP, 60)


def tick_at(price: Decimal, tick: Decimal) -> Decimal:
    """The tick in force around `price`: finer near the ends of the scale, where the venue refines it."""
    return min(tick, _FINE_TICK) if price < _FINE_BELOW or price > _FINE_ABOVE else tick


def on_grid(price: Decimal, tick: Decimal) -> bool:
    """Whether an order may name `price` where the market's base tick is `tick`."""
    step = tick_at(price, tick)
    return step <= price <= 1 - step and price % step == 0


def size_allowed(size: Micro, min_size: Micro) -> bool:
    """Whether an order may be `size` shares large: the minimum, and hundredths of a share."""
    return size >= min_size and size % 10_000 == 0
