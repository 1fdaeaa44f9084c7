"""Exchange of the loopback venue: many accounts, one matching engine, trades that settle later or fail.

Orders are matched by `backtest.matching_engine`, exactly as on paper, against the books of a scenario and each other.
All events happen at their own time in one order, so the outcome depends on the requests and their times, and on nothing
else. Knows no sockets, signatures or payloads; changes are published as events.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import count
from typing import NamedTuple

from backtest.admission import Applicant, refusal, too_little, worst_fee
from backtest.matching_engine import CROSSES, NO_MATCH, NOT_FULL, MatchedTrade, MatchingEngine, Working, affordable
from backtest.venue.activity import (
    REDEEM_PER_TOKEN_FROM,
    ActivityLog,
    LoopbackActivity,
    LoopbackActivityKind,
    transaction_of,
)
from backtest.venue.balances import CASH, Balances, Leg
from backtest.venue.faults import Fault, Faults
from backtest.venue.scenarios import Scenario
from market.clock import EPOCH
from market.fees import charged
from market.rules import taker_delay
from market.types import (
    Book,
    Level,
    Market,
    Micro,
    Order,
    OrderStatus,
    Outcome,
    Side,
    SignedOrder,
    complement,
    notional,
    redeemed,
)

CLOSED_FOR_ORDERS = "the market is not yet ready to process new orders"
RESOLVED = "CANCELED_MARKET_RESOLVED"
EXPIRED = "CANCELED_EXPIRED_ORDER"
UNFUNDED = "CANCELED_NOT_ENOUGH_BALANCE"
SETTLED_OVER = "already canceled or matched"


class VenueTradeStatus(StrEnum):
    MATCHED = "MATCHED"
    MINED = "MINED"
    CONFIRMED = "CONFIRMED"
    RETRYING = "RETRYING"
    FAILED = "FAILED"


class SettlementFate(StrEnum):
    """Course of a trade after its match: `NEVER_MINED` moves nothing, ever; `MINED_SILENTLY` moves everything on the
    chain. Both stay MATCHED for whoever asks the exchange."""

    SETTLES = "settles"
    NEVER_MINED = "never_mined"
    MINED_SILENTLY = "mined_silently"


@dataclass(frozen=True, slots=True)
class Pace:
    """Delays of the venue. `taker_delay` is of orders that take at once, None for the venue's own of the date.
    `resolving` runs from a window's close to its resolution, `paying` from there until winnings are paid automatically,
    or never if it is None."""

    taker_delay: timedelta | None = None
    mining: timedelta = timedelta(seconds=2)
    confirming: timedelta = timedelta(seconds=4)
    resolving: timedelta = timedelta(seconds=30)
    paying: timedelta | None = None
    # The venue cancels all orders of a key ten seconds after its last heartbeat, once it has sent one.
    heartbeat: timedelta = timedelta(seconds=10)
    # A good-till-date order ends a minute before the second that it names.
    early_expiry: timedelta = timedelta(seconds=60)


PACE = Pace()
_MILLIONTH = Decimal("1e-6")


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated order. `budget` is the spending limit in micro-dollars of a purchase that is killed or filled at
    once, which asks for as many shares as it buys; `expires_at` is of a good-till-date order."""

    id: str
    owner: str
    address: str
    order: Order
    kind: str
    expires_at: datetime | None = None
    budget: Micro | None = None


@dataclass(slots=True, eq=False)
class Placed:
    """An accepted order. `matched` are micro-shares; `status` is in the venue's words."""

    submission: Submission
    working: Working
    market: Market
    created_at: datetime
    status: str = "LIVE"
    matched: Micro = 0
    spent: Micro = 0
    trades: list[str] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return not self.working.done

    @property
    def killed(self) -> bool:
        """True if it had to be filled at once and was not at all."""
        return self.status.removeprefix("CANCELED_") in (NO_MATCH, NOT_FULL)


