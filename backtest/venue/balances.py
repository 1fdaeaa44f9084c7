"""Balances of the loopback venue's accounts, in integers: free amounts, and the effect of trades that have not settled.

A trade deducts its cost at once and adds its purchase only when it is mined, so that one that fails can be reversed
without a negative balance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from market.errors import LedgerMismatch
from market.types import Micro

CASH = "cash"
"""Name of the collateral among the assets of an account; the others are token ids."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of a trade: `gives` an amount of one asset for `takes` of another, by name, cash or token id."""

    gives: tuple[str, Micro]
    takes: tuple[str, Micro]


@dataclass(slots=True)
class Balances:
    """Balances of an account by asset, without zero entries: `held` is free, `bound` is given and `coming` is bought by
    trades that have not settled."""

    held: dict[str, Micro] = field(default_factory=dict)
    bound: dict[str, Micro] = field(default_factory=dict)
    coming: dict[str, Micro] = field(default_factory=dict)

    def has(self, what: str) -> Micro:
        return self.held.get(what, 0)

    def owes(self, what: str) -> Micro:
        """Amount bound by unsettled trades."""
        return self.bound.get(what, 0)

    def chain(self, what: str) -> Micro:
        """On-chain balance: free and bound, since an unsettled trade has not moved anything there yet."""
        return self.has(what) + self.owes(what)

    def unsettled(self, what: str) -> bool:
        return what in self.bound or what in self.coming

    def put(self, what: str, amount: Micro) -> None:
        """Change the free amount. Raises LedgerMismatch for a negative result."""
        self._add(self.held, what, amount)

    def begin(self, leg: Leg) -> None:
        """Apply a matched trade."""
        self.put(leg.gives[0], -leg.gives[1])
        self._add(self.bound, *leg.gives)
        self._add(self.coming, *leg.takes)

    def settle(self, leg: Leg) -> None:
        """Complete a mined trade."""
        self._end(leg)
        self.put(*leg.takes)

    def undo(self, leg: Leg) -> None:
        """Reverse a failed trade."""
        self._end(leg)
        self.put(*leg.gives)

    def _end(self, leg: Leg) -> None:
        self._add(self.bound, leg.gives[0], -leg.gives[1])
        self._add(self.coming, leg.takes[0], -leg.takes[1])

    @staticmethod
    def _add(amounts: dict[str, Micro], what: str, amount: Micro) -> None:
        total = amounts.get(what, 0) + amount
        if total < 0:
            raise LedgerMismatch(f"an account of the venue would owe {-total} of {what}.")
        if total:
            amounts[what] = total
        else:
            amounts.pop(what, None)
