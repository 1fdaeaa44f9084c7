"""What the exchange refuses before an order reaches the book, in the venue's order and in its words.

Pure: every fact an answer depends on is in the `Applicant`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from market.fees import FeeSchedule
from market.rules import on_grid, size_allowed, tick_at
from market.types import UNIT, Market, Micro, Order, Side, TimeInForce, units

LEAST_MARKETABLE: Micro = UNIT
"""Dollars a marketable purchase must come to."""
_HUNDREDTH = 10_000
_ROUNDING = 20
"""Fees are rounded per matched level. Levels better than the limit save more than that costs; the last one and the
rounding of the estimate itself may each cost a step of ten micro-dollars more."""


@dataclass(frozen=True, slots=True)
class Applicant:
    """An order on its way. `free` are dollars and `shares` are holdings not promised to other orders."""

    id: str
    order: Order
    market: Market
    arrives: datetime
    free: Micro
    shares: Micro
    fees: FeeSchedule


def worst_fee(order: Order, fees: FeeSchedule) -> Micro:
    """The most a purchase can pay in fees beyond its limit; a post-only order pays none."""
    if order.side is Side.SELL or order.post_only:
        return 0
    fee = fees.taker(order.price, order.size)
    return fee + _ROUNDING if fee else 0


def _closed(a: Applicant) -> str:
    return "" if a.arrives < a.market.closes_at else "the market is closed"


def _tick(a: Applicant) -> str:
    price, tick = a.order.price, a.market.tick
    if on_grid(price, tick):
        return ""
    return f"order {a.id} is invalid. Price ({price}) breaks minimum tick size rule: {tick_at(price, tick)}"


def _size(a: Applicant) -> str:
    size, rests = a.order.size, a.order.tif is TimeInForce.GTC
    least = a.market.min_size if rests else _HUNDREDTH
    if size_allowed(size, least):
        return ""
    if size < least:
        return f"order {a.id} is invalid. Size ({units(size)}) lower than the minimum: {units(least)}"
    return f"order {a.id} is invalid. Size ({units(size)}) is finer than hundredths of a share"


def _amount(a: Applicant) -> str:
    return "" if a.order.tif is TimeInForce.GTC else too_little(a.order)


def _post_only(a: Applicant) -> str:
    fits = not a.order.post_only or a.order.tif is TimeInForce.GTC
    return "" if fits else "invalid post-only order: only orders that rest can be post-only"


def _balance(a: Applicant) -> str:
    need = a.order.cost + worst_fee(a.order, a.fees) if a.order.side is Side.BUY else a.order.size
    have = a.free if a.order.side is Side.BUY else a.shares
    if need <= have:
        return ""
    short = "the balance is not enough"
    return f"not enough balance / allowance: {short} -> balance: {have}, order amount (inc. fees): {need}"


CHECKS: tuple[Callable[[Applicant], str], ...] = (_closed, _tick, _size, _amount, _post_only, _balance)
"""First refusal wins; the venue documents the texts but not their order, so the order is kept in this one place."""


def too_little(order: Order) -> str:
    """Why a marketable purchase is too small, or nothing."""
    if order.side is Side.SELL or order.cost >= LEAST_MARKETABLE:
        return ""
    dollars = units(order.cost).quantize(Decimal("0.01"))
    return f"invalid amount for a marketable BUY order (${dollars}), min size: $1"


def refusal(applicant: Applicant) -> str:
    """Why the order is refused, in the venue's words; empty when it is let through."""
    return next((reason for check in CHECKS if (reason := check(applicant))), "")
