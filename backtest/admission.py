"""Order validation before the book: the exchange's refusals, in the venue's order and wording.

Pure: every input of a check is in the `Applicant`.
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
"""Smallest cost in micro-dollars of a marketable purchase."""
_HUNDREDTH = 10_000
_CENT = 10_000
_ROUNDING = 20
"""Fees are rounded per matched level. Levels better than the limit save more than that costs; the last one and the
rounding of the estimate itself may each cost a step of ten micro-dollars more."""


@dataclass(frozen=True, slots=True)
class Applicant:
    """An order under validation. `balance` is the account's amount of what it would pay with, dollars or shares;
    `active` is the part reserved by other orders, and `matched` the part bound by trades that have not settled.
    `budget` is its spending limit if it is given in dollars and not as a number of shares."""

    id: str
    order: Order
    market: Market
    arrives: datetime
    balance: Micro
    active: Micro
    fees: FeeSchedule
    matched: Micro = 0
    budget: Micro | None = None


def budget_of(order: Order) -> Micro | None:
    """Micro-dollars that a purchase which does not rest may spend, in whole cents, as it is sent to the venue; None for
    every other order, which asks for a number of shares."""
    if order.side is Side.SELL or order.tif is TimeInForce.GTC:
        return None
    return int(order.price * order.size) // _CENT * _CENT


def worst_fee(order: Order, fees: FeeSchedule, budget: Micro | None = None) -> Micro:
    """Upper bound of a purchase's fees beyond its limit; a post-only order pays none."""
    if order.side is Side.SELL or order.post_only:
        return 0
    fee = fees.taker(order.price, order.size)
    # The cheaper the shares, the more of them a budget buys, and the more of its dollars are fees: up to the rate.
    fee = fee if budget is None else max(fee, int(budget * fees.rate))
    return fee + _ROUNDING if fee else 0


def _closed(a: Applicant) -> str:
    return "" if a.arrives < a.market.closes_at else "the market is closed"


def _tick(a: Applicant) -> str:
    price, tick = a.order.price, a.market.tick
    if on_grid(price, tick):
        return ""
    return off_tick(a.id, price, tick_at(price, tick))


def _size(a: Applicant) -> str:
    size, rests = a.order.size, a.order.tif is TimeInForce.GTC
    # The minimum size is for resting orders; a marketable one has a minimum in dollars instead.
    least = a.market.min_size if rests else _HUNDREDTH
    if size_allowed(size, least) or a.budget is not None:
        return ""
    if size < least:
        return f"order {a.id} is invalid. Size ({units(size)}) lower than the minimum: {units(least)}"
    return f"order {a.id} is invalid. Size ({units(size)}) is finer than hundredths of a share"


def _amount(a: Applicant) -> str:
    return "" if a.order.tif is TimeInForce.GTC else too_little(a.order, a.budget)


def _post_only(a: Applicant) -> str:
    fits = not a.order.post_only or a.order.tif is TimeInForce.GTC
    return "" if fits else "invalid post-only order: only orders that rest can be post-only"


def _balance(a: Applicant) -> str:
    order, need, fee = a.order, a.order.size, 0
    if order.side is Side.BUY:
        fee = worst_fee(order, a.fees, a.budget)
        need = (order.cost if a.budget is None else a.budget) + fee
    if need <= a.balance - a.active - a.matched:
        return ""
    parts = [f"balance: {a.balance}"]
    parts += [f"sum of active orders: {a.active}"] * (a.active > 0)
    parts += [f"sum of matched orders: {a.matched}"] * (a.matched > 0)
    parts.append(f"order amount{' (inc. fees)' * (fee > 0)}: {need}")
    return f"not enough balance / allowance: the balance is not enough -> {', '.join(parts)}"


CHECKS: tuple[Callable[[Applicant], str], ...] = (_closed, _tick, _size, _amount, _post_only, _balance)
"""First refusal wins; the venue documents the texts but not their order, so the order is kept in this one place."""


def too_little(order: Order, budget: Micro | None = None) -> str:
    """Refusal of a marketable purchase below the minimum, or empty."""
    cost = order.cost if budget is None else budget
    if order.side is Side.SELL or cost >= LEAST_MARKETABLE:
        return ""
    dollars = units(cost).quantize(Decimal("0.01"))
    return f"invalid amount for a marketable BUY order (${dollars}), min size: $1"


def off_tick(order_id: str, price: Decimal, tick: Decimal) -> str:
    """Refusal of a price that is no multiple of the tick."""
    return f"order {order_id} is invalid. Price ({price}) breaks minimum tick size rule: {tick}"


def refusal(applicant: Applicant) -> str:
    """First refusal of the order, in the venue's words; empty if it is accepted."""
    return next((reason for check in CHECKS if (reason := check(applicant))), "")