@dataclass(frozen=True, slots=True)
class VenueFill:
    """One resting side of a trade: an order, or the displayed book if `maker` is None. `price` is of the trade's token,
    `fee` is what the taker pays for this part."""

    maker: Placed | None
    price: Decimal
    size: Micro
    fee: Micro


class TradePart(NamedTuple):
    """Part of an account's order in a trade; `price` is of the order's own token, `dollars` are without the fee."""

    placed: Placed
    price: Decimal
    size: Micro
    dollars: Micro


@dataclass(slots=True, eq=False)
class VenueTrade:
    """One match of one taker with everything that it met, and its settlement. `outcome` and `side` are the taker's; the
    taker is None if the displayed book took from a resting order. `legs` name the accounts that it moves."""

    id: str
    market: Market
    outcome: Outcome
    side: Side
    taker: Placed | None
    matched_at: datetime
    updated_at: datetime
    fate: SettlementFate
    transaction: str
    """Transaction hash as published: of most trades it is known once they are mined."""
    fills: list[VenueFill] = field(default_factory=list)
    legs: list[tuple[Balances, Leg]] = field(default_factory=list)
    status: VenueTradeStatus = VenueTradeStatus.MATCHED

    @property
    def size(self) -> Micro:
        return sum(f.size for f in self.fills)

    @property
    def fee(self) -> Micro:
        return sum(f.fee for f in self.fills)

    @property
    def dollars(self) -> Micro:
        """What the taker's shares cost, before fees."""
        return sum(notional(f.price, f.size) for f in self.fills)

    @property
    def price(self) -> Decimal:
        """Price of all fills, or their mean to a millionth where they differ."""
        prices = {f.price for f in self.fills}
        if len(prices) == 1:
            return prices.pop()
        return (Decimal(self.dollars) / self.size).quantize(_MILLIONTH)

    @property
    def parts(self) -> Iterator[TradePart]:
        """Orders of accounts in it: the taker's first, as one part whatever it met."""
        if self.taker is not None:
            yield TradePart(self.taker, self.price, self.size, self.dollars)
        for fill in self.fills:
            if fill.maker is not None:
                price = fill.maker.submission.order.price
                yield TradePart(fill.maker, price, fill.size, notional(price, fill.size))

    @property
    def views(self) -> Mapping[str, Placed]:
        """Owners of its orders, each with the order from whose side they see it: the taker's if it is theirs."""
        found: dict[str, Placed] = {}
        for part in self.parts:
            found.setdefault(part.placed.submission.owner, part.placed)
        return found


@dataclass(frozen=True, slots=True)
class OrderChanged:
    """An order was placed, filled in part or cancelled: `kind` is PLACEMENT, UPDATE or CANCELLATION."""

    kind: str
    placed: Placed
    at: datetime


@dataclass(frozen=True, slots=True)
class TradeChanged:
    trade: VenueTrade
    at: datetime


@dataclass(frozen=True, slots=True)
class LevelsChanged:
    """New totals of YES levels as (is a bid, level), and the resulting book."""

    market: Market
    levels: tuple[tuple[bool, Level], ...]
    book: Book
    at: datetime


@dataclass(frozen=True, slots=True)
class MarketListed:
    market: Market
    at: datetime


@dataclass(frozen=True, slots=True)
class VenueMarketResolved:
    market: Market
    winner: Outcome
    at: datetime


@dataclass(frozen=True, slots=True)
class TransactionMined:
    """A transaction of the venue's own operators, or one that pays an account, is in a block."""

    transaction: str
    kind: LoopbackActivityKind
    at: datetime


VenueEvent = OrderChanged | TradeChanged | LevelsChanged | MarketListed | VenueMarketResolved | TransactionMined


class VenueRefusal(Exception):
    """The venue rejects an order; the message is its reason."""


