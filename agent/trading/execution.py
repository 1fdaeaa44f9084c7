"""Execution: every order, fill and settlement passes here once, in order, and is logged before it takes effect.

The same for the agent and for baseline strategies. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.trading.bus import Bus
from agent.trading.inhibit import Inhibitor
from market.errors import Halt, VenueUnavailable
from market.events import (
    CashTransferred,
    OrderEnd,
    OrderEnded,
    OrderFilled,
    OrderPlaced,
    OrderRefused,
    PositionSettled,
    TradingHalted,
    TradingResumed,
)
from market.fees import charged
from market.incidents import Incidents
from market.types import OVER, Ack, Book, Fill, Market, Micro, Order, OrderStatus, Outcome, Resolution, Transfer
from storage.store import RunLog
from strategies.base import OrderIntent, View
from tools.ledger import PositionLedger
from tools.orders import Account, OrderTool

_TROUBLE = {
    "unacknowledged": "Orders were sent without an answer",
    "uncancelled": "Cancels were sent without an answer",
    "unanswered": "The venue did not say how orders stand",
    "unread": "The account's orders and trades could not be read",
    "unseen": "Markets could not be observed for a decision",
}
WITHDRAWN = "withdrawn by its trader"
"""Published reason of an order that was cancelled on request, where the venue states none."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A holding of one outcome; `size` in micro-shares."""

    market_id: str
    outcome: str
    size: Micro


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """Snapshot of an account, in micro-dollars; `free` is cash that no open order reserves."""

    run: str
    cash: Micro
    free: Micro
    at_risk: Micro
    held: tuple[Holding, ...]
    working: tuple[Order, ...]


