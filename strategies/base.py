"""Strategy interface: the view a strategy decides on, and the order intent it may return. Pure values: no clock, no
store, no venue."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from market.fees import FeeSchedule
from market.types import Book, Market, Micro, Outcome, Side, TimeInForce

if TYPE_CHECKING:
    from market.columns import Columns, Mask


@dataclass(frozen=True, slots=True)
class View:
    """All inputs of a decision. `book` is the YES book; cash is free to spend; `at_risk` is the cost of this market's
    holdings, of either outcome, and the possible cost of its working orders; `reference` is P(YES) by the reference
    price alone, for strategies that are `Referenced`, None if there is no such price."""

    market: Market
    book: Book
    fees: FeeSchedule
    at: datetime
    cash: Micro
    held_yes: Micro = 0
    held_no: Micro = 0
    at_risk: Micro = 0
    reference: float | None = None

    @property
    def seconds_left(self) -> float:
        return (self.market.closes_at - self.at).total_seconds()

    def held(self, outcome: Outcome) -> Micro:
        return self.held_yes if outcome is Outcome.YES else self.held_no


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """An order that a strategy wants, before limits and identity. `why` is stored in the log."""

    outcome: Outcome
    side: Side
    price: Decimal
    size: Micro
    why: str
    tif: TimeInForce = TimeInForce.FAK
    post_only: bool = False
    good_until: datetime | None = None


class Strategy(Protocol):
    """Decides on one market at one instant. `once`: after its first order in a market it is done there."""

    @property
    def name(self) -> str: ...

    @property
    def once(self) -> bool: ...

    def decide(self, view: View) -> OrderIntent | None: ...


@runtime_checkable
class Referenced(Protocol):
    """A strategy that reads the reference price of the underlying, at most once in `every` seconds per market."""

    @property
    def every(self) -> float: ...


@runtime_checkable
class Scanning(Protocol):
    """A strategy that can filter books as arrays before `decide` is called: the fast path of a replay."""

    def worth(self, market: Market, books: Columns, held_yes: Micro, held_no: Micro) -> Mask:
        """(n,): false where `decide` would return no order whatever the cash, with these shares held."""
        ...


def __getattr__(name: str) -> Any:
    """`Wish`, the former name of `OrderIntent`, for strategies of other packages: accepted in this version only."""
    if name == "Wish":
        warnings.warn("strategies.base.Wish is now OrderIntent", DeprecationWarning, stacklevel=2)
        return OrderIntent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
