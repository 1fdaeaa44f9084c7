"""A paper exchange: orders meet recorded or live books, and nothing fills without evidence in them.

Does not know where its books come from, nor whether time is real. A taker meets the book that stands when the order
arrives, after the venue's and the network's delay. A resting order fills only when the market trades through it: when
the best opposite price passes its limit. A book that shows that has nobody left at the limit, so the queue that was
ahead of the order is gone and needs no count. Not modelled: orders of ours meeting each other, the delay of a cancel.
"""

from __future__ import annotations

import asyncio
import hashlib
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backtest.admission import Applicant, refusal, too_little, worst_fee
from backtest.ledger import Ledger
from backtest.matching import Taken, crosses, split, urgency
from market import fees as venue_fees
from market.clock import Clock
from market.errors import Misconfigured
from market.feed import Feed
from market.fees import FeeSchedule
from market.types import (
    Ack,
    Book,
    Evidence,
    Fill,
    Level,
    Market,
    Micro,
    Order,
    OrderStatus,
    Outcome,
    Resolution,
    Settlement,
    Side,
    SignedOrder,
    TimeInForce,
    notional,
)
from storage.canonical import canonical
from tools.orders import Account

VENUE_DELAY = timedelta(milliseconds=50)
NETWORK_DELAY = timedelta(milliseconds=100)
_INSTANT = timedelta(microseconds=1)
_NO_MATCH = "no orders found to match with FAK order. FAK orders are partially filled or killed if no match is found."
_NOT_FULL = "order couldn't be fully filled. FOK orders are fully filled or killed."


@dataclass(slots=True)
class _Open:
    """An order that may still fill. `met` turns true once it has met a sound book; only then does it rest.
    `fee` are dollars kept back for fees until then."""

    signed: SignedOrder
    arrives: datetime
    number: int
    left: Micro
    fee: Micro
    met: bool = False
    done: bool = False

    @property
    def order(self) -> Order:
        return self.signed.order

    @property
    def turn(self) -> tuple[datetime, int]:
        return self.arrives, self.number

    @property
    def promised(self) -> Micro:
        """Dollars it may still spend."""
        if self.order.side is Side.SELL:
            return 0
        return notional(self.order.price, self.left) + (0 if self.met else self.fee)


@dataclass(slots=True)
class _Pit:
    """One market's orders: on their way by arrival, and arrived. Books were read up to `seen`."""

    market: Market
    seen: datetime
    coming: list[_Open] = field(default_factory=list)
    resting: list[_Open] = field(default_factory=list)
    taken: Taken = field(default_factory=Taken)


