"""Fills of a recorded book for an order that was not in it.

Pure: knows values only, no feed, no clock, no money.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from market.columns import NOBODY, Columns, Mask
from market.types import Book, Level, Micro, Order, Outcome, Side, complement, micro


def reaches(order: Order, price: Decimal) -> bool:
    """True if the order's limit allows a trade at `price` of its own token."""
    return price <= order.price if order.side is Side.BUY else price >= order.price


def _lifts_offers(order: Order) -> bool:
    """True if the order takes from the YES book's asks; buying one token is selling the other."""
    return (order.side is Side.BUY) is (order.outcome is Outcome.YES)


def urgency(order: Order) -> Decimal:
    """Price priority among resting orders: the smaller number, the most generous price, is served first."""
    price = order.price if order.outcome is Outcome.YES else complement(order.price)
    return -price if _lifts_offers(order) else price


@dataclass(slots=True)
class Taken:
    """Displayed shares that our own orders have consumed in one market, which the recording goes on showing.

    No displayed share fills us twice: a level stays consumed while it stands, and only its excess is available. A level
    that has gone and come back is a new one.
    """

    used: dict[tuple[bool, Decimal], Micro] = field(default_factory=dict)

    def observe(self, book: Book) -> None:
        """Update with a YES book."""
        if not self.used:
            return
        shown = {(asks, p): size for asks, side in ((True, book.asks), (False, book.bids)) for p, size in side}
        # The mark shrinks with its level, so that shares which are added again later are available.
        self.used = {key: min(n, shown[key]) for key, n in self.used.items() if key in shown}

    def shrunk(self, books: Columns) -> Mask:
        """(n,): true where a level shows less than is consumed of it, so that `observe` would change something."""
        less = np.zeros(len(books), np.bool_)
        for (asks, price), used in self.used.items():
            less |= (books.asks if asks else books.bids).at(micro(price)) < used
        return less

    def offered(self, order: Order, book: Book) -> Sequence[Level]:
        """Levels of a YES book within the order's limit, best first, priced in the order's own token, less consumed
        shares."""
        if book.placeholder:
            return ()
        own = book.of(order.outcome)
        asks = _lifts_offers(order)
        found = []
        for price, size in own.asks if order.side is Side.BUY else own.bids:
            if not reaches(order, price):
                break
            left = size - self.used.get((asks, self._key(order, price)), 0)
            if left > 0:
                found.append(Level(price, left))
        return found

    def take(self, order: Order, level: Level, size: Micro) -> None:
        """Consume `size` of a level that was offered to the order."""
        key = _lifts_offers(order), self._key(order, level.price)
        self.used[key] = self.used.get(key, 0) + size

    @staticmethod
    def _key(order: Order, price: Decimal) -> Decimal:
        return price if order.outcome is Outcome.YES else complement(price)


def crosses(order: Order, book: Book) -> bool:
    """True if the order would trade at once with the YES book as displayed."""
    if book.placeholder:
        return False
    own = book.of(order.outcome)
    best = own.best_ask if order.side is Side.BUY else own.best_bid
    return best is not None and reaches(order, best)


def passes(order: Order, books: Columns) -> Mask:
    """(n,): true where the market trades through the order: the best opposite price of a YES book is past its limit."""
    limit = micro(order.price if order.outcome is Outcome.YES else complement(order.price))
    if _lifts_offers(order):
        best = books.asks.best
        below: Mask = (best < limit) & (best != NOBODY)
        return below
    above: Mask = books.bids.best > limit
    return above


def split(levels: Sequence[Level], size: Micro) -> list[tuple[Level, Micro]]:
    """Allocate `size` to levels, best first; nothing beyond their size."""
    shares = []
    for level in levels:
        part = min(level.size, size)
        if part <= 0:
            break
        shares.append((level, part))
        size -= part
    return shares