@dataclass(slots=True)
class Execution:
    """Executes order intents at a venue and keeps the account's log. `halted` is the reason trading stopped, or empty.

    `working` are orders whose end is not known yet; `positions` are the holdings with their cost; `ending` are resolved
    markets whose trades have not all settled; `over` are orders whose end is known and not yet published, with its
    instant; `filled` are micro-shares traded of each order that works or is over.
    """

    orders: OrderTool
    log: RunLog
    bus: Bus
    halted: str = ""
    working: dict[str, Order] = field(default_factory=dict)
    positions: PositionLedger = field(default_factory=PositionLedger)
    ending: dict[str, Resolution] = field(default_factory=dict)
    inhibitor: Inhibitor = field(default_factory=Inhibitor)
    incidents: Incidents = field(default_factory=lambda: Incidents(_TROUBLE))
    over: dict[str, tuple[Order, Ack, datetime]] = field(default_factory=dict)
    filled: dict[str, Micro] = field(default_factory=dict)

    async def act(self, intent: OrderIntent, view: View, decision_id: str, number: int) -> Ack | None:
        """Send one order: the intent is logged first, then the order is sent, then the venue's answer is logged. None
        where trading is halted or inhibited, or where no answer came.

        `number` tells apart the orders of one decision; `view` is the market view it was decided on, and is stored. An
        order of unknown outcome is queried in `reconcile` and never signed again.
        """
        if self.idle(view.at):
            return None
        key = f"{decision_id}/{number}"
        order = Order(
            market_id=view.market.id,
            outcome=intent.outcome,
            side=intent.side,
            price=intent.price,
            size=intent.size,
            tif=intent.tif,
            placed_at=view.at,
            key=key,
            post_only=intent.post_only,
            good_until=intent.good_until,
        )
        signed = await self.orders.sign(order)
        # Persisted before it is sent: after a crash at any later line the order is known and `reconcile` asks for it.
        await self.log.intent(decision_id, signed, view.at, view=view, why=intent.why)
        self.working[signed.id] = order
        self.bus.publish(OrderPlaced(at=view.at, order_id=signed.id, order=order, slug=view.market.slug))
        try:
            ack = await self.orders.send(signed)
        except VenueUnavailable as error:
            self.incidents.note("unacknowledged", error)
            return None
        except Halt as stop:
            self.halt(str(stop), view.at)
            ack = Ack(signed.id, OrderStatus.REJECTED, str(stop))
        # Another task may have asked about it meanwhile, and logged its end.
        if signed.id in self.working:
            await self._note(ack, view.at)
        return ack

    def idle(self, at: datetime) -> bool:
        """True if nothing may be opened at an instant: halted or inhibited."""
        return bool(self.halted or self.inhibitor.reason(at))

    async def _note(self, ack: Ack, at: datetime) -> None:
        """Log the venue's answer to an order. A final one leaves `working` before the write: a caller that is cancelled
        meanwhile still has it written, and nothing may write it twice."""
        order = self.working.pop(ack.order_id, None) if ack.status in OVER else None
        try:
            await self.log.ack(ack, at)
        except Exception:
            if order is not None:
                self.working[ack.order_id] = order
            raise
        if order is not None and ack.status is not OrderStatus.REJECTED:
            self.over[ack.order_id] = order, ack, at
        if ack.status is OrderStatus.REJECTED:
            self.bus.publish(OrderRefused(at=at, order_id=ack.order_id, reason=ack.reason))

    async def withdraw(self, order_ids: Sequence[str], at: datetime) -> None:
        """Cancel those orders that are still open; without an answer they are queried in `reconcile`. One that was
        cancelled elsewhere is over, and its end is logged already."""
        ours = [order_id for order_id in order_ids if order_id in self.working]
        if not ours:
            return
        try:
            await self.orders.cancel_many(ours)
        except VenueUnavailable as error:
            self.incidents.note("uncancelled", error)
            return
        for order_id in ours:
            await self._ask(order_id, at)
            order, ack, ended = self.over.get(order_id, (None, None, at))
            if order is not None and ack is not None and OrderEnd.of(order, ack.status, ended) is OrderEnd.CANCELLED:
                self.over[order_id] = order, replace(ack, reason=ack.reason or WITHDRAWN), ended

    async def withdraw_all(self, at: datetime) -> None:
        """Cancel all orders of ours, and find out how each ended; another's on the same account are left alone. Raises
        VenueUnavailable."""
        await self.orders.cancel_many(list(self.working))
        await self.orders.sync()
        await self.reconcile(at)

    def halt(self, reason: str, at: datetime) -> None:
        """Stop opening orders until a person resumes trading. Published once: an order under way and the watcher of the
        kill switch may both see the same halt."""
        begins, self.halted = not self.halted, reason
        if begins:
            self.bus.publish(TradingHalted(at=at, reason=reason))

    def resume(self, at: datetime) -> None:
        """End a halt, by a person's decision."""
        self.halted = ""
        self.bus.publish(TradingResumed(at=at))

    async def reconcile(self, at: datetime) -> Sequence[Fill]:
        """Log how the working orders ended, and the fills since the last call.

        In this order: an order that fills in between is counted twice for a moment (as working and as filled), never
        not at all.
        """
        for order_id in list(self.working):
            await self._ask(order_id, at)
        over = list(self.over)  # their fills are among those that are read now
        fills = await self._take_fills()
        self._publish_ends(over)
        for resolution in list(self.ending.values()):
            await self.settle(resolution)
        return fills

    async def _take_fills(self) -> Sequence[Fill]:
        """Log and count the fills since the last call."""
        fills = await self.orders.fills()
        for fill in fills:
            await self.log.fill(fill)
            self.positions.fill(fill)
            if fill.order_id in self.working or fill.order_id in self.over:
                self.filled[fill.order_id] = self.filled.get(fill.order_id, 0) + fill.size
            self.bus.publish(OrderFilled(at=fill.at, fill=fill))
        return fills

    def _publish_ends(self, order_ids: Sequence[str]) -> None:
        """Publish how orders ended, after their fills: an observer then knows how much of each was filled."""
        for order_id in order_ids:
            if (ended := self.over.pop(order_id, None)) is None:
                continue  # another task has published it
            order, ack, at = ended
            self.bus.publish(
                OrderEnded(
                    at=at,
                    order_id=order_id,
                    order=order,
                    end=OrderEnd.of(order, ack.status, at),
                    status=ack.status,
                    reason=ack.reason,
                    filled=self.filled.pop(order_id, 0),
                )
            )

    async def catch_up(self, at: datetime) -> None:
        """Query the venue for missed events and log them; if it is unavailable, the next call does."""
        try:
            await self.orders.sync()
        except VenueUnavailable as error:
            self.incidents.note("unread", error)
        await self.reconcile(at)

    async def _ask(self, order_id: str, at: datetime) -> None:
        """Query an order's status. One that the venue never saw is over: its moment has passed, so it is not sent
        again. Several tasks may ask concurrently (a slot and the kill switch); the first to learn of the end logs
        it."""
        try:
            ack = await self.orders.status(order_id)
        except VenueUnavailable as error:
            self.incidents.note("unanswered", error)
            return
        if ack is None:
            ack = Ack(order_id, OrderStatus.CANCELED, "never reached the venue")
        if ack.status in OVER and order_id in self.working:
            await self._note(ack, at)

    async def settle(self, resolution: Resolution) -> None:
        """Convert a resolved market's shares into dollars, as soon as all its trades have settled; until then it waits
        in `ending`."""
        settled = await self.orders.settle(resolution)
        # Before the settlements: the shares of a fill that came meanwhile are among them.
        await self._take_fills()
        if settled is None:
            self.ending[resolution.market_id] = resolution
            return
        self.ending.pop(resolution.market_id, None)
        for settlement in settled:
            await self.log.settlement(settlement)
            cost = self.positions.cost(settlement.market_id)
            self.positions.settle(settlement)
            paid = cost - self.positions.cost(settlement.market_id)
            self.bus.publish(PositionSettled(at=settlement.at, settlement=settlement, paid=paid))

    async def receive(self, transfer: Transfer) -> None:
        """Log cash that came or went beside trading."""
        await self.log.transfer(transfer)
        self.bus.publish(CashTransferred(at=transfer.at, transfer=transfer))

    async def account(self) -> Account:
        return await self.orders.account()

    def at_risk(self, market_id: str) -> Micro:
        """Exposure in a market in micro-dollars: cost of its holdings plus the most its working orders may cost."""
        promised = sum(o.cost for o in self.working.values() if o.market_id == market_id)
        return self.positions.cost(market_id) + promised

    def all_at_risk(self) -> Micro:
        """Exposure in all markets, in micro-dollars."""
        return self.positions.total_cost + sum(order.cost for order in self.working.values())

    async def standing(self) -> AccountSummary:
        """Snapshot of the account from local state; no request to the venue."""
        account = await self.account()
        held = tuple(
            Holding(market, outcome.value, size) for (market, outcome), size in sorted(account.holdings.items())
        )
        working = tuple(self.working.values())
        return AccountSummary(
            run=self.log.run_id,
            cash=account.cash,
            free=account.free,
            at_risk=self.all_at_risk(),
            held=held,
            working=working,
        )

    async def look(self, market: Market, book: Book, at: datetime) -> View:
        """The market view of a strategy at an instant."""
        account = await self.account()
        return View(
            market=market,
            book=book,
            fees=charged(market, at),
            at=at,
            cash=account.free,
            held_yes=account.held(market.id, Outcome.YES),
            held_no=account.held(market.id, Outcome.NO),
            at_risk=self.at_risk(market.id),
        )
