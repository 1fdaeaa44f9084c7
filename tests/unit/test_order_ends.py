"""How an order ended is published once, after its fills, with all that was filled of it and with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from agent.app.guards import Guards
from agent.config.schema import Config
from agent.live.recovery import AccountHistory
from agent.service.pulse import Bounds, Pulse
from agent.trading.bus import LocalBus
from agent.trading.execution import WITHDRAWN, Execution
from agent.trading.inhibit import Inhibitor
from market.clock import ManualClock
from market.events import Event, OrderEnd, OrderEnded, OrderFilled, OrderPlaced, OrderRefused
from market.fees import charged
from market.types import (
    UNIT,
    Ack,
    Fill,
    FillEvidence,
    Micro,
    Order,
    OrderStatus,
    Outcome,
    Side,
    SignedOrder,
    TimeInForce,
)
from storage.memory_log import InMemoryRunLog
from storage.store import RunLog
from strategies.base import OrderIntent, View
from tests.fakes import START, book, market
from tools.halts import KillSwitch
from tools.limits import InferenceToday
from tools.orders import Account, OrderTool

INTENT = OrderIntent(
    outcome=Outcome.YES, side=Side.BUY, price=Decimal("0.5"), size=20 * UNIT, why="x", tif=TimeInForce.GTC
)


class Venue:
    """A venue that fills and ends the one order as it is told to; `says` is its status, `due` are fills unread."""

    def __init__(self, answer: OrderStatus = OrderStatus.LIVE) -> None:
        self.says, self.due = Ack("0x1", answer), list[Fill]()

    async def sign(self, order: Order) -> SignedOrder:
        return SignedOrder("0x1", order)

    async def send(self, signed: SignedOrder) -> Ack:
        return self.says

    async def status(self, order_id: str) -> Ack | None:
        return self.says

    async def cancel(self, order_id: str) -> bool:
        if self.says.status is OrderStatus.LIVE:
            self.says = Ack("0x1", OrderStatus.CANCELED)
        return True

    async def cancel_many(self, order_ids: Sequence[str]) -> int:
        return sum([await self.cancel(order_id) for order_id in order_ids])

    async def fills(self) -> Sequence[Fill]:
        due, self.due = self.due, []
        return due

    async def account(self) -> Account:
        return Account(1000 * UNIT)

    def fill(self, size: Micro) -> None:
        self.due.append(
            Fill(
                id=f"f{len(self.due)}",
                order_id="0x1",
                market_id=market().id,
                outcome=Outcome.YES,
                side=Side.BUY,
                price=Decimal("0.5"),
                size=size,
                fee=0,
                at=START,
                evidence=FillEvidence.VENUE,
            )
        )


def view() -> View:
    return View(
        market=market(), book=book(), fees=charged(market(), START), at=START, cash=1000 * UNIT, held_yes=0, held_no=0,
        at_risk=0,
    )  # fmt: skip


class Desk:
    """Execution at that venue, and what it published."""

    def __init__(self, venue: Venue) -> None:
        self.venue, self.heard, bus = venue, list[Event](), LocalBus()
        self.execution = Execution(cast(OrderTool, venue), cast(RunLog, InMemoryRunLog()), bus)
        self._subscription = bus.subscribed(Event, self.heard.append)
        self._subscription.__enter__()

    async def place(self) -> None:
        await self.execution.act(INTENT, view(), "d", 0)

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.heard]

    @property
    def end(self) -> OrderEnded:
        (found,) = [event for event in self.heard if isinstance(event, OrderEnded)]
        return found


@given(before=st.lists(st.integers(1, 5 * UNIT), max_size=3), with_it=st.lists(st.integers(1, UNIT), max_size=3))
def test_the_end_comes_after_the_fills_and_knows_their_sum(before: list[Micro], with_it: list[Micro]) -> None:
    desk = Desk(Venue())

    async def play() -> None:
        await desk.place()
        for size in before:
            desk.venue.fill(size)
        await desk.execution.reconcile(START)
        for size in with_it:
            desk.venue.fill(size)
        await desk.execution.withdraw(["0x1"], START)
        for _ in range(2):
            await desk.execution.reconcile(START)

    asyncio.run(play())
    assert desk.names == ["OrderPlaced", *["OrderFilled"] * (len(before) + len(with_it)), "OrderEnded"]
    assert desk.end.filled == sum(before) + sum(with_it)
    assert (desk.end.end, desk.end.status, desk.end.reason) == (OrderEnd.CANCELLED, OrderStatus.CANCELED, WITHDRAWN)
    assert not desk.execution.over and not desk.execution.filled, "nothing of it is kept"


def test_an_order_that_was_filled_before_it_could_be_withdrawn_was_filled() -> None:
    desk = Desk(Venue())

    async def play() -> None:
        await desk.place()
        desk.venue.fill(20 * UNIT)
        desk.venue.says = Ack("0x1", OrderStatus.MATCHED)
        await desk.execution.withdraw(["0x1"], START)
        await desk.execution.reconcile(START)

    asyncio.run(play())
    assert (desk.end.end, desk.end.filled, desk.end.reason) == (OrderEnd.FILLED, 20 * UNIT, "")


def test_the_venues_own_reason_stands() -> None:
    desk = Desk(Venue())

    async def play() -> None:
        await desk.place()
        desk.venue.says = Ack("0x1", OrderStatus.CANCELED, "the market closed")
        await desk.execution.withdraw(["0x1"], START)
        await desk.execution.reconcile(START)

    asyncio.run(play())
    assert desk.end.reason == "the market closed"


def test_a_refused_order_is_refused_and_has_no_other_end() -> None:
    desk = Desk(Venue(OrderStatus.REJECTED))

    async def play() -> None:
        await desk.place()
        await desk.execution.reconcile(START)

    asyncio.run(play())
    assert [type(event) for event in desk.heard] == [OrderPlaced, OrderRefused]


def test_a_fill_that_comes_later_is_an_event_of_its_own_and_leaves_nothing_behind() -> None:
    desk = Desk(Venue())

    async def play() -> None:
        await desk.place()
        await desk.execution.withdraw(["0x1"], START)
        await desk.execution.reconcile(START)
        desk.venue.fill(UNIT)
        await desk.execution.reconcile(START)

    asyncio.run(play())
    assert [type(event) for event in desk.heard] == [OrderPlaced, OrderEnded, OrderFilled]
    assert not desk.execution.filled


def test_an_end_that_another_task_learns_of_waits_for_fills_that_are_read_after_it() -> None:
    class Busy(Venue):
        """Meanwhile the kill switch takes the order back, and the last of it has traded."""

        async def fills(self) -> Sequence[Fill]:
            due = await super().fills()
            if self.says.status is OrderStatus.LIVE:
                await desk.execution.withdraw(["0x1"], START)
                self.fill(UNIT)
            return due

    desk = Desk(Busy())

    async def play() -> None:
        await desk.place()
        await desk.execution.reconcile(START)
        assert desk.names == ["OrderPlaced"]
        await desk.execution.reconcile(START)

    asyncio.run(play())
    assert (desk.names[1:], desk.end.filled) == (["OrderFilled", "OrderEnded"], UNIT)


def test_what_was_filled_before_a_restart_counts_at_the_end(tmp_path: Path) -> None:
    venue, order = Venue(), Order(
        market_id=market().id, outcome=Outcome.YES, side=Side.BUY, price=Decimal("0.5"), size=20 * UNIT,
        tif=INTENT.tif, placed_at=START, key="d/0",
    )  # fmt: skip
    venue.fill(3 * UNIT)
    earlier = venue.due.pop()
    past = AccountHistory(
        cash=1000 * UNIT, since=START, fills=[earlier], working=[SignedOrder("0x1", order)],
        markets={market().id: market()},
    )  # fmt: skip
    bus, heard, clock = LocalBus(), list[OrderEnded](), ManualClock(START)
    guards = Guards(Config(), clock, KillSwitch(tmp_path), Inhibitor(), Pulse(Bounds(1.0, 1.0)))
    spent = InferenceToday(clock, 0.0, lambda: 0)
    log = cast(RunLog, InMemoryRunLog())
    execution, _ = guards.around(cast(OrderTool, venue), log, bus, past, spent)

    async def play() -> None:
        venue.fill(2 * UNIT)
        await execution.withdraw(["0x1"], START)
        await execution.reconcile(START)

    with bus.subscribed(OrderEnded, heard.append):
        asyncio.run(play())
    assert [event.filled for event in heard] == [5 * UNIT]