@dataclass(slots=True, eq=False)
class Hall:
    """State of one window: its scenario, its orders, the last displayed book, and the levels as last published."""

    tape: Scenario
    pit: MatchingEngine
    book: Book | None = None
    told: dict[tuple[bool, Decimal], Micro] = field(default_factory=dict)
    next_book: int = 0
    resolved: bool = False
    accepting: bool = True
    last_trade: tuple[Decimal, Side] | None = None
    payouts_said: tuple[object] | None = None
    """Payouts that the data service says instead of the true ones, whatever they are; None says the true ones."""

    @property
    def market(self) -> Market:
        return self.tape.market

    def standing(self) -> Book | None:
        """The YES book including our orders, less the shares they took; None before the first."""
        if self.book is None:
            return None
        sides = {True: dict[Decimal, Micro](), False: dict[Decimal, Micro]()}
        for bids, levels in ((True, self.book.bids), (False, self.book.asks)):
            for price, size in levels:
                left = size - self.pit.taken.used.get((not bids, price), 0)
                if left > 0:
                    sides[bids][price] = left
        for entry in self.pit.resting:
            bids, price = _place_of(entry.order)
            sides[bids][price] = sides[bids].get(price, 0) + entry.left
        bids_, asks = (tuple(sorted((Level(p, s) for p, s in sides[b].items()), reverse=b)) for b in (True, False))
        return Book(self.market.id, self.book.at, self.book.received_at, bids_, asks)


def _place_of(order: Order) -> tuple[bool, Decimal]:
    """Position of an order in the YES book: (is a bid, price)."""
    if order.outcome is Outcome.YES:
        return order.side is Side.BUY, order.price
    return order.side is Side.SELL, complement(order.price)


