"""Cash and share balances, in integers.

Knows fills and settlements; not orders, books or time.
"""

from __future__ import annotations

from collections.abc import Iterable

from market.errors import LedgerMismatch
from market.types import Fill, Micro, Outcome, Settlement, Side, Transfer
from tools.orders import Holdings

_LOOK = "Compare the run's fills with its decision log before trading on."


class Ledger:
    """Cash and holdings. Raises LedgerMismatch instead of going negative in dollars or shares.

    `fills`, `settlements` and `transfers` are the history, in any order: only its total is checked, because winnings
    have paid for later purchases, and venues give the time of a trade to the second only.
    """

    def __init__(
        self,
        cash: Micro,
        fills: Iterable[Fill] = (),
        settlements: Iterable[Settlement] = (),
        transfers: Iterable[Transfer] = (),
    ) -> None:
        self._cash = cash + sum(t.amount for t in transfers)
        self._held: dict[tuple[str, Outcome], Micro] = {}
        for fill in fills:
            self._change(fill.market_id, fill.outcome, _shares(fill), fill.cash)
        for settlement in settlements:
            self._change(settlement.market_id, settlement.outcome, -settlement.size, settlement.cash)
        self._must_own("the past of this account", self._cash, min(self._held.values(), default=0))

    @property
    def cash(self) -> Micro:
        return self._cash

    @property
    def holdings(self) -> Holdings:
        return dict(self._held)

    def held(self, market_id: str, outcome: Outcome) -> Micro:
        return self._held.get((market_id, outcome), 0)

    def fill(self, fill: Fill) -> None:
        self._book(fill.market_id, fill.outcome, _shares(fill), fill.cash, f"fill {fill.id}")

    def settle(self, settlement: Settlement) -> None:
        what = f"the settlement of {settlement.market_id}"
        self._book(settlement.market_id, settlement.outcome, -settlement.size, settlement.cash, what)

    def transfer(self, transfer: Transfer) -> None:
        self._must_own(f"the {transfer.kind} {transfer.id}", self._cash + transfer.amount, 0)
        self._cash += transfer.amount

    def _book(self, market_id: str, outcome: Outcome, shares: Micro, dollars: Micro, what: str) -> None:
        self._must_own(what, self._cash + dollars, self.held(market_id, outcome) + shares)
        self._change(market_id, outcome, shares, dollars)

    @staticmethod
    def _must_own(what: str, cash: Micro, held: Micro) -> None:
        if held < 0 or cash < 0:
            raise LedgerMismatch(
                f"{what} takes more than there is of {'shares' if held < 0 else 'cash'}.", next_step=_LOOK
            )

    def _change(self, market_id: str, outcome: Outcome, shares: Micro, dollars: Micro) -> None:
        self._cash += dollars
        if held := self.held(market_id, outcome) + shares:
            self._held[market_id, outcome] = held
        else:
            self._held.pop((market_id, outcome), None)


def _shares(fill: Fill) -> Micro:
    return fill.size if fill.side is Side.BUY else -fill.size


def balance(
    cash: Micro, fills: Iterable[Fill], settlements: Iterable[Settlement], transfers: Iterable[Transfer] = ()
) -> Micro:
    """Expected cash of an account: its initial cash and every change since."""
    traded = sum(f.cash for f in fills) + sum(s.cash for s in settlements)
    return cash + traded + sum(t.amount for t in transfers)
