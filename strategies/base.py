"""What a strategy sees and what it may wish for. Pure values: no clock, no store, no venue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from market.fees import FeeSchedule
from market.types import Book, Market, Micro, Outcome, Side, TimeInForce

if TYPE_CHECKING:
    from market.columns import Columns, Mask


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision may depend on. `book` is the YES book; cash is what is free to spend; `at_risk` is what this
    market's holdings, of either outcome, and its working orders have cost or may cost; `reference` is P(YES) by the
    reference price alone, for strategies that are `Referenced`, None where there is no such price."""

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
    """An order a strategy would like, before limits and identity. `why` is kept in the log."""

    outcome: Outcome
    side: Side
    price: Decimal
    size: Micro
    why: str
    tif: TimeInForce = TimeInForce.FAK
    post_only: bool = False
    good_until: datetime | None = None


class Strategy(Protocol):
    """Looks at one market at one instant. `once` says that a market is over for it with its first order there."""

    @property
    def name(self) -> str: ...

    @property
    def once(self) -> bool: ...

    def decide(self, view: View) -> OrderIntent | None: ...


@runtime_checkable
class Referenced(Protocol):
    """A strategy that looks at the reference price behind the question, once in `every` seconds of a market at most."""

    @property
    def every(self) -> float: ...


@runtime_checkable
class Scanning(Protocol):
    """A strategy that can tell from arrays which books it need not be shown: what makes a replay fast."""

    def worth(self, market: Market, books: Columns, held_yes: Micro, held_no: Micro) -> Mask:
        """(n,): false where `decide` would wish for nothing whatever the cash, with these shares held."""
        ...
