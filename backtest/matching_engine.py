"""Matching engine of one market, for paper trading and the loopback venue.

An order meets the displayed book that stands when it arrives, and the orders resting before it: the best price first,
at one price displayed shares first, then by time of arrival, always at the price of the resting side. The remainder
rests. A resting order fills against the displayed book only when the market trades through it: when the best opposite
price passes its limit. Such a book has no quotes left at the limit, so the queue ahead of the order is gone and needs
no model. An order that would meet one of its own owner is cancelled before it does; the behaviour of venues is not
documented.

Pure: knows values only. Books, time and accounting come from outside, through its `Floor`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol

import numpy as np

from backtest.admission import too_little
from backtest.matching import Taken, crosses, passes, reaches, split, urgency
from market.columns import Columns, Mask
from market.types import (
    Book,
    Level,
    Market,
    Micro,
    Order,
    OrderStatus,
    Side,
    SignedOrder,
    TimeInForce,
    complement,
    notional,
)

NO_MATCH = "no orders found to match with FAK order. FAK orders are partially filled or killed if no match is found."
NOT_FULL = "order couldn't be fully filled. FOK orders are fully filled or killed."
CROSSES = "invalid post-only order: order crosses book"
SELF_MATCH = "the order would have met another one of its owner"


@dataclass(slots=True, eq=False)
class Working:
    """An order that may still fill. `met` turns true once it has met a sound book; only then does it rest. `fee` are
    micro-dollars reserved for fees until then. `budget` is the rest of a purchase that is given in dollars, whose
    `left` is the number of shares that they buy at its limit."""

    signed: SignedOrder
    arrives: datetime
    number: int
    left: Micro
    fee: Micro
    owner: str = ""
    budget: Micro | None = None
    met: bool = False
    done: bool = False

    @property
    def order(self) -> Order:
        return self.signed.order

    @property
    def turn(self) -> tuple[datetime, int]:
        return self.arrives, self.number

    @property
    def promised(self) -> Micro:
        """Micro-dollars it may still spend."""
        if self.order.side is Side.SELL:
            return 0
        cost = notional(self.order.price, self.left) if self.budget is None else self.budget
        return cost + (0 if self.met else self.fee)

    def pay(self, price: Decimal, size: Micro) -> None:
        """Deduct a trade."""
        if self.budget is None:
            self.left -= size
        else:
            self.budget -= notional(price, size)
            self.left = affordable(self.budget, self.order.price)


class MatchedTrade(NamedTuple):
    """A trade: `price` is of `taker`'s token, or of `maker`'s if the displayed book was the taker.

    One of the two is None: the other side was the displayed book.
    """

    taker: Working | None
    maker: Working | None
    price: Decimal
    size: Micro
    at: datetime


class Floor(Protocol):
    """Callbacks of the matching engine, for accounting."""

    def traded(self, execution: MatchedTrade) -> None:
        """Book a trade. The remaining sizes of both orders are updated already."""
        ...

    def rested(self, entry: Working) -> None:
        """An order has met the book and rests in it."""
        ...

    def ended(self, entry: Working, status: OrderStatus, reason: str) -> None:
        """An order is terminal."""
        ...


class _Offer(NamedTuple):
    """`level` is priced in the token of the taking order; `maker` is None for the displayed book."""

    level: Level
    maker: Working | None


@dataclass(slots=True)
class MatchingEngine:
    """Order book and matching of one market: orders on their way, by arrival, and resting ones."""

    floor: Floor
    coming: list[Working] = field(default_factory=list)
    resting: list[Working] = field(default_factory=list)
    taken: Taken = field(default_factory=Taken)

    @property
    def idle(self) -> bool:
        """True if nothing here depends on the next book."""
        return not self.resting and not self.taken.used

    def worth(self, _: Market, books: Columns) -> Mask:
        """(n,): books that change something here: those that trade through a resting order, and those that show less of
        a level than we have consumed of it."""
        wanted = self.taken.shrunk(books)
        for entry in self.resting:
            wanted |= np.ones(len(books), np.bool_) if not entry.met else passes(entry.order, books)
        return wanted

    def admit(self, entry: Working) -> None:
        """Schedule an order's arrival."""
        insort(self.coming, entry, key=lambda e: e.turn)

    def arrive(self, entry: Working, book: Book | None) -> None:
        """Match an order against the standing book; without a sound one takers are cancelled and the rest wait for the
        next."""
        self.coming.remove(entry)
        if book is not None and not book.crossed:
            self.taken.observe(book)
            self._meet(entry, book, entry.arrives)
        elif entry.order.tif in (TimeInForce.FAK, TimeInForce.FOK):
            fault = "there was no book" if book is None else "the book was crossed"
            self.end(entry, OrderStatus.CANCELED, f"{fault} when the order arrived")
        if not entry.done:
            self.resting.append(entry)
        self._sweep()

    def show(self, book: Book) -> None:
        """Process the next displayed book. A crossed one is a fault of the recording or the venue, and no evidence."""
        if book.crossed:
            return
        self.taken.observe(book)
        # Price-time priority: earlier orders take the displayed shares that later ones then lack.
        for entry in sorted(self.resting, key=lambda e: (urgency(e.order), e.number)):
            if entry.done:
                continue
            if entry.met:
                self._trade_through(entry, book)
            else:
                self._meet(entry, book, book.received_at)
        self._sweep()

    def cancel(self, entry: Working, reason: str) -> None:
        self.end(entry, OrderStatus.CANCELED, reason)
        self._sweep()

    def close(self, reason: str) -> None:
        """Cancel everything."""
        for entry in (*self.coming, *self.resting):
            self.end(entry, OrderStatus.CANCELED, reason)
        self._sweep()

    def end(self, entry: Working, status: OrderStatus, reason: str) -> None:
        entry.done = True
        self.floor.ended(entry, status, reason)

    def _sweep(self) -> None:
        self.coming = [e for e in self.coming if not e.done]
        self.resting = [e for e in self.resting if not e.done]

    def _meet(self, entry: Working, book: Book, at: datetime) -> None:
        """Match an order against its first sound book: it takes what its limit reaches, then rests, is cancelled or is
        complete."""
        order = entry.order
        if self.would_trade(entry, book):
            reason = CROSSES if order.post_only else too_little(order, entry.budget)
            if reason:
                self.end(entry, OrderStatus.REJECTED, reason)
                return
        offers = self._offers(entry, book)
        within = [*self._until_own(entry, offers)]
        taken, short = _shares(entry, [o.level for o in within])
        # Decided before anything is taken: a FOK order fills completely or not at all.
        if order.tif is TimeInForce.FOK and short:
            self.end(entry, OrderStatus.CANCELED, NOT_FULL)
            return
        for size, offer in zip(taken, within, strict=False):
            self._take(entry, offer, size, at)
        entry.met = True
        self._rest(entry, anything=bool(taken), own=len(within) < len(offers))

    def _rest(self, entry: Working, *, anything: bool, own: bool) -> None:
        """Rest or cancel the remainder of an order."""
        if not entry.left:
            return
        if own:
            self.end(entry, OrderStatus.CANCELED, SELF_MATCH)
        elif entry.order.tif in (TimeInForce.FAK, TimeInForce.FOK):
            self.end(entry, OrderStatus.CANCELED, "the rest found no match" if anything else NO_MATCH)
        else:
            self.floor.rested(entry)

    def would_trade(self, entry: Working, book: Book) -> bool:
        return crosses(entry.order, book) or any(self._facing(entry))

    def _facing(self, entry: Working) -> Iterator[Working]:
        """Resting orders within the entry's limit."""
        for other in self.resting:
            there = other.met and not other.done and faces(entry.order, other.order)
            if there and reaches(entry.order, own_price(entry.order, other.order)):
                yield other

    def _offers(self, entry: Working, book: Book) -> list[_Offer]:
        """Everything within the order's limit, in order of execution."""
        order = entry.order
        displayed = [_Offer(level, None) for level in self.taken.offered(order, book)]
        rest = [_Offer(Level(own_price(order, m.order), m.left), m) for m in self._facing(entry)]
        if not rest:
            return displayed
        sign = 1 if order.side is Side.BUY else -1
        # Number -1 puts displayed shares before ours at one price: they were there first.
        return sorted(displayed + rest, key=lambda o: (sign * o.level.price, o.maker.number if o.maker else -1))

    @staticmethod
    def _until_own(entry: Working, offers: Sequence[_Offer]) -> Iterator[_Offer]:
        """Offers before the first one of the same owner that the order would reach with its remaining size."""
        left = entry.left
        for offer in offers:
            if offer.maker is not None and offer.maker.owner == entry.owner and left > 0:
                return
            left -= offer.level.size
            yield offer

    def _take(self, entry: Working, offer: _Offer, size: Micro, at: datetime) -> None:
        entry.pay(offer.level.price, size)
        if offer.maker is None:
            self.taken.take(entry.order, offer.level, size)
        else:
            offer.maker.pay(offer.maker.order.price, size)
        self.floor.traded(MatchedTrade(entry, offer.maker, offer.level.price, size, at))
        for one in (entry, offer.maker):
            if one is not None and not one.left:
                self.end(one, OrderStatus.MATCHED, "")

    def _trade_through(self, entry: Working, book: Book) -> None:
        """Fill a resting order at its own limit, as a maker, by the size displayed at prices past that limit."""
        order = entry.order
        # At the limit itself others may be ahead in the queue: only better prices prove that it was passed.
        past = [level for level in self.taken.offered(order, book) if level.price != order.price]
        size = 0
        for level, part in split(past, entry.left):
            self.taken.take(order, level, part)
            size += part
        if not size:
            return
        entry.pay(order.price, size)
        self.floor.traded(MatchedTrade(None, entry, order.price, size, book.received_at))
        if not entry.left:
            self.end(entry, OrderStatus.MATCHED, "")


def affordable(budget: Micro, price: Decimal) -> Micro:
    """Micro-shares that micro-dollars buy at a price. A last micro-dollar is a rounding remainder and buys nothing."""
    return 0 if budget <= 1 else int(budget / price)


def _shares(entry: Working, levels: Sequence[Level]) -> tuple[list[Micro], bool]:
    """Sizes that the order takes of each level, and true if it wants more than there is."""
    if entry.budget is None:
        sizes = [size for _, size in split(levels, entry.left)]
        return sizes, sum(sizes) < entry.left
    sizes, budget = [], entry.budget
    for price, offered in levels:
        size = min(offered, affordable(budget, price))
        if size <= 0:
            break
        sizes.append(size)
        budget -= notional(price, size)
    return sizes, affordable(budget, entry.order.price) > 0


def faces(one: Order, other: Order) -> bool:
    """True if two orders are on opposite sides of the one book that both tokens share."""
    return (one.side is other.side) is not (one.outcome is other.outcome)


def own_price(order: Order, other: Order) -> Decimal:
    """Price of `other` as a price of the order's own token."""
    return other.price if order.outcome is other.outcome else complement(other.price)