class Exchange:
    """The exchange. Call `advance` with the venue's time before any query. `tell` receives every event, in order.
    Orders belong to API keys (their `owner`), balances to addresses. `faults` say which trades do not settle."""

    def __init__(self, tell: Callable[[VenueEvent], None], pace: Pace = PACE, faults: Faults | None = None) -> None:
        self._tell, self._pace, self._faults = tell, pace, faults or Faults()
        self.now = EPOCH
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._number = count()
        self.halls: dict[str, Hall] = {}
        self.orders: dict[str, Placed] = {}
        self.trades: dict[str, VenueTrade] = {}
        self.purses: dict[str, Balances] = {}
        self.activity = ActivityLog()
        self._deadlines: dict[str, datetime] = {}
        self._stuck: dict[str, list[VenueTrade]] = {}
        """Trades that are never mined, by market."""
        self._unsettled = count()
        self._matching: VenueTrade | None = None
        """Trade of the match under way."""

    # -- time

    def advance(self, now: datetime) -> None:
        """Process all events due by `now`."""
        while self._due and self._due[0][0] <= now:
            at, _, happen = heapq.heappop(self._due)
            self.now = max(self.now, at)
            happen()
        self.now = max(self.now, now)

    def next_due(self) -> datetime | None:
        return self._due[0][0] if self._due else None

    def _at(self, when: datetime, happen: Callable[[], None]) -> None:
        # The number keeps events of one instant in the order in which they were scheduled, and callables out of the
        # comparison.
        heapq.heappush(self._due, (when, next(self._number), happen))

    # -- markets

    def open(self, tape: Scenario) -> None:
        """List a window; its books begin to show when their time comes."""
        hall = Hall(tape, MatchingEngine(self))
        self.halls[tape.market.id] = hall
        self._tell(MarketListed(tape.market, tape.begins))
        if tape.books:
            self._at(tape.books[0].received_at, lambda: self._show(hall))
        self._at(tape.market.closes_at, lambda: self._close(hall))
        self._at(tape.market.closes_at + self._pace.resolving, lambda: self._resolve(hall))

    def _show(self, hall: Hall) -> None:
        if not hall.accepting:
            return
        book = hall.tape.books[hall.next_book]
        hall.next_book += 1
        if hall.next_book < len(hall.tape.books):
            self._at(hall.tape.books[hall.next_book].received_at, lambda: self._show(hall))
        # A crossed snapshot is a fault of the recording: the last sound book stays the one that orders meet.
        if not book.crossed:
            hall.book = book
        hall.pit.show(book)
        self._finish_match()
        self._publish_levels(hall)

    def _close(self, hall: Hall) -> None:
        # The venue documents no cut-off; here trading stops at the scheduled end of the window.
        hall.accepting = False
        hall.pit.close(RESOLVED)
        self._publish_levels(hall)

    def _resolve(self, hall: Hall) -> None:
        hall.resolved, hall.book = True, None
        # Whatever was not mined by then never will be, and binds nothing any more: other shares must be redeemable.
        for trade in self._stuck.pop(hall.market.id, ()):
            for purse, leg in trade.legs:
                purse.undo(leg)
        self._publish_levels(hall)
        # A void market, which pays both sides one half, has no winner to be told of.
        if (winner := _WINNERS.get(hall.tape.payout)) is not None:
            self._tell(VenueMarketResolved(hall.market, winner, self.now))
        if self._pace.paying is not None:
            self._at(self.now + self._pace.paying, lambda: self._pay_all(hall))

    def _pay_all(self, hall: Hall) -> None:
        for address in sorted(self.purses):
            self.redeem(address, hall.market.id)

    def redeem(self, address: str, market_id: str, transaction: str = "") -> Micro:
        """Convert an account's shares of a resolved market into dollars; return their amount. Zero if it is not
        resolved or a trade of it has not settled. Without a `transaction` of the owner's, the venue sends one."""
        hall, purse = self.halls[market_id], self.purses[address]
        sizes = {o: purse.has(hall.market.token(o)) for o in Outcome}
        if not hall.resolved or not any(sizes.values()) or any(purse.unsettled(hall.market.token(o)) for o in Outcome):
            return 0
        worth = {Outcome.YES: hall.tape.payout, Outcome.NO: complement(hall.tape.payout)}
        dollars = {o: redeemed(worth[o], size) for o, size in sizes.items()}
        for outcome, size in sizes.items():
            purse.put(hall.market.token(outcome), -size)
        purse.put(CASH, paid := sum(dollars.values()))
        known_as = transaction or transaction_of(f"redeem|{address}|{market_id}|{len(self.activity.rows)}")
        self.activity.append(_redemption(hall.market, address, self.now, known_as, sizes, dollars))
        if not transaction:
            self._tell(TransactionMined(known_as, LoopbackActivityKind.REDEEM, self.now))
        return paid

    def pay(self, address: str, kind: LoopbackActivityKind, amount: Micro) -> LoopbackActivity:
        """Move dollars beside trading: a withdrawal from an account, any other payment to it. Raises VenueRefusal for
        more than its free cash; orders that it can no longer pay for are cancelled, the newest first."""
        purse, out = self.purses[address], kind is LoopbackActivityKind.WITHDRAWAL
        if amount <= 0 or (out and amount > purse.has(CASH)):
            raise VenueRefusal(f"not enough balance: {purse.has(CASH)}, amount: {amount}")
        purse.put(CASH, -amount if out else amount)
        known_as = transaction_of(f"{kind}|{address}|{len(self.activity.rows)}")
        row = LoopbackActivity(kind, address, self.now, known_as, amount)
        self.activity.append([row])
        self._tell(TransactionMined(known_as, kind, self.now))
        self._cancel_unfunded(address, CASH)
        return row

    def split(self, address: str, market_id: str, amount: Micro, transaction: str) -> bool:
        """Turn dollars into as many shares of both outcomes. False, without effect, if there are fewer free ones."""
        market, purse = self.halls[market_id].market, self.purses[address]
        if purse.has(CASH) < amount:
            return False
        purse.put(CASH, -amount)
        for outcome in Outcome:
            purse.put(market.token(outcome), amount)
        self._record_set(LoopbackActivityKind.SPLIT, market, address, amount, transaction)
        return True

    def merge(self, address: str, market_id: str, amount: Micro, transaction: str) -> bool:
        """Turn shares of both outcomes into as many dollars. False, without effect, if there are fewer free pairs."""
        market, purse = self.halls[market_id].market, self.purses[address]
        if any(purse.has(market.token(o)) < amount for o in Outcome):
            return False
        for outcome in Outcome:
            purse.put(market.token(outcome), -amount)
        purse.put(CASH, amount)
        self._record_set(LoopbackActivityKind.MERGE, market, address, amount, transaction)
        return True

    def _record_set(
        self, kind: LoopbackActivityKind, market: Market, address: str, amount: Micro, transaction: str
    ) -> None:
        row = LoopbackActivity(
            kind=kind,
            address=address,
            at=self.now,
            transaction=transaction,
            dollars=amount,
            market=market,
            size=amount,
        )
        self.activity.append([row])
        for what in (CASH, market.yes_token, market.no_token):
            self._cancel_unfunded(address, what)

    def _cancel_unfunded(self, address: str, what: str) -> None:
        """Cancel orders that an account can no longer pay for with what it has of an asset, the newest first."""
        for placed in reversed(list(self.orders.values())):
            if self._active(address, what) <= self.purses[address].has(what):
                return
            if placed.open and placed.submission.address == address and _pays_with(placed) == what:
                hall = self.halls[placed.market.id]
                hall.pit.cancel(placed.working, UNFUNDED)
                self._publish_levels(hall)

    # -- orders

    def place(self, submission: Submission) -> Placed:
        """Accept an order. Raises VenueRefusal in the venue's words; the result is in `status` and `matched`."""
        hall = self._hall(submission)
        order, now = submission.order, self.now
        purse = self.purses[submission.address]
        fees = charged(hall.market, now)
        pays_with = CASH if order.side is Side.BUY else hall.market.token(order.outcome)
        applicant = Applicant(
            id=submission.id,
            order=order,
            market=hall.market,
            arrives=now,
            balance=purse.chain(pays_with),
            active=self._active(submission.address, pays_with),
            fees=fees,
            matched=purse.owes(pays_with),
            budget=submission.budget,
        )
        if reason := refusal(applicant):
            raise VenueRefusal(reason)
        number = next(self._number)
        left = order.size if submission.budget is None else affordable(submission.budget, order.price)
        signed = SignedOrder(submission.id, order)
        # Owned by the address, not the API key: two keys of one wallet must not trade with each other either.
        working = Working(
            signed=signed,
            arrives=now,
            number=number,
            left=left,
            fee=worst_fee(order, fees),
            owner=submission.address,
            budget=submission.budget,
        )
        takes = hall.book is not None and hall.pit.would_trade(working, hall.book)
        if takes and (reason := CROSSES if order.post_only else too_little(order, submission.budget)):
            raise VenueRefusal(reason)
        placed = self.orders[submission.id] = Placed(submission, working, hall.market, now)
        self._start(hall, placed, self._delay(hall.market) if takes else timedelta(0))
        # The venue answers a FOK or FAK order without a match with an error, although the order has existed.
        if placed.killed:
            raise VenueRefusal(placed.status.removeprefix("CANCELED_"))
        return placed

    def _delay(self, market: Market) -> timedelta:
        fixed = self._pace.taker_delay
        return taker_delay(market, self.now) if fixed is None else fixed

    def _hall(self, submission: Submission) -> Hall:
        hall = self.halls.get(submission.order.market_id)
        if hall is None or not hall.accepting or hall.book is None:
            raise VenueRefusal(CLOSED_FOR_ORDERS)
        return hall

    def _start(self, hall: Hall, placed: Placed, delay: timedelta) -> None:
        """Match the order against the book, at once or after the taker delay."""
        hall.pit.admit(placed.working)
        if not delay:
            self._arrive(hall, placed)
            return
        placed.status, placed.working.arrives = "DELAYED", self.now + delay
        self._at(placed.working.arrives, lambda: self._arrive(hall, placed))

    def _arrive(self, hall: Hall, placed: Placed) -> None:
        if not placed.open:
            return
        self._tell(OrderChanged("PLACEMENT", placed, self.now))
        placed.status = "LIVE"
        hall.pit.arrive(placed.working, hall.book)
        self._finish_match()
        if placed.open and (expires := placed.submission.expires_at) is not None:
            self._at(expires - self._pace.early_expiry, lambda: self._expire(placed))
        self._publish_levels(hall)

    def _expire(self, placed: Placed) -> None:
        if placed.open:
            self.halls[placed.market.id].pit.cancel(placed.working, EXPIRED)
            self._publish_levels(self.halls[placed.market.id])

    def cancel(self, ids: Iterable[str], owner: str) -> tuple[list[str], dict[str, str]]:
        """Cancel orders of the owner; return the cancelled ids, and a reason for each other one."""
        done, not_done = [], dict[str, str]()
        for order_id in ids:
            placed = self.orders.get(order_id)
            if placed is None or placed.submission.owner != owner:
                not_done[order_id] = "order not found"
            elif not placed.open:
                not_done[order_id] = SETTLED_OVER
            else:
                hall = self.halls[placed.market.id]
                hall.pit.cancel(placed.working, "CANCELED")
                self._publish_levels(hall)
                done.append(order_id)
        return done, not_done

    def working(self, owner: str, market_id: str = "", token: str = "") -> Sequence[Placed]:
        """The owner's open orders, oldest first."""
        return [
            p
            for p in self.orders.values()
            if p.open
            and p.submission.owner == owner
            and market_id in ("", p.market.id)
            and token in ("", p.market.token(p.submission.order.outcome))
        ]

    def _active(self, address: str, pays_with: str) -> Micro:
        """Amount of one asset reserved by open orders of an account."""
        total = 0
        for placed in self.orders.values():
            if not placed.open or placed.submission.address != address:
                continue
            order = placed.submission.order
            if order.side is Side.BUY:
                total += placed.working.promised if pays_with == CASH else 0
            elif pays_with == placed.market.token(order.outcome):
                total += placed.working.left
        return total

    # -- dead-man switch

    def heartbeat(self, owner: str) -> None:
        """Reset the dead-man switch: from the first heartbeat on, an owner who goes silent has all orders cancelled."""
        deadline = self._deadlines[owner] = self.now + self._pace.heartbeat
        self._at(deadline, lambda: self._silent(owner))

    def _silent(self, owner: str) -> None:
        # A later heartbeat has moved the deadline, and has scheduled a check of its own.
        if self._deadlines.get(owner, self.now) <= self.now:
            self._deadlines.pop(owner, None)
            self.cancel([p.submission.id for p in self.working(owner)], owner)

    # -- callbacks of `backtest.matching_engine`

    def traded(self, execution: MatchedTrade) -> None:
        """Book one execution. Those of one taker in one match are one trade, which is published when the match ends."""
        taker, maker = (self._of(w) for w in (execution.taker, execution.maker))
        if self._matching is not None and (taker is None or self._matching.taker is not taker):
            self._finish_match()
        trade = self._matching or self._new_trade(taker, maker, execution)
        price, size = execution.price, execution.size
        # Makers pay no fee at this venue.
        fee = charged(trade.market, execution.at).taker(price, size) if taker is not None else 0
        trade.fills.append(VenueFill(maker, price, size, fee))
        self.halls[trade.market.id].last_trade = price, trade.side
        if taker is not None:
            self._bind(trade, taker, _leg(taker, price, size, fee))
            self._count(taker, trade.id, price, size)
        if maker is not None:
            own_price = maker.submission.order.price
            self._bind(trade, maker, _leg(maker, own_price, size, 0))
            self._count(maker, trade.id, own_price, size)
        self._matching = trade
        if taker is None:
            self._finish_match()

    def _new_trade(self, taker: Placed | None, maker: Placed | None, execution: MatchedTrade) -> VenueTrade:
        first = taker or maker
        if first is None:
            raise ValueError("an execution needs an order")
        side = first.submission.order.side
        if taker is None:  # the market took from a resting order: it stood on the other side
            side = Side.SELL if side is Side.BUY else Side.BUY
        trade_id = _trade_id(first.market.id, len(self.trades))
        fate, transaction = self._fate(trade_id)
        trade = self.trades[trade_id] = VenueTrade(
            id=trade_id,
            market=first.market,
            outcome=first.submission.order.outcome,
            side=side,
            taker=taker,
            matched_at=execution.at,
            updated_at=execution.at,
            fate=fate,
            transaction=transaction,
        )
        return trade

    def _bind(self, trade: VenueTrade, placed: Placed, leg: Leg) -> None:
        """Deduct what an order gives. Before the trade is published: its shares are on their way, and cannot be sold
        yet."""
        purse = self.purses[placed.submission.address]
        purse.begin(leg)
        trade.legs.append((purse, leg))

    def _finish_match(self) -> None:
        """Publish the trade of the match that has ended, if it made one, and schedule its settlement."""
        trade, self._matching = self._matching, None
        if trade is None:
            return
        self._tell(TradeChanged(trade, self.now))
        if trade.fate is SettlementFate.NEVER_MINED:
            self._stuck.setdefault(trade.market.id, []).append(trade)
        else:
            self._at(self.now + self._pace.mining, lambda: self._mine(trade))

    def _fate(self, trade_id: str) -> tuple[SettlementFate, str]:
        """Fate of the next trade, and its transaction hash if that is published before it is mined."""
        for fault, fate in _FATES.items():
            if self._faults.happens(fault):
                told = self._faults.options.get(fault)
                # Both are seen at the venue: without a demand every second one has a hash, the first among them.
                given = next(self._unsettled) % 2 == 0 if told is None else bool(told)
                return fate, transaction_of(trade_id) if given else ""
        return SettlementFate.SETTLES, ""

    def _count(self, placed: Placed, trade_id: str, price: Decimal, size: Micro) -> None:
        placed.matched += size
        placed.spent += notional(price, size)
        if trade_id not in placed.trades:
            placed.trades.append(trade_id)
        self._tell(OrderChanged("UPDATE", placed, self.now))

    def _mine(self, trade: VenueTrade) -> None:
        if trade.fate is SettlementFate.MINED_SILENTLY:
            self._settle(trade)
            return
        if self._faults.happens(Fault.SETTLEMENT_FAILS):
            # The venue retries first; only FAILED takes a matched trade back.
            self._turn(trade, VenueTradeStatus.RETRYING)
            self._at(self.now + self._pace.confirming, lambda: self._fail(trade))
            return
        trade.transaction = transaction_of(trade.id)
        self._settle(trade)
        self._turn(trade, VenueTradeStatus.MINED)
        self._at(self.now + self._pace.confirming, lambda: self._turn(trade, VenueTradeStatus.CONFIRMED))

    def _settle(self, trade: VenueTrade) -> None:
        """Move what a trade moves, on the chain and in the account's activity."""
        for purse, leg in trade.legs:
            purse.settle(leg)
        self.activity.append(_fills(trade, self.now))
        self._tell(TransactionMined(transaction_of(trade.id), LoopbackActivityKind.TRADE, self.now))

    def _fail(self, trade: VenueTrade) -> None:
        for purse, leg in trade.legs:
            purse.undo(leg)
        self._turn(trade, VenueTradeStatus.FAILED)

    def _turn(self, trade: VenueTrade, status: VenueTradeStatus) -> None:
        trade.status, trade.updated_at = status, self.now
        self._tell(TradeChanged(trade, self.now))

    def rested(self, entry: Working) -> None:
        """No event: the answer of `place` contains it."""

    def ended(self, entry: Working, status: OrderStatus, reason: str) -> None:
        placed = self.orders[entry.signed.id]
        if status is OrderStatus.MATCHED:
            placed.status = "MATCHED"
            return
        # What it traded is told before what was left of it is cancelled.
        if self._matching is not None and self._matching.taker is placed:
            self._finish_match()
        placed.status = reason if reason.startswith("CANCELED") else f"CANCELED_{reason}"
        self._tell(OrderChanged("CANCELLATION", placed, self.now))

    def _of(self, working: Working | None) -> Placed | None:
        return None if working is None else self.orders[working.signed.id]

    # -- book events

    def _publish_levels(self, hall: Hall) -> None:
        """Publish the levels of the standing book that differ from the last published ones."""
        book = hall.standing()
        levels = (
            {} if book is None else {(b, p): s for b, side in ((True, book.bids), (False, book.asks)) for p, s in side}
        )
        changed = [
            (key, levels.get(key, 0))
            for key in sorted(levels.keys() | hall.told.keys())
            if levels.get(key) != hall.told.get(key)
        ]
        hall.told = levels
        if changed:
            shown = book or Book(hall.market.id, self.now, self.now, (), ())
            self._tell(LevelsChanged(hall.market, tuple((b, Level(p, s)) for (b, p), s in changed), shown, self.now))


