"""Cash and share balances, and cost and result of positions, in integers.

Knows fills and settlements; not orders, books or time.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from market.errors import LedgerMismatch
from market.types import Fill, Micro, Outcome, Settlement, Side, Transfer
from tools.orders import Holdings

REVERSED = "/failed"
"""Suffix of the id of a fill that reverses another."""
_BOUGHT, _SOLD, _SETTLED = range(3)
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
        transfers: Sequence[Transfer] = (),
    ) -> None:
        self._cash = cash + sum(t.amount for t in transfers)
        self._held: dict[tuple[str, Outcome], Micro] = {}
        for fill in fills:
            self._change(fill.market_id, fill.outcome, _shares(fill), fill.cash)
        for settlement in settlements:
            self._change(settlement.market_id, settlement.outcome, -settlement.size, settlement.cash)
        # Without what was withdrawn: cash here is of matched trades, and the owner takes what is on the chain.
        withdrawn = sum(min(t.amount, 0) for t in transfers)
        self._must_own("the past of this account", self._cash - withdrawn, min(self._held.values(), default=0))

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
        """Add cash that came or went beside trading. What is missing then shows where the accounts are compared."""
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


class _Move(NamedTuple):
    """Change of one position. In the order of these fields: at one instant purchases come before sales."""

    at: datetime
    rank: int
    key: str
    shares: Micro
    cash: Micro


class Realised(NamedTuple):
    """Result of the fill or settlement `key` that closed shares at `at`: `earned` micro-dollars after its fee."""

    at: datetime
    rank: int
    key: str
    market_id: str
    outcome: Outcome
    earned: Micro


@dataclass(slots=True)
class _Lot:
    """Micro-shares of a position and the micro-dollars that they cost; negative where more was sold than is known to
    have been bought."""

    size: Micro = 0
    cost: Micro = 0

    def move(self, shares: Micro, cash: Micro) -> Micro | None:
        """Apply a change; return its result in micro-dollars, None if it closed nothing."""
        if shares and self.size * shares >= 0:
            self.size, self.cost = self.size + shares, self.cost - cash
            return None
        closed = min(abs(shares), abs(self.size))
        cost = self.cost * closed // abs(self.size) if self.size else 0
        proceeds = cash * closed // abs(shares) if shares else cash
        self.size += shares
        # What is not of the closed shares opened others.
        self.cost -= cost + cash - proceeds
        return proceeds - cost


class PositionLedger:
    """Cost and realised results of positions, by market and outcome, at average cost.

    A purchase adds its price and fee to the position's cost. A sale realises its proceeds after the fee less the
    average cost of the shares sold, rounded down to a micro-dollar; the shares that are left carry the remainder. A
    settlement realises its payout less the cost of its shares. Hence, at any time and to the micro-dollar, the sum of
    all results is the cash flow plus the remaining cost.

    The state depends on the set of fills and settlements alone, taken in the order of their own instants: not on the
    order in which they became known, nor on restarts. A repeated one counts once. A fill and its reversal, which bears
    the fill's id and `REVERSED`, are as if neither had been. Shares sold before their purchase is known are a negative
    position until it is.
    """

    def __init__(self, fills: Iterable[Fill] = (), settlements: Iterable[Settlement] = ()) -> None:
        self._fills: dict[str, Fill] = {}
        self._moves: dict[tuple[str, Outcome], list[_Move]] = {}
        self._lots: dict[tuple[str, Outcome], _Lot] = {}
        self._settled: set[str] = set()
        self._costs: dict[str, Micro] = {}
        self._results: list[Realised] = []
        self.rewrites = 0
        # In the order of their instants, so that each only extends what stands.
        told: list[Fill | Settlement] = [*fills, *settlements]
        for one in sorted(told, key=lambda t: t.at):
            if isinstance(one, Fill):
                self.fill(one)
            else:
                self.settle(one)

    @property
    def results(self) -> Sequence[Realised]:
        """Realised results by instant. `rewrites` counts how often others than the last ones have changed."""
        return self._results

    @property
    def earned(self) -> Micro:
        """Sum of all results, in micro-dollars."""
        return sum(r.earned for r in self._results)

    @property
    def costs(self) -> Mapping[str, Micro]:
        """Cost of the holdings of each market in micro-dollars; markets without any are left out."""
        return self._costs

    @property
    def total_cost(self) -> Micro:
        """Cost of all holdings in micro-dollars; a negative position offsets no other one."""
        return sum(max(0, cost) for cost in self._costs.values())

    @property
    def holdings(self) -> Holdings:
        return {position: lot.size for position, lot in self._lots.items() if lot.size}

    @property
    def moves(self) -> int:
        """Number of fills and settlements so far."""
        return len(self._fills) + len(self._settled)

    def cost(self, market_id: str) -> Micro:
        return self._costs.get(market_id, 0)

    def held(self, market_id: str, outcome: Outcome) -> Micro:
        lot = self._lots.get((market_id, outcome))
        return lot.size if lot is not None else 0

    def fill(self, fill: Fill) -> None:
        """Count a fill, or take back the one that it reverses."""
        if fill.id in self._fills:
            return
        self._fills[fill.id] = fill
        # Whichever of the two became known first, neither counts.
        if (first := self._fills.get(fill.id.removesuffix(REVERSED))) is not None and first is not fill:
            self._remove(first)
        elif (reversal := self._fills.get(fill.id + REVERSED)) is not None:
            self._remove(reversal)
        else:
            self._insert((fill.market_id, fill.outcome), _moved(fill))

    def settle(self, settlement: Settlement) -> None:
        """Count a settlement."""
        key = f"{settlement.market_id}/{settlement.outcome.value}/{settlement.at.isoformat()}"
        if key not in self._settled:
            self._settled.add(key)
            move = _Move(at=settlement.at, rank=_SETTLED, key=key, shares=-settlement.size, cash=settlement.cash)
            self._insert((settlement.market_id, settlement.outcome), move)

    def _insert(self, position: tuple[str, Outcome], move: _Move) -> None:
        moves = self._moves.setdefault(position, [])
        if not moves or moves[-1] <= move:
            moves.append(move)
            self._apply(position, move)
            return
        insort(moves, move)
        self._recompute(position)

    def _remove(self, fill: Fill) -> None:
        position, move = (fill.market_id, fill.outcome), _moved(fill)
        if move in self._moves.get(position, ()):
            self._moves[position].remove(move)
            self._recompute(position)

    def _apply(self, position: tuple[str, Outcome], move: _Move) -> None:
        lot = self._lots.setdefault(position, _Lot())
        before = lot.cost
        earned = lot.move(move.shares, move.cash)
        self._add_cost(position[0], lot.cost - before)
        if earned is None:
            return
        market_id, outcome = position
        result = Realised(at=move.at, rank=move.rank, key=move.key, market_id=market_id, outcome=outcome, earned=earned)
        self.rewrites += bool(self._results) and result < self._results[-1]
        insort(self._results, result)

    def _recompute(self, position: tuple[str, Outcome]) -> None:
        """Apply a position's moves again, after one was inserted or removed among them."""
        self._add_cost(position[0], -self._lots.pop(position, _Lot()).cost)
        kept = [r for r in self._results if (r.market_id, r.outcome) != position]
        self.rewrites += len(kept) != len(self._results)
        self._results = kept
        for move in self._moves[position]:
            self._apply(position, move)

    def _add_cost(self, market_id: str, change: Micro) -> None:
        if cost := self._costs.get(market_id, 0) + change:
            self._costs[market_id] = cost
        else:
            self._costs.pop(market_id, None)


def _moved(fill: Fill) -> _Move:
    rank = _BOUGHT if fill.side is Side.BUY else _SOLD
    return _Move(at=fill.at, rank=rank, key=fill.id, shares=_shares(fill), cash=fill.cash)
