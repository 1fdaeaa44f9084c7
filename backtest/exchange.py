"""Paper exchange: orders meet recorded or live books, and nothing fills without evidence in them.

Independent of the source of its books and of the kind of clock. A taker meets the book that stands when the order
arrives, after the venue's and the network's delay; `backtest.matching_engine` defines the matching. Not modelled: the
delay of a cancel. A purchase that does not rest spends dollars, as at the venue: at better prices than its limit it
gets more shares than it names.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from backtest.admission import Applicant, budget_of, off_tick, refusal, worst_fee
from backtest.fault_model import CALM, COARSE_TICK, FAILED, REFUSED, FaultModel
from backtest.matching_engine import MatchedTrade, MatchingEngine, Working, affordable
from market import fees as venue_fees
from market.clock import Clock
from market.errors import Misconfigured
from market.feed import Feed
from market.fees import FeeSchedule
from market.rules import taker_delay
from market.types import (
    Ack,
    Fill,
    FillEvidence,
    Market,
    Micro,
    Order,
    OrderStatus,
    Outcome,
    Resolution,
    Settlement,
    Side,
    SignedOrder,
)
from storage.canonical import canonical
from tools.ledger import Ledger
from tools.orders import Account

NETWORK_DELAY = timedelta(milliseconds=100)
_INSTANT = timedelta(microseconds=1)
_CLOSED, _EXPIRED = "the market closed", "its time was over"


@lru_cache(maxsize=1024)
def _body(order: Order) -> str:
    """Signed text of an order."""
    return canonical(order)


@dataclass(slots=True)
class _Place:
    """One market and its orders. The matching engine has seen the books up to `seen`."""

    market: Market
    seen: datetime
    pit: MatchingEngine


def _ends(entry: Working) -> datetime:
    """Expiry of an order: not before its arrival."""
    return max(entry.order.good_until or datetime.max.replace(tzinfo=UTC), entry.arrives)


def _first_to_end(pit: MatchingEngine, until: datetime) -> Working | None:
    """The next order to expire by `until`."""
    found = min((e for e in (*pit.coming, *pit.resting) if not e.done), key=lambda e: (_ends(e), e.turn), default=None)
    return found if found is not None and _ends(found) <= until else None


class PaperExchange:
    """Implements `tools.orders.OrderTool` over a feed.

    Time passes only by the clock: every call first brings the exchange up to `clock.now()`, arrivals and book changes
    in order, so the outcome does not depend on how often it is called. `markets` looks a market up by id; without it
    the exchange learns them from the feed. A market takes orders until it closes, which cancels what is left.
    `restored` and `settled` are the run's own earlier fills and settlements: the resulting cash and holdings are
    recovered, and an order that had filled is never accepted again. Single event loop; calls may overlap.
    """

    def __init__(
        self,
        feed: Feed,
        clock: Clock,
        *,
        cash: Micro,
        run: str,
        venue_delay: timedelta | None = None,
        network_delay: timedelta = NETWORK_DELAY,
        faults: FaultModel = CALM,
        fees: Callable[[Market, datetime], FeeSchedule] = venue_fees.charged,
        markets: Callable[[str], Market | None] | None = None,
        restored: Sequence[Fill] = (),
        settled: Sequence[Settlement] = (),
    ) -> None:
        if cash < 0 or min(venue_delay or network_delay, network_delay) < timedelta(0):
            raise Misconfigured("paper cash and delays cannot be negative.", next_step="Correct them in the config.")
        self._feed, self._clock, self._fees, self._run = feed, clock, fees, run
        self._venue_delay, self._network_delay, self._faults = venue_delay, network_delay, faults
        self._lookup = markets
        self._learnt: dict[str, Market] = {}
        self._ledger = Ledger(cash, restored, settled)
        self._acks = {f.order_id: Ack(f.order_id, OrderStatus.MATCHED, "filled before the restart") for f in restored}
        self._latest_ack = dict(self._acks)
        self._places: dict[str, _Place] = {}
        self._open: dict[str, Working] = {}
        self._fresh: list[Fill] = []
        self._count: dict[str, int] = {}
        self._lock = asyncio.Lock()

    async def sign(self, order: Order) -> SignedOrder:
        body = _body(order)
        return SignedOrder(self._identity(body), order, body)

    async def send(self, signed: SignedOrder) -> Ack:
        async with self._lock:
            if signed.id != self._identity(_body(signed.order)):
                return Ack(signed.id, OrderStatus.REJECTED, "invalid signature")
            # Idempotent, as the venue is: the same signed order is answered again and not accepted twice.
            if signed.id not in self._acks:
                await self._advance()
                ack = await self._admit(signed)
                self._acks[signed.id] = self._latest_ack[signed.id] = ack
            return self._acks[signed.id]

    async def cancel(self, order_id: str) -> bool:
        async with self._lock:
            await self._advance()
            entry = self._open.get(order_id)
            if entry is None:
                return False
            self._places[entry.order.market_id].pit.cancel(entry, "cancelled on request")
            return True

    async def cancel_many(self, order_ids: Sequence[str]) -> int:
        return sum([await self.cancel(order_id) for order_id in order_ids])

    async def cancel_all(self) -> int:
        return await self.cancel_many(list(self._open))

    async def sync(self) -> None:
        """No-op: nothing is ever missed here."""

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
        """The exchange's latest answer on an order, which may be newer than its first; None for an unknown order."""
        async with self._lock:
            await self._advance()
            return self._latest_ack.get(order_id)

    async def settle(self, resolution: Resolution) -> Sequence[Settlement] | None:
        async with self._lock:
            await self._advance()
            now = self._clock.now()
            if resolution.payout is None or resolution.known_at > now:
                return []
            place = self._places.get(resolution.market_id)
            if place is not None:
                place.pit.close(_CLOSED)
            # An account without shares has no payout to wait for.
            held = any(self._ledger.held(resolution.market_id, outcome) for outcome in Outcome)
            if held and resolution.known_at + self._faults.lateness(resolution.market_id) > now:
                return None
            return [s for outcome in Outcome for s in self._pay(resolution, outcome, now)]

    def _pay(self, resolution: Resolution, outcome: Outcome, now: datetime) -> list[Settlement]:
        size, payout = self._ledger.held(resolution.market_id, outcome), resolution.pays(outcome)
        if not size or payout is None:
            return []
        settlement = Settlement(
            market_id=resolution.market_id, outcome=outcome, size=size, payout=payout, source=resolution.source, at=now
        )
        self._ledger.settle(settlement)
        return [settlement]

    def _identity(self, body: str) -> str:
        # With the run's name, so that the same decision in two runs makes two orders.
        return "0x" + hashlib.sha256(f"{self._run}\n{body}".encode()).hexdigest()

    def _reserved(self) -> Micro:
        return sum(e.promised for e in self._open.values())

    def _selling(self, order: Order) -> Micro:
        """Micro-shares of the order's token that open sales have reserved."""
        token = order.market_id, order.outcome
        selling = (e for e in self._open.values() if e.order.side is Side.SELL)
        return sum(e.left for e in selling if (e.order.market_id, e.order.outcome) == token)

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
        if self._faults.refused(order):
            return Ack(signed.id, OrderStatus.REJECTED, REFUSED)
        if self._faults.off_tick(order):
            return Ack(signed.id, OrderStatus.REJECTED, off_tick(signed.id, order.price, COARSE_TICK))
        # Never before it was sent: an order that was long in the making cannot meet the book of back then.
        sent = max(order.placed_at, now)
        venue = taker_delay(market, sent) if self._venue_delay is None else self._venue_delay
        arrives = sent + venue + self._faults.delay(order, self._network_delay)
        buys, schedule = order.side is Side.BUY, self._fees(market, arrives)
        balance = self._ledger.cash if buys else self._ledger.held(order.market_id, order.outcome)
        active = self._reserved() if buys else self._selling(order)
        budget = budget_of(order)
        applicant = Applicant(
            id=signed.id,
            order=order,
            market=market,
            arrives=arrives,
            balance=balance,
            active=active,
            fees=schedule,
            budget=budget,
        )
        if reason := refusal(applicant):
            return Ack(signed.id, OrderStatus.REJECTED, reason)
        entry = Working(
            signed=signed,
            arrives=arrives,
            number=len(self._acks),
            left=order.size if budget is None else affordable(budget, order.price),
            fee=worst_fee(order, schedule, budget),
            budget=budget,
        )
        place = self._places.setdefault(market.id, _Place(market, now, MatchingEngine(self)))
        place.pit.admit(entry)
        self._open[signed.id] = entry
        return Ack(signed.id, OrderStatus.DELAYED, "")

    async def _advance(self) -> None:
        """Process all events up to now, market by market; reservations keep markets independent."""
        if not self._open:
            return
        now = self._clock.now()
        for market_id in sorted({e.order.market_id for e in self._open.values()}):
            await self._advance_in(self._places[market_id], now)

    async def _advance_in(self, place: _Place, now: datetime) -> None:
        # A book received at the close itself comes too late: the market takes orders until just before it.
        pit, last = place.pit, min(now, place.market.closes_at - _INSTANT)
        while (entry := _first_to_end(pit, last)) is not None:
            await self._meet(place, _ends(entry))
            if not entry.done:  # it may have filled on the way
                pit.cancel(entry, _EXPIRED)
        await self._meet(place, last)
        if now >= place.market.closes_at:
            pit.close(_CLOSED)

    async def _meet(self, place: _Place, last: datetime) -> None:
        """Process arrivals and books up to an instant."""
        pit = place.pit
        while pit.coming and pit.coming[0].arrives <= last:
            entry = pit.coming[0]
            await self._walk(place, entry.arrives)
            pit.arrive(entry, await self._feed.book(place.market.id, entry.arrives))
        await self._walk(place, last)

    async def _walk(self, place: _Place, until: datetime) -> None:
        """Show the matching engine the books received in (seen, until], if anything in it depends on them."""
        if until <= place.seen:
            return
        if not place.pit.idle:
            async for book in self._feed.changes((place.market.id,), place.seen, until, place.pit.worth):
                place.pit.show(book)
                place.seen = book.received_at
        place.seen = until

    def traded(self, execution: MatchedTrade) -> None:
        """Book a trade, unless the fault model fails it: one of the two orders is ours. A taker's fill is at displayed
        prices; a resting order's fill is at its own price, without a fee."""
        entry, maker = (execution.taker, False) if execution.taker is not None else (execution.maker, True)
        if entry is None:
            raise ValueError("an execution needs an order")
        order, order_id = entry.order, entry.signed.id
        if self._faults.failed(order):
            return
        number = self._count[order_id] = self._count.get(order_id, 0) + 1
        market = self._places[order.market_id].market
        # By the schedule on the day of the trade: the venue has changed its fees several times.
        fee = 0 if maker else self._fees(market, execution.at).taker(execution.price, execution.size)
        fill = Fill(
            id=f"{order_id}-{number}",
            order_id=order_id,
            market_id=order.market_id,
            outcome=order.outcome,
            side=order.side,
            price=execution.price,
            size=execution.size,
            fee=fee,
            at=execution.at,
            evidence=FillEvidence.TRADE_THROUGH if maker else FillEvidence.BOOK_CROSS,
            maker=maker,
        )
        self._ledger.fill(fill)
        self._fresh.append(fill)

    def rested(self, entry: Working) -> None:
        self._latest_ack[entry.signed.id] = Ack(entry.signed.id, OrderStatus.LIVE)

    def ended(self, entry: Working, status: OrderStatus, reason: str) -> None:
        self._open.pop(entry.signed.id, None)
        if status is OrderStatus.MATCHED and self._faults.failed(entry.order):
            reason = FAILED
        self._latest_ack[entry.signed.id] = Ack(entry.signed.id, status, reason)
