"""Books of the account: state of each order, and the effect of its trades on cash and shares. No I/O.

Reports on orders and trades may come late, twice or out of order, and by several channels; no state here ever goes
backwards. A trade counts when it is matched and is reversed by an opposite entry when its settlement fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain

from market.clock import EPOCH
from market.errors import VenueUnavailable
from market.fees import FeeSchedule, charged
from market.types import (
    OVER,
    Ack,
    Fill,
    FillEvidence,
    Market,
    Micro,
    OrderStatus,
    Outcome,
    Resolution,
    Settlement,
    Side,
    SignedOrder,
    Transfer,
    TransferKind,
)
from tools.ledger import REVERSED, Ledger
from tools.orders import Account
from tools.polymarket.account import OrderSaid, Share, TradeSaid, TradeStatus, shares

_ANSWERED, _DECIDED = timedelta(seconds=30), timedelta(minutes=15)
"""Age of an order without an answer, and of a close without an outcome, from which on they are told."""
_ROUNDED: Micro = 10
_NEAR = Decimal("0.0005")
_LATE = "/late"
"""Suffix of the id of a fill that had been taken for failed and was mined after all."""
_RANK = {s: n for n, s in enumerate((TradeStatus.MATCHED, TradeStatus.RETRYING, TradeStatus.MINED))} | {
    TradeStatus.CONFIRMED: 3,
    TradeStatus.FAILED: 3,
}


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """State left by earlier runs of this account: its initial cash, fills, settlements, and orders of unknown outcome.
    `ended` are terminal orders whose trades may still become known or fail. `since` is the start of the first run;
    trades before it are the owner's own, and so is whatever is not ours until `reviewed_at`, when the owner has last
    looked."""

    cash: Micro
    since: datetime
    fills: Sequence[Fill] = ()
    settlements: Sequence[Settlement] = ()
    orders: Sequence[SignedOrder] = ()
    ended: Sequence[SignedOrder] = ()
    transfers: Sequence[Transfer] = ()
    reviewed_at: datetime = EPOCH


@dataclass(slots=True)
class TrackedOrder:
    """A tracked order. `status`: None until the venue confirms or denies it. `matched`: filled size reported by the
    venue. `booked`: filled size for which the trades have arrived."""

    signed: SignedOrder
    market: Market
    status: OrderStatus | None = None
    reason: str = ""
    matched: Micro = 0
    booked: Micro = 0

    @property
    def over(self) -> bool:
        """Terminal, and all its trades are known: otherwise its cost would for a while be neither reserved nor
        spent."""
        return self.status in OVER and self.booked >= self.matched

    @property
    def left(self) -> Micro:
        return max(self.signed.order.size - max(self.booked, self.matched), 0)

    def word(self) -> Ack:
        """Answer for the order port. Raises VenueUnavailable while nothing is known."""
        if self.status is None:
            raise VenueUnavailable("It is not known whether the venue took the order.")
        if self.status in OVER and not self.over:
            return Ack(self.signed.id, OrderStatus.DELAYED)
        return Ack(self.signed.id, self.status, self.reason)


@dataclass(slots=True)
class _Trade:
    """Newest report of a trade, and the fills it made here."""

    said: TradeSaid
    fills: list[Fill] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected on-chain balance: dollars if `token` is empty. `closes_at` is of its market."""

    what: str
    token: str
    amount: Micro
    closes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IndexedTrade:
    """One order's part of a trade as the venue's index of the chain has it: a row each, at the mean price."""

    outcome: Outcome
    side: Side
    size: Micro
    price: Decimal

    def same(self, other: IndexedTrade) -> bool:
        """True if it is the same but for the roundings of the index, which has numbers with a point."""
        alike = (self.outcome, self.side) == (other.outcome, other.side)
        return alike and abs(self.size - other.size) <= _ROUNDED and abs(self.price - other.price) < _NEAR


