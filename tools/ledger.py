"""Pretend dollars and shares, in integers.

Knows fills and settlements; not orders, books or time.
"""

from __future__ import annotations

from collections.abc import Iterable

from market.errors import LedgerMismatch
from market.types import Fill, Micro, Outcome, Settlement, Side
from tools.orders import Holdings

_LOOK = "Compare the run's fills with its decision log before trading on."


class Ledger:
    """Cash and holdings. Raises LedgerMismatch rather than owe dollars or shares."""

    def __init__(self, cash: Micro, fills: Iterable[Fill] = (), settlements: Iterable[Settlement] = ()) -> None:
        self._cash = cash
        self._held: dict[tuple[str, Outcome], Micro] = {}
        for fill in fills:
            self.fill(fill)
        for settlement in settlements:
            self.settle(settlement)

    @property
    def cash(self) -> Micro:
        return self._cash

    @property
    def holdings(self) -> Holdings:
        return dict(self._held)

    def held(self, market_id: str, outcome: Outcome) -> Micro:
        return self._held.get((market_id, outcome), 0)

    def fill(self, fill: Fill) -> None:
        signed = fill.size if fill.side is Side.BUY else -fill.size
        self._book(fill.market_id, fill.outcome, signed, fill.cash, f"fill {fill.id}")

    def settle(self, settlement: Settlement) -> None:
        what = f"the settlement of {settlement.market_id}"
        self._book(settlement.market_id, settlement.outcome, -settlement.size, settlement.cash, what)

    def _book(self, market_id: str, outcome: Outcome, shares: Micro, dollars: Micro, what: str) -> None:
        held, cash = self.held(market_id, outcome) + shares, self._cash + dollars
        if held < 0 or cash < 0:
            raise LedgerMismatch(
                f"{what} takes more than there is of {'shares' if held < 0 else 'cash'}.", next_step=_LOOK
            )
        self._cash = cash
        if held:
            self._held[market_id, outcome] = held
        else:
            self._held.pop((market_id, outcome), None)