class PaperExchange:
    """Implements `tools.orders.OrderTool` over a feed.

    Time passes only by the clock: every call first brings the exchange up to `clock.now()`, arrivals and book changes
    in order, so the outcome does not depend on how often anyone asks. `markets` looks a market up by id; without it
    the exchange learns them from the feed. A market takes orders until it closes, which cancels what is left.
    `restored` and `settled` are the run's own earlier fills and settlements: the cash and holdings they left are
    recovered, and an order that had filled is never taken again. Single event loop; calls may overlap.
    """

    def __init__(
        self,
        feed: Feed,
        clock: Clock,
        *,
        cash: Micro,
        run: str,
        venue_delay: timedelta = VENUE_DELAY,
        network_delay: timedelta = NETWORK_DELAY,
        fees: Callable[[Market, datetime], FeeSchedule] = venue_fees.charged,
        markets: Callable[[str], Market | None] | None = None,
        restored: Sequence[Fill] = (),
        settled: Sequence[Settlement] = (),
    ) -> None:
        if cash < 0 or venue_delay < timedelta(0) or network_delay < timedelta(0):
            raise Misconfigured("paper cash and delays cannot be negative.", next_step="Correct them in the config.")
        self._feed, self._clock, self._fees, self._run = feed, clock, fees, run
        self._delay = venue_delay + network_delay
        self._lookup = markets
        self._learnt: dict[str, Market] = {}
        self._ledger = Ledger(cash, restored, settled)
        self._acks = {f.order_id: Ack(f.order_id, OrderStatus.MATCHED, "filled before the restart") for f in restored}
        self._last_word = dict(self._acks)
        self._pits: dict[str, _Pit] = {}
        self._open: dict[str, _Open] = {}
        self._fresh: list[Fill] = []
        self._count: dict[str, int] = {}
        self._lock = asyncio.Lock()

    async def sign(self, order: Order) -> SignedOrder:
        body = canonical(order)
        return SignedOrder(self._identity(body), order, body)

    async def send(self, signed: SignedOrder) -> Ack:
        async with self._lock:
            if signed.id != self._identity(canonical(signed.order)):
                return Ack(signed.id, OrderStatus.REJECTED, "invalid signature")
            if signed.id not in self._acks:
                await self._advance()
                ack = await self._admit(signed)
                self._acks[signed.id] = self._last_word[signed.id] = ack
            return self._acks[signed.id]

    async def cancel(self, order_id: str) -> bool:
        async with self._lock:
            await self._advance()
            entry = self._open.get(order_id)
            if entry is None:
                return False
            self._end(entry, OrderStatus.CANCELED, "cancelled on request")
            self._sweep(self._pits[entry.order.market_id])
            return True

    async def fills(self) -> Sequence[Fill]:
        async with self._lock:
            await self._advance()
            fresh, self._fresh = self._fresh, []
            return sorted(fresh, key=lambda f: f.at)

    async def account(self) -> Account:
        async with self._lock:
            await self._advance()
            entries = sorted(self._open.values(), key=lambda e: e.number)
            return Account(self._ledger.cash, self._reserved(), self._ledger.holdings, tuple(e.signed for e in entries))

    async def status(self, order_id: str) -> Ack | None:
        """The exchange's last word on an order, which may be later than its first; None for an unknown order."""
        async with self._lock:
            await self._advance()
            return self._last_word.get(order_id)

    async def settle(self, resolution: Resolution) -> Sequence[Settlement]:
        async with self._lock:
            await self._advance()
            now = self._clock.now()
            if resolution.payout is None or resolution.known_at > now:
                return []
            pit = self._pits.get(resolution.market_id)
            if pit is not None:
                self._close(pit)
            return [s for outcome in Outcome for s in self._pay(resolution, outcome, now)]

    def _pay(self, resolution: Resolution, outcome: Outcome, now: datetime) -> list[Settlement]:
        size, payout = self._ledger.held(resolution.market_id, outcome), resolution.pays(outcome)
        if not size or payout is None:
            return []
        settlement = Settlement(resolution.market_id, outcome, size, payout, resolution.source, now)
        self._ledger.settle(settlement)
        return [settlement]

    def _identity(self, body: str) -> str:
        return "0x" + hashlib.sha256(f"{self._run}\n{body}".encode()).hexdigest()

    def _reserved(self) -> Micro:
        return sum(e.promised for e in self._open.values())

    def _unpromised(self, order: Order) -> Micro:
        """Shares of the order's token that no open sale has promised."""
        token = order.market_id, order.outcome
        selling = (e for e in self._open.values() if e.order.side is Side.SELL)
        return self._ledger.held(*token) - sum(e.left for e in selling if (e.order.market_id, e.order.outcome) == token)

    async def _market(self, market_id: str) -> Market | None:
        if self._lookup is not None:
            return self._lookup(market_id)
        if market_id not in self._learnt:
            self._learnt |= {m.id: m for m in await self._feed.markets(self._clock.now())}
        return self._learnt.get(market_id)

    async def _admit(self, signed: SignedOrder) -> Ack:
        order, now = signed.order, self._clock.now()
        market = await self._market(order.market_id)
        if market is None:
            return Ack(signed.id, OrderStatus.REJECTED, "the market is unknown or not open")
        # Never before it was sent: an order that was long in the making cannot meet the book of back then.
        arrives = max(order.placed_at, now) + self._delay
        free = self._ledger.cash - self._reserved()
        schedule = self._fees(market, arrives)
        applicant = Applicant(signed.id, order, market, arrives, free, self._unpromised(order), schedule)
        if reason := refusal(applicant):
            return Ack(signed.id, OrderStatus.REJECTED, reason)
        entry = _Open(signed, arrives, len(self._acks), order.size, worst_fee(order, schedule))
        pit = self._pits.setdefault(market.id, _Pit(market, now))
        insort(pit.coming, entry, key=lambda e: e.turn)
        self._open[signed.id] = entry
        return Ack(signed.id, OrderStatus.DELAYED, "")

    async def _advance(self) -> None:
        """Let happen what has happened by now, market by market; reservations keep markets independent."""
        if not self._open:
            return
        now = self._clock.now()
        for market_id in sorted({e.order.market_id for e in self._open.values()}):
            await self._advance_pit(self._pits[market_id], now)

    async def _advance_pit(self, pit: _Pit, now: datetime) -> None:
        last = min(now, pit.market.closes_at - _INSTANT)
        while pit.coming and pit.coming[0].arrives <= last:
            entry = pit.coming[0]
            await self._walk(pit, entry.arrives)
            book = await self._feed.book(pit.market.id, entry.arrives)
            del pit.coming[0]
            self._arrive(pit, entry, book)
        await self._walk(pit, last)
        if now >= pit.market.closes_at:
            self._close(pit)

    async def _walk(self, pit: _Pit, until: datetime) -> None:
        """Show the pit the books received in (seen, until], if anything in it depends on them."""
        if until <= pit.seen:
            return
        if pit.resting or pit.taken.used:
            async for book in self._feed.changes((pit.market.id,), pit.seen, until):
                self._on_book(pit, book)
                pit.seen = book.received_at
        pit.seen = until

    def _on_book(self, pit: _Pit, book: Book) -> None:
        if book.crossed:  # a fault of the recording or the venue, and no evidence of anything
            return
        pit.taken.observe(book)
        for entry in sorted(pit.resting, key=lambda e: (urgency(e.order), e.number)):
            if entry.met:
                self._trade_through(pit, entry, book)
            else:
                self._meet(pit, entry, book, book.received_at)
        self._sweep(pit)

    def _arrive(self, pit: _Pit, entry: _Open, book: Book | None) -> None:
        """Meet the standing book; without a sound one takers are cancelled and the rest wait for the next."""
        if book is not None and not book.crossed:
            pit.taken.observe(book)
            self._meet(pit, entry, book, entry.arrives)
        elif entry.order.tif is not TimeInForce.GTC:
            fault = "there was no book" if book is None else "the book was crossed"
            self._end(entry, OrderStatus.CANCELED, f"{fault} when the order arrived")
        if not entry.done:
            pit.resting.append(entry)

    def _meet(self, pit: _Pit, entry: _Open, book: Book, at: datetime) -> None:
        """The first sound book an order sees: it takes what its limit reaches, then rests, is cancelled or is done."""
        order = entry.order
        if crosses(order, book):
            reason = "invalid post-only order: order crosses book" if order.post_only else too_little(order)
            if reason:
                self._end(entry, OrderStatus.REJECTED, reason)
                return
        offered = split(pit.taken.offered(order, book), entry.left)
        if order.tif is TimeInForce.FOK and sum(size for _, size in offered) < order.size:
            self._end(entry, OrderStatus.CANCELED, _NOT_FULL)
            return
        schedule = self._fees(pit.market, at)
        for level, size in offered:
            fee = schedule.taker(level.price, size)
            pit.taken.take(order, level, size)
            self._fill(entry, Level(level.price, size), fee, at, Evidence.BOOK_CROSS)
        entry.met = True
        if entry.left and order.tif is not TimeInForce.GTC:
            self._end(entry, OrderStatus.CANCELED, "the rest found no match" if offered else _NO_MATCH)
        elif entry.left:
            self._last_word[entry.signed.id] = Ack(entry.signed.id, OrderStatus.LIVE)

    def _trade_through(self, pit: _Pit, entry: _Open, book: Book) -> None:
        """A resting order fills at its own limit, as a maker, by what is displayed at prices past that limit."""
        order = entry.order
        past = [level for level in pit.taken.offered(order, book) if level.price != order.price]
        size = 0
        for level, part in split(past, entry.left):
            pit.taken.take(order, level, part)
            size += part
        if size:
            self._fill(entry, Level(order.price, size), 0, book.received_at, Evidence.TRADE_THROUGH)

    def _fill(self, entry: _Open, traded: Level, fee: Micro, at: datetime, evidence: Evidence) -> None:
        order, order_id = entry.order, entry.signed.id
        number = self._count[order_id] = self._count.get(order_id, 0) + 1
        fill = Fill(
            id=f"{order_id}-{number}",
            order_id=order_id,
            market_id=order.market_id,
            outcome=order.outcome,
            side=order.side,
            price=traded.price,
            size=traded.size,
            fee=fee,
            at=at,
            evidence=evidence,
            maker=evidence is Evidence.TRADE_THROUGH,
        )
        self._ledger.fill(fill)
        self._fresh.append(fill)
        entry.left -= traded.size
        if not entry.left:
            self._end(entry, OrderStatus.MATCHED, "")

    def _end(self, entry: _Open, status: OrderStatus, reason: str) -> None:
        entry.done = True
        self._open.pop(entry.signed.id, None)
        self._last_word[entry.signed.id] = Ack(entry.signed.id, status, reason)

    def _sweep(self, pit: _Pit) -> None:
        pit.coming = [e for e in pit.coming if not e.done]
        pit.resting = [e for e in pit.resting if not e.done]

    def _close(self, pit: _Pit) -> None:
        for entry in (*pit.coming, *pit.resting):
            self._end(entry, OrderStatus.CANCELED, "the market closed")
        self._sweep(pit)
