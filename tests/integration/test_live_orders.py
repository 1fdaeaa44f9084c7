"""The live order tool over the official client, against the loopback venue: every kind of order, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from agent.live.account import VenueAccount
from agent.live.preflight import patiently
from agent.live.recovery import AccountHistory
from backtest.venue.exchange import Pace
from backtest.venue.faults import Fault
from backtest.venue.server import VenueServer
from market.clock import EPOCH, Clock, ScaledClock, WallClock
from market.errors import NotReady
from market.polymarket.hosts import Hosts
from market.types import UNIT, Market, Order, OrderStatus, Outcome, Side, TimeInForce
from tests.servers import until
from tests.venue import KEY, PLAY, QUICK, Flat, command, loopback, open_market
from tools.keystore import SecretKey
from tools.orders import OrderTool
from tools.polymarket.client import SigningAccount
from tools.polymarket.orders import ARRIVES_WITHIN, BEAT


@dataclass
class Table:
    """An open account at a venue where nothing moves."""

    orders: OrderTool
    server: VenueServer
    base: str
    clock: Clock
    market: Market
    other: Any
    """The official client under the same key, as another program would have it."""
    number: int = 0

    def order(self, price: str, size: int = 10, tif: TimeInForce = TimeInForce.GTC, **how: object) -> Order:
        self.number += 1
        made = Order(
            self.market.id, Outcome.YES, Side.BUY, Decimal(price), size * UNIT, tif, self.clock.now(), str(self.number)
        )
        return replace(made, **how)  # type: ignore[arg-type]

    async def sent(self, order: Order) -> tuple[str, OrderStatus]:
        signed = await self.orders.sign(order)
        ack = await self.orders.send(signed)
        return signed.id, ack.status


@asynccontextmanager
async def table(speed: float = 1.0, seconds: int = 900, pace: Pace = QUICK) -> AsyncIterator[Table]:
    span = timedelta(seconds=seconds)
    opens = EPOCH + (WallClock().now() - EPOCH) // span * span
    clock = ScaledClock(opens + timedelta(seconds=10), speed)
    async with loopback(series=[Flat(seconds=seconds)], clock=clock, pace=pace) as (server, base):
        key = SecretKey.of_hex(KEY)
        account = VenueAccount(Hosts.loopback(base), SigningAccount.of(key.signer()), key)
        await account.begin(clock)
        market = open_market(server)
        past = AccountHistory(await account.cash(clock), clock.now())
        assert past.cash == PLAY
        async with (
            account.opened(None, clock, past, {market.id: market}.get) as hands,
            account.client(clock) as other,
        ):
            await patiently(lambda: hands.ready(clock))
            yield Table(hands.orders, server, base, clock, market, other)


def test_each_kind_of_order_ends_as_it_should() -> None:
    async def scenario() -> None:
        async with table() as t:
            _, resting = await t.sent(t.order("0.45"))
            assert resting is OrderStatus.LIVE
            _, crossing = await t.sent(t.order("0.55", post_only=True))
            assert crossing is OrderStatus.REJECTED
            known, _ = await t.sent(t.order("0.52", 20, TimeInForce.FAK))
            await until(lambda: bool(t.server.state.exchange.trades))
            await t.orders.sync()
            word = await t.orders.status(known)
            assert word is not None
            assert word.status in (OrderStatus.MATCHED, OrderStatus.CANCELED)
            assert sum(f.size for f in await t.orders.fills()) >= 19 * UNIT
            _, killed = await t.sent(t.order("0.51", 5_000 // 10, TimeInForce.FOK))
            assert killed in (OrderStatus.REJECTED, OrderStatus.CANCELED, OrderStatus.MATCHED)
            assert len((await t.orders.account()).open_orders) == 1
            assert await t.orders.cancel_all() == 1
            assert (await t.orders.account()).open_orders == ()

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", [Fault.FINISHED_NULL, Fault.FINISHED_GONE])
def test_an_order_that_the_venue_has_forgotten_has_ended_once_it_is_not_listed(fault: Fault) -> None:
    async def scenario() -> None:
        async with table(speed=20) as t:
            await command(t.base, fault, seconds=3600)
            taken, _ = await t.sent(t.order("0.52", 20, TimeInForce.FAK))
            await until(lambda: bool(t.server.state.exchange.trades), 5)
            resting, _ = await t.sent(t.order("0.45"))
            await t.other.cancel_order(order_id=resting)
            await t.clock.wait_until(t.clock.now() + ARRIVES_WITHIN)
            await t.orders.sync()
            for order_id in (taken, resting):
                word = await t.orders.status(order_id)
                assert word is not None
                assert word.status in (OrderStatus.MATCHED, OrderStatus.CANCELED)
            assert (await t.orders.account()).open_orders == ()
            assert sum(f.size for f in await t.orders.fills()) >= 19 * UNIT, "what it filled counts all the same"

    asyncio.run(scenario())


def test_an_order_that_rests_is_not_taken_for_ended_where_the_venue_forgets_others() -> None:
    async def scenario() -> None:
        async with table(speed=20) as t:
            await command(t.base, Fault.FINISHED_NULL, seconds=3600)
            resting, _ = await t.sent(t.order("0.45"))
            await t.clock.wait_until(t.clock.now() + 2 * ARRIVES_WITHIN)
            await t.orders.sync()
            assert [s.id for s in (await t.orders.account()).open_orders] == [resting]

    asyncio.run(scenario())


def test_an_order_with_an_end_is_ended_by_the_venue_itself() -> None:
    async def scenario() -> None:
        # The venue waits ten seconds of its time for a heartbeat: at a higher pace a busy machine misses one.
        async with table(speed=20, seconds=900) as t:
            ends = t.clock.now() + timedelta(seconds=180)
            known, status = await t.sent(t.order("0.45", good_until=ends, post_only=True))
            assert status is OrderStatus.LIVE
            placed = t.server.state.exchange.orders[known]
            assert placed.submission.kind == "GTD"
            await t.clock.wait_until(ends - timedelta(seconds=30))
            t.server.state.now()
            assert placed.open, "not before its time"
            await t.clock.wait_until(ends + timedelta(seconds=5))
            t.server.state.now()
            assert not placed.open
            await t.orders.sync()
            word = await t.orders.status(known)
            assert word is not None
            assert word.status is OrderStatus.CANCELED
            assert (await t.orders.account()).reserved == 0

    asyncio.run(scenario())


def test_the_venue_hears_of_us_with_the_first_order_so_that_it_misses_us_when_we_are_gone() -> None:
    """By a venue of less patience than there is between two heartbeats: the first comes at once, the next too late."""

    async def scenario() -> None:
        async with table(pace=replace(QUICK, heartbeat=timedelta(milliseconds=200))) as t:
            known, status = await t.sent(t.order("0.45", post_only=True))
            assert status is OrderStatus.LIVE
            placed = t.server.state.exchange.orders[known]
            await until(lambda: bool(t.server.state.now()) and not placed.open, BEAT.total_seconds() / 2)
            await t.other.send_order_heartbeat(heartbeat_id="")  # so that our next one goes by a wrong name
            await t.orders.sync()
            await asyncio.sleep(BEAT.total_seconds() + 0.5)
            known, _ = await t.sent(t.order("0.44", post_only=True))
            placed = t.server.state.exchange.orders[known]
            await until(lambda: bool(t.server.state.now()) and not placed.open, BEAT.total_seconds() / 2)

    asyncio.run(scenario())


def test_an_order_whose_answer_was_lost_is_found_by_its_id() -> None:
    async def scenario() -> None:
        async with table() as t:
            await command(t.base, Fault.LOST_ANSWER)
            known, status = await t.sent(t.order("0.45"))
            assert status is OrderStatus.LIVE
            assert list(t.server.state.exchange.orders) == [known]
            await command(t.base, Fault.LOST_REQUEST)
            again, status = await t.sent(t.order("0.44"))
            assert status is OrderStatus.LIVE
            assert set(t.server.state.exchange.orders) == {known, again}

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", [Fault.CANCEL_ONLY, Fault.DISABLED, Fault.POST_ONLY])
def test_a_mode_of_the_venue_is_a_refusal_and_not_an_error(fault: Fault) -> None:
    async def scenario() -> None:
        async with table() as t:
            await command(t.base, fault, seconds=60)
            _, status = await t.sent(t.order("0.45"))
            assert status is OrderStatus.REJECTED
            assert (await t.orders.account()).open_orders == ()

    asyncio.run(scenario())


def test_a_venue_of_another_version_or_place_is_not_traded_at() -> None:
    async def scenario() -> None:
        async with table() as t:
            from agent.live.preflight import must_hold
            from market.polymarket.rest import reader

            async with reader(Hosts.loopback(t.base), t.clock) as asked:
                await must_hold(asked, t.clock)
                wrong = ScaledClock(t.clock.now() + timedelta(seconds=30), 1.0)
                with pytest.raises(NotReady, match="away from the venue's"):
                    await must_hold(asked, wrong)

    asyncio.run(scenario())


def test_a_fault_of_ours_in_the_background_ends_the_account_with_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object, raw: bytes) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("tools.polymarket.orders.PolymarketOrders.hear", broken)

    async def scenario() -> None:
        async with asyncio.timeout(10), table() as t:
            await t.sent(t.order("0.45"))
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="a fault"):
        asyncio.run(scenario())