def _indexed(fills: Iterable[Fill]) -> list[IndexedTrade]:
    """Rows of fills: those of one order in one trade are one."""
    parts: dict[tuple[str, str], list[Fill]] = {}
    for fill in fills:
        parts.setdefault((fill.id.partition("/")[0], fill.order_id), []).append(fill)
    return [
        IndexedTrade(some[0].outcome, some[0].side, size, sum(f.size * f.price for f in some) / Decimal(size))
        for some in parts.values()
        if (size := sum(f.size for f in some))
    ]


@dataclass(frozen=True, slots=True)
class Unmined:
    """A trade that is late: `moves` are micro-shares by (market id, outcome), `rows` what the venue's index would have
    of it, `mined` whether the venue calls it so, `transaction` its hash, or empty."""

    id: str
    market_id: str
    matched_at: datetime
    transaction: str
    mined: bool
    moves: Mapping[tuple[str, Outcome], Micro]
    rows: tuple[IndexedTrade, ...]


def _moved(fills: Iterable[Fill]) -> dict[tuple[str, Outcome], Micro]:
    """Change of holdings by fills."""
    moved: dict[tuple[str, Outcome], Micro] = {}
    for fill in fills:
        key = fill.market_id, fill.outcome
        moved[key] = moved.get(key, 0) + (fill.size if fill.side is Side.BUY else -fill.size)
    return moved


def _by_trade(fills: Iterable[Fill]) -> dict[str, list[Fill]]:
    """Fills of earlier runs by trade; this run has had no report yet on their settlement."""
    found: dict[str, list[Fill]] = {}
    for fill in fills:
        if not fill.id.endswith(REVERSED):
            found.setdefault(fill.id.partition("/")[0], []).append(fill)
    return found


