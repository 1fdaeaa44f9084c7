"""Take, post or abstain: the value of a belief against the book after fees. Pure, and the whole of the hot path.

Every book change inside a window comes through `decide`. Nothing here calls a model, a clock or a store.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from statistics import NormalDist

from market.rules import on_grid, size_allowed
from market.types import UNIT, Book, Micro, Outcome, Side, TimeInForce, notional
from strategies.base import OrderIntent, View
from strategies.belief import Belief
from strategies.sizing import Sizing, kelly_stake, shares_for

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class EdgeRule:
    """Minimum requirements of an edge. `threshold` applies to P(net edge > 0) and to the verified share of claims,
    never to the probability of the outcome. `buffer` is dollars a share reserved for costs outside the model. `post` is
    the extra that a resting order has to earn a share, for adverse selection; None disables resting orders."""

    threshold: float
    buffer: Decimal
    min_support: int
    post: Decimal | None


@dataclass(frozen=True, slots=True)
class Edge:
    """The better side of the book for a belief. `net` is dollars a share after fee and buffer; `confidence` is
    P(net edge > 0)."""

    outcome: Outcome
    price: Decimal
    probability: float
    net: float
    confidence: float


def plausible_edge(mid: float, max_shift: float) -> float:
    """Largest edge, in dollars a share, that a shift of `max_shift` log-odds can make at this mid.

    By the mean-value bound of the logistic curve: its slope is nowhere more than 1/4 and near `mid` at most p (1 - p)
    e^max_shift.
    """
    return min(max_shift / 4, max_shift * mid * (1 - mid) * math.exp(max_shift))


def taking_cost(view: View, rule: EdgeRule) -> float:
    """Dollars a share between the mid and a taker's break-even: fee, half the spread and the buffer."""
    spread, mid = view.book.spread, view.book.mid
    if spread is None or mid is None:
        return 1.0
    return float(view.fees.per_share(mid) + spread / 2 + rule.buffer)


def least_cost(view: View, rule: EdgeRule) -> float:
    """Dollars a share between the mid and the break-even of the cheaper entry: taking, or waiting at the bid if `rule`
    allows resting orders."""
    spread, taking = view.book.spread, taking_cost(view, rule)
    if rule.post is None or spread is None:
        return taking
    return min(taking, max(0.0, float(rule.buffer + rule.post - spread / 2)))


def best_edge(view: View, belief: Belief, rule: EdgeRule) -> Edge | None:
    """The side worth more than its cost, or the nearest to it; None on a book without both sides."""
    return max(_edges(view, belief, rule), key=lambda e: e.net, default=None)


def _edges(view: View, belief: Belief, rule: EdgeRule) -> Iterator[Edge]:
    if (mid := view.book.mid) is None or view.book.crossed:
        return
    p_yes, sd = belief.probability(float(mid)), belief.spread_at(float(mid))
    for outcome, p in ((Outcome.YES, p_yes), (Outcome.NO, 1 - p_yes)):
        ask = view.book.of(outcome).best_ask
        if ask is not None and 0 < ask < 1:
            net = p - float(ask + view.fees.per_share(ask) + rule.buffer)
            yield Edge(
                outcome=outcome,
                price=ask,
                probability=p,
                net=net,
                confidence=_NORMAL.cdf(net / sd) if sd > 0 else float(net > 0),
            )


def decide(view: View, belief: Belief, rule: EdgeRule, sizing: Sizing) -> tuple[OrderIntent | None, str]:
    """An order that takes the offer, or one that waits at the best bid if taking costs too much and `rule` allows
    resting orders; or None with the reason for abstaining."""
    intent, reason = _taken(view, belief, rule, sizing)
    if intent is None and rule.post is not None and reason in _TOO_DEAR:
        return _posted(view, belief, rule, sizing) or (None, reason)
    return intent, reason


_TOO_DEAR = frozenset({"edge_below_costs", "edge_uncertain"})
_LAST = timedelta(seconds=30)
"""No resting orders this close to the end: sellers are then better informed."""


def _posted(view: View, belief: Belief, rule: EdgeRule, sizing: Sizing) -> tuple[OrderIntent, str] | None:
    """The better bid to join, without a fee; None if none is worth it."""
    mid, ends = view.book.mid, min(view.market.closes_at - _LAST, belief.expires_at)
    if mid is None or rule.post is None or ends <= view.at:
        return None
    p_yes, sd = belief.probability(float(mid)), belief.spread_at(float(mid))
    best: tuple[float, Outcome, Decimal, float] | None = None
    for outcome, p in ((Outcome.YES, p_yes), (Outcome.NO, 1 - p_yes)):
        bid = view.book.of(outcome).best_bid
        if bid is None or not 0 < bid < 1 or not on_grid(bid, view.market.tick):
            continue
        net = p - float(bid + rule.buffer + rule.post)
        if net > 0 and (best is None or net > best[0]):
            best = net, outcome, bid, p
    if best is None:
        return None
    net, outcome, bid, p = best
    if (_NORMAL.cdf(net / sd) if sd > 0 else 1.0) < rule.threshold:
        return None
    stake = kelly_stake(p, bid, view.cash, view.at_risk, sizing)
    # A resting order is not bound by what is on offer: the bound given here never binds.
    size = shares_for(stake, bid, available=stake * UNIT)
    if not size_allowed(size, view.market.min_size):
        return None
    why = f"joins the bid at {bid}, edge {net:.4f}"
    return OrderIntent(
        outcome=outcome,
        side=Side.BUY,
        price=bid,
        size=size,
        why=why,
        tif=TimeInForce.GTC,
        post_only=True,
        good_until=ends,
    ), "post"


def _taken(view: View, belief: Belief, rule: EdgeRule, sizing: Sizing) -> tuple[OrderIntent | None, str]:
    if not belief.alive(view.at):
        return None, "belief_expired"
    # The order decides the reason: what the belief lacks is named before what the book lacks.
    if belief.shift == 0 or belief.support < rule.min_support:
        return None, "no_verified_claim"
    if belief.verified_share < rule.threshold:
        return None, "low_verified_share"
    edge = best_edge(view, belief, rule)
    if edge is None:
        return None, "no_two_sided_book"
    if edge.net <= 0:
        return None, "edge_below_costs"
    if edge.confidence < rule.threshold:
        return None, "edge_uncertain"
    return _sized(view, edge, sizing)


def _sized(view: View, edge: Edge, sizing: Sizing) -> tuple[OrderIntent | None, str]:
    if not on_grid(edge.price, view.market.tick):
        return None, "price_off_grid"
    cost = edge.price + view.fees.per_share(edge.price)
    stake = kelly_stake(edge.probability, cost, view.cash, view.at_risk, sizing)
    size = shares_for(stake, cost, available=offered(view.book.of(edge.outcome), edge.price))
    # Besides the market's minimum of shares the venue takes no marketable purchase below one dollar.
    if not size_allowed(size, view.market.min_size) or notional(edge.price, size) < UNIT:
        return None, "size_below_minimum"
    why = f"edge {edge.net:.4f} with confidence {edge.confidence:.3f}"
    return OrderIntent(edge.outcome, Side.BUY, edge.price, size, why), "take"


def offered(book: Book, limit: Decimal) -> Micro:
    """Micro-shares on offer at `limit` or better."""
    return sum(level.size for level in book.asks if level.price <= limit)
