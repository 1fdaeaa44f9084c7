"""Position sizing: a quarter of Kelly, under caps. Money in, money out; no opinion on direction."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from market.types import Micro

_LOT: Micro = 10_000
"""Size step: a hundredth of a share."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """Sizing limits. `fraction` of full Kelly; caps are micro-dollars of cost for one order and for one market."""

    fraction: float
    max_order: Micro
    max_market: Micro


def kelly_stake(p: float, cost: Decimal, cash: Micro, at_risk: Micro, sizing: Sizing) -> Micro:
    """Micro-dollars to stake on shares that cost `cost` dollars each, fee included, and pay 1 with probability `p`.

    `at_risk` is this market's exposure in micro-dollars.
    """
    price = float(cost)
    if not 0 < price < 1 or p <= price:
        return 0
    # Kelly's fraction for a binary share: win 1 - price with probability p, lose price otherwise.
    full = (p - price) / (1 - price)
    # By way of the decimal text, so that the stake does not depend on binary rounding of the product.
    wanted = int(Decimal(str(full * sizing.fraction)) * cash)
    return max(0, min(wanted, sizing.max_order, sizing.max_market - at_risk, cash))


def shares_for(stake: Micro, cost: Decimal, *, available: Micro) -> Micro:
    """Whole hundredths of a share that `stake` buys at `cost` dollars each, at most `available`."""
    if cost <= 0 or stake <= 0:
        return 0
    shares = int((Decimal(stake) / cost).to_integral_value(ROUND_FLOOR))
    return min(shares, available) // _LOT * _LOT