class AccountBooks:
    """Orders, trades and balances of one account. `markets` finds a market by its id. `foreign` are trades and open
    orders of this account that are not of this log, a sentence by id."""

    def __init__(
        self,
        markets: Callable[[str], Market | None],
        remembered: AccountSnapshot,
        fees: Callable[[Market, datetime], FeeSchedule] = charged,
    ) -> None:
        self._markets, self._fees = markets, fees
        self._ledger = Ledger(remembered.cash, remembered.fills, remembered.settlements, remembered.transfers)
        self._transfers = {t.id for t in remembered.transfers}
        self._by_hand = [t.amount for t in remembered.transfers if t.kind is TransferKind.BOOKED]
        self._transferred_at = max((t.at for t in remembered.transfers), default=remembered.since)
        self._fills = {f.id: f for f in remembered.fills}
        self._orders: dict[str, TrackedOrder] = {}
        self._trades: dict[str, _Trade] = {}
        self._unreported = _by_trade(remembered.fills)
        # Winnings of a market that is not known any more were paid long ago, and cannot be checked.
        self._unpaid = {
            (s.market_id, s.outcome): s for s in remembered.settlements if s.cash and markets(s.market_id) is not None
        }
        self._settled = {(s.market_id, s.outcome) for s in remembered.settlements}
        self._fresh: list[Fill] = []
        self.since = remembered.since
        self._reviewed_at = remembered.reviewed_at
        self.foreign: dict[str, str] = {}
        for signed in remembered.orders:
            self.adopt(signed)
        for signed in remembered.ended:
            if (kept := self.adopt(signed)) is not None:
                kept.status = OrderStatus.CANCELED

    # -- orders

    def adopt(self, signed: SignedOrder) -> TrackedOrder | None:
        """Track an order of unknown outcome, of this run or an earlier one; None for an unknown market."""
        market = self._markets(signed.order.market_id)
        if market is not None and signed.id not in self._orders:
            booked = sum(f.size for f in self._fills.values() if f.order_id == signed.id and f.size > 0)
            self._orders[signed.id] = TrackedOrder(signed, market, booked=booked)
        return self._orders.get(signed.id)

    def kept(self, order_id: str) -> TrackedOrder | None:
        return self._orders.get(order_id)

    def working(self) -> list[TrackedOrder]:
        return [k for k in self._orders.values() if not k.over]

    def note(self, said: OrderSaid) -> None:
        """Apply a report on an order."""
        kept = self._orders.get(said.id)
        if kept is None:
            self._meet_order(said)
            return
        # Fills only grow, and a terminal status stays: a late report must not reopen an order.
        kept.matched = max(kept.matched, said.matched or 0)
        if kept.status not in OVER:
            kept.status, kept.reason = said.status, said.reason

    def _meet_order(self, said: OrderSaid) -> None:
        """Take note of an open order that is not ours."""
        if said.status in OVER or (said.created_at is not None and said.created_at < self._reviewed_at):
            return
        self.foreign.setdefault(said.id, f"the order {said.id} of this account is not of this log")

    def _meet_trade(self, said: TradeSaid, since: datetime) -> None:
        """Take note of a trade that none of our orders made."""
        if said.matched_at >= since:
            at = f"{said.matched_at:%Y-%m-%d %H:%M:%S} UTC"
            self.foreign.setdefault(said.id, f"the trade {said.id} of this account at {at} is not of this log")

    def meet(self, trades: Iterable[TradeSaid], orders: Iterable[OrderSaid]) -> None:
        """Take note of what is not ours among recent trades, those before our first run too, and open orders."""
        for trade in trades:
            ours = {trade.taker_order_id, *(p.order_id for p in trade.parts)} & self._orders.keys()
            if not ours and trade.id not in self._unreported and trade.id not in self._trades:
                self._meet_trade(trade, self._reviewed_at)
        for order in orders:
            if order.id not in self._orders:
                self._meet_order(order)

    # -- trades

    def learn(self, said: TradeSaid) -> None:
        """Apply a report on a trade, unless it is not newer than the known one."""
        known = self._trades.get(said.id)
        if known is not None and said.status.mined and known.fills and not any(map(self._stands, known.fills)):
            self._book_late(known, said)
            return
        if known is not None and _RANK[said.status] <= _RANK[known.said.status]:
            return
        if known is None:
            # One trade can hold several of our orders: as taker, and as one or more of its makers.
            mine = [i for i in (said.taker_order_id, *(p.order_id for p in said.parts)) if i in self._orders]
            before = self._unreported.pop(said.id, [])
            if not mine and not before:
                self._meet_trade(said, max(self.since, self._reviewed_at))
                return
            if before and not any(map(self._stands, before)):
                known = self._trades[said.id] = _Trade(replace(said, status=TradeStatus.FAILED), before)
                if said.status.mined:
                    self._book_late(known, said)
                return  # taken back in an earlier run
            if before and not said.status.final and all((f.market_id, f.outcome) in self._settled for f in before):
                said = replace(said, status=TradeStatus.CONFIRMED)  # an earlier run had it settled by the chain
            # Also of an order that ended in an earlier run: its trades may still fail.
            known = self._trades[said.id] = _Trade(said, before)
            for order_id in dict.fromkeys(mine):
                self._book(known, self._orders[order_id])
        known.said = said
        if said.status is TradeStatus.FAILED:
            self._take_back(known)

    def _book_late(self, trade: _Trade, said: TradeSaid) -> None:
        """Book once more what was taken for failed, because the chain did not have it, and was mined after all."""
        trade.said, trade.fills = said, [replace(f, id=f"{f.id}{_LATE}") for f in trade.fills]
        for fill in trade.fills:
            if fill.id not in self._fills:
                self._enter(fill)

    def _book(self, trade: _Trade, kept: TrackedOrder) -> None:
        order = kept.signed.order
        for share in shares(trade.said, kept.signed.id):
            fill_id = self._fill_id(trade.said.id, share)
            # The venue gives seconds: a fill must not come before its order.
            at = max(trade.said.matched_at, order.placed_at)
            fill = Fill(
                id=fill_id,
                order_id=kept.signed.id,
                market_id=order.market_id,
                outcome=order.outcome,
                side=order.side,
                price=share.price,
                size=share.size,
                fee=0 if share.maker else self._fees(kept.market, at).taker(share.price, share.size),
                at=at,
                evidence=FillEvidence.VENUE,
                maker=share.maker,
            )
            if fill_id not in self._fills:
                trade.fills.append(fill)
                kept.booked += share.size
                self._enter(fill)

    def _fill_id(self, trade_id: str, share: Share) -> str:
        """One id for each order and number of a trade. Where our own taker met our own maker both have a share of that
        number; the second to be booked has its order's id besides, so that older records keep the ids they have."""
        plain = f"{trade_id}/{share.number}"
        other = self._fills.get(plain)
        return plain if other is None or other.order_id == share.order_id else f"{plain}/{share.order_id}"

    def _take_back(self, trade: _Trade) -> None:
        """Reverse the fills of a trade whose settlement failed."""
        for fill in trade.fills:
            if fill.id in self._fills and self._stands(fill):
                self._enter(replace(fill, id=fill.id + REVERSED, size=-fill.size, fee=-fill.fee))

    def _enter(self, fill: Fill) -> None:
        self._ledger.fill(fill)
        self._fills[fill.id] = fill
        self._fresh.append(fill)

    def _stands(self, fill: Fill) -> bool:
        return fill.id + REVERSED not in self._fills

    def drain_fills(self) -> list[Fill]:
        """Fills booked since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def unsettled_since(self) -> datetime | None:
        """Match time of the oldest trade that is not final."""
        return min((t.said.matched_at for t in self._trades.values() if not t.said.status.final), default=None)

    # -- balances

    def account(self) -> Account:
        working = self.working()
        reserved = sum(self._reserved(k) for k in working)
        return Account(self._ledger.cash, reserved, self._ledger.holdings, tuple(k.signed for k in working))

    def _reserved(self, kept: TrackedOrder) -> Micro:
        order = kept.signed.order
        if order.side is Side.SELL:
            return 0
        # The worst case: an order that may take reserves the taker fee on all that is left of it.
        fee = 0 if order.post_only else self._fees(kept.market, order.placed_at).taker(order.price, kept.left)
        return replace(order, size=kept.left).cost + fee

    def settle(self, resolution: Resolution, now: datetime) -> Sequence[Settlement] | None:
        """Convert a resolved market's shares to dollars; None while an order or a trade of it may still change them."""
        market_id = resolution.market_id
        if resolution.payout is None or resolution.known_at > now:
            return []
        # By outcome: a process that died between the two settlements of a market leaves the second to the next one.
        left = [outcome for outcome in Outcome if (market_id, outcome) not in self._settled]
        if not any(self._ledger.held(market_id, outcome) for outcome in left) and len(left) < len(Outcome):
            return []
        if self._pending(market_id):
            return None
        made = [s for outcome in left if (s := self._settlement(resolution, outcome, now)) is not None]
        for one in made:
            self._ledger.settle(one)
            if one.cash:
                self._unpaid[one.market_id, one.outcome] = one
            self._settled.add((market_id, one.outcome))
        return made

    def overdue(self, before: datetime) -> list[Unmined]:
        """Trades matched before an instant that the venue still does not call final, with what they move."""
        late = [t for t in self._trades.values() if not t.said.status.final and t.said.matched_at < before]
        return [
            Unmined(
                id=t.said.id,
                market_id=standing[0].market_id,
                matched_at=t.said.matched_at,
                transaction=t.said.transaction,
                mined=t.said.status.mined,
                moves=_moved(standing),
                rows=tuple(_indexed(standing)),
            )
            for t in late
            if (standing := [f for f in t.fills if self._stands(f)])
        ]

    def mined(self, market_id: str) -> list[IndexedTrade]:
        """Trades of a market that the venue calls mined, as its index has them."""
        coming = {f.id for t in self._trades.values() if not t.said.status.mined for f in t.fills}
        there = (f for f in self._fills.values() if f.market_id == market_id and f.size > 0 and self._stands(f))
        return _indexed(f for f in there if f.id not in coming)

    def waits(self, now: datetime) -> list[str]:
        """A sentence on each order without an answer, and on each closed market that is held and not decided."""
        unknown = [k for k in self.working() if k.status is None and now - k.signed.order.placed_at > _ANSWERED]
        said = [f"The order {k.signed.id[:12]} in {k.market.slug} has no answer yet." for k in unknown]
        held = {m.id: m for m in map(self._markets, sorted({h[0] for h in self._ledger.holdings})) if m is not None}
        late = [m for m in held.values() if now - m.closes_at > _DECIDED]
        return [*said, *(f"{m.slug} closed at {m.closes_at:%Y-%m-%d %H:%M} UTC and is not settled yet." for m in late)]

    def conclude(self, trade_id: str, status: TradeStatus) -> None:
        """End a trade by what the chain says, where the venue does not: CONFIRMED or FAILED."""
        known = self._trades[trade_id]
        self.learn(replace(known.said, status=status))

    def take_for_final(self, before: datetime) -> list[str]:
        """Take trades of earlier runs for final that the venue did not list among all since then, and that are older;
        return their ids. Whatever they were, the comparison of balances shows it."""
        gone = [t for t, fills in self._unreported.items() if max(f.at for f in fills) < before]
        for trade_id in gone:
            del self._unreported[trade_id]
        return gone

    # -- transfers

    @property
    def transferred_at(self) -> datetime:
        """Instant of the newest transfer, or of the start."""
        return self._transferred_at

    def unbooked(self, transfers: Iterable[Transfer]) -> list[Transfer]:
        """Those transfers since the start that are not in the books. One of the amount of one that the owner has booked
        is that one: the venue's activity may have come late."""
        fresh, by_hand = list[Transfer](), Counter(self._by_hand)
        for one in (t for t in transfers if t.id not in self._transfers and t.at >= self.since):
            if by_hand[one.amount] > 0:
                by_hand[one.amount] -= 1
            else:
                fresh.append(one)
        return fresh

    def receive(self, transfer: Transfer) -> None:
        """Book cash that came or went beside trading; a second call has no effect."""
        if transfer.id not in self._transfers:
            self._ledger.transfer(transfer)
            self._transfers.add(transfer.id)
            self._transferred_at = max(self._transferred_at, transfer.at)

    def _pending(self, market_id: str) -> bool:
        orders = any(k.signed.order.market_id == market_id for k in self.working())
        trades = (t for t in self._trades.values() if not t.said.status.final)
        fills = chain((f for t in trades for f in t.fills), *self._unreported.values())
        return orders or any(f.market_id == market_id for f in fills)

    def _settlement(self, resolution: Resolution, outcome: Outcome, now: datetime) -> Settlement | None:
        size, payout = self._ledger.held(resolution.market_id, outcome), resolution.pays(outcome)
        if not size or payout is None:
            return None
        return Settlement(
            market_id=resolution.market_id, outcome=outcome, size=size, payout=payout, source=resolution.source, at=now
        )

    @property
    def unpaid(self) -> Mapping[tuple[str, Outcome], Settlement]:
        """Winnings due by the resolution that have not been seen on our account."""
        return self._unpaid

    def paid(self, key: tuple[str, Outcome]) -> None:
        """Mark winnings as seen on our account; a second call has no effect."""
        self._unpaid.pop(key, None)

    def expected(self) -> Iterable[Expected]:
        """Expected balances on the chain: without trades that are not mined yet, and without unpaid winnings."""
        coming = [f for t in self._trades.values() if not t.said.status.mined for f in t.fills if self._stands(f)]
        cash = self._ledger.cash - sum(f.cash for f in coming) - sum(s.cash for s in self._unpaid.values())
        yield Expected("dollars", "", cash)
        moved = _moved(coming)
        for market_id, outcome in sorted(self._ledger.holdings.keys() | moved.keys()):
            market = self._markets(market_id)
            if market is not None:
                size = self._ledger.held(market_id, outcome) - moved.get((market_id, outcome), 0)
                what = f"{market.label(outcome)} of {market.slug}"
                yield Expected(what, market.token(outcome), size, market.closes_at)

    def expected_of(self, token: str) -> Expected | None:
        """Expected balance of one token, of the collateral if none is named; None for one that is not held."""
        return next((e for e in self.expected() if e.token == token), None)
