"""What an account of the loopback venue owns, in integers: what is there, and what trades that have not settled will
bring or have bound.

A trade takes what it costs at once and brings what it buys only when it is mined, so that one that fails can be undone
without anything being owed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from market.errors import LedgerMismatch
from market.types import Micro

CASH = "cash"
"""The name of the collateral among the things a purse holds; the others are token ids."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of a trade: `gives` of one thing for `takes` of another, by name, cash or token id."""

    gives: tuple[str, Micro]
    takes: tuple[str, Micro]


@dataclass(slots=True)
class Purse:
    """Amounts by name, no zero entries: `held` is free, `bound` is given and `coming` is bought by trades that have not
    settled."""

    held: dict[str, Micro] = field(default_factory=dict)
    bound: dict[str, Micro] = field(default_factory=dict)
    coming: dict[str, Micro] = field(default_factory=dict)

    def has(self, what: str) -> Micro:
        return self.held.get(what, 0)

    def owes(self, what: str) -> Micro:
        """What unsettled trades have bound. With what is there, that is what the chain shows."""
        return self.bound.get(what, 0)

    def chain(self, what: str) -> Micro:
        """What the chain shows."""
        return self.has(what) + self.owes(what)

    def unsettled(self, what: str) -> bool:
        return what in self.bound or what in self.coming

    def put(self, what: str, amount: Micro) -> None:
        """Add to what is there, or take from it. Raises LedgerMismatch rather than owe."""
        self._add(self.held, what, amount)

    def begin(self, leg: Leg) -> None:
        """A trade was matched."""
        self.put(leg.gives[0], -leg.gives[1])
        self._add(self.bound, *leg.gives)
        self._add(self.coming, *leg.takes)

    def settle(self, leg: Leg) -> None:
        """It was mined."""
        self._end(leg)
        self.put(*leg.takes)

    def undo(self, leg: Leg) -> None:
        """It failed."""
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