_WINNERS = {Decimal(1): Outcome.YES, Decimal(0): Outcome.NO}
_FATES = {
    Fault.NEVER_MINED: SettlementFate.NEVER_MINED,
    Fault.MINED_SILENTLY: SettlementFate.MINED_SILENTLY,
}


def _fills(trade: VenueTrade, at: datetime) -> Iterator[LoopbackActivity]:
    """One row for each order of an account in a mined trade."""
    for placed, price, size, dollars in trade.parts:
        yield LoopbackActivity(
            kind=LoopbackActivityKind.TRADE,
            address=placed.submission.address,
            at=at,
            transaction=transaction_of(trade.id),
            dollars=dollars,
            market=trade.market,
            outcome=placed.submission.order.outcome,
            side=placed.submission.order.side,
            size=size,
            price=price,
        )


def _redemption(
    market: Market,
    address: str,
    at: datetime,
    transaction: str,
    sizes: Mapping[Outcome, Micro],
    dollars: Mapping[Outcome, Micro],
) -> Iterator[LoopbackActivity]:
    """Rows of one redemption: one for each outcome token, or one for the market before that was so."""
    row = LoopbackActivity(
        kind=LoopbackActivityKind.REDEEM,
        address=address,
        at=at,
        transaction=transaction,
        dollars=sum(dollars.values()),
        market=market,
        size=sum(sizes.values()),
    )
    if at < REDEEM_PER_TOKEN_FROM:
        yield row
        return
    for outcome, size in sizes.items():
        yield replace(row, outcome=outcome, size=size, dollars=dollars[outcome])


def _pays_with(placed: Placed) -> str:
    order = placed.submission.order
    return CASH if order.side is Side.BUY else placed.market.token(order.outcome)


def _leg(placed: Placed, price: Decimal, size: Micro, fee: Micro) -> Leg:
    """Leg of one side of a trade; a fee is paid on top, or out of the proceeds."""
    token, cash = placed.market.token(placed.submission.order.outcome), notional(price, size)
    if placed.submission.order.side is Side.BUY:
        return Leg((CASH, cash + fee), (token, size))
    return Leg((token, size), (CASH, cash - fee))


def _trade_id(market_id: str, number: int) -> str:
    """Trade id in the form of a UUID, deterministic for the same sequence of events."""
    seen = hashlib.sha256(f"{market_id}|{number}".encode()).hexdigest()
    return f"{seen[:8]}-{seen[8:12]}-{seen[12:16]}-{seen[16:20]}-{seen[20:32]}"
