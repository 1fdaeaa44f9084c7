"""Money at the loopback venue that moves beside the agent's trading, orders that its key never signed, and trades that
stay matched: as the official client, the chain and the venue's own books see them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from polymarket.streams import UserSpec

from backtest.venue.activity import PAYMENTS, ActivityLog, ActivityQuery, LoopbackActivity, LoopbackActivityKind
from backtest.venue.balances import CASH
from backtest.venue.exchange import Pace, VenueTradeStatus
from backtest.venue.faults import Fault
from backtest.venue.server import VenueServer
from market.clock import ScaledClock
from market.types import UNIT, Market
from tests.integration.test_chain import said as on_chain
from tests.integration.test_venue import collected, play
from tests.servers import until
from tests.venue import PLAY, Flat, address_of, command, told
from tools.polymarket import contracts
from tools.polymarket.chain import selector

BUY = {"side": "BUY", "price": Decimal("0.51"), "size": Decimal(10)}
FEE = 174_930
"""Micro-dollars of fee for ten shares at 0.51."""
AT_ONCE = Pace(mining=timedelta(0), confirming=timedelta(0), resolving=timedelta(seconds=1), paying=timedelta(0))
KINDS = ["deposit", "maker_rebate", "reward", "taker_rebate", "yield", "referral_reward", "withdrawal"]


async def dollars_on_chain(base: str, address: str) -> int:
    data = selector("balanceOf(address)").hex() + address.removeprefix("0x").rjust(64, "0")
    return int(await on_chain(base, "eth_call", {"to": contracts.COLLATERAL, "data": f"0x{data}"}, "latest"), 16)


def test_payments_are_in_the_balance_on_the_chain_and_in_the_activity() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        address = address_of(0)
        for n, kind in enumerate(KINDS, 1):
            row = await told(base, f"/venue/accounts/{address}", kind=kind, amount=f"{n}.5")
            receipt = await on_chain(base, "eth_getTransactionReceipt", row["transaction_hash"])
            assert receipt["status"] == "0x1" and row["type"] == kind.upper()
        cash = PLAY + sum(n * UNIT + UNIT // 2 for n in range(1, 7)) - 7_500_000
        assert (await client.get_balance_allowance(asset_type="COLLATERAL")).balance == cash
        assert await dollars_on_chain(base, address) == cash

        rows = await collected(client.list_activity(user=address, sort_direction="ASC"))
        assert [r.type.lower() for r in rows] == KINDS
        assert [r.amount for r in rows] == [Decimal(n) + Decimal("0.5") for n in range(1, 8)]
        assert all(r.wallet == address and abs(r.timestamp - server.state.now()) < timedelta(minutes=1) for r in rows)
        newest = await collected(client.list_activity(user=address, page_size=2))
        assert newest == rows[::-1], "pages of two, newest first, leave nothing out"
        some = await collected(client.list_activity(user=address, activity_types=["WITHDRAWAL", "YIELD"]))
        assert [r.type for r in some] == ["WITHDRAWAL", "YIELD"]

    assert {k.upper() for k in KINDS} == PAYMENTS
    play(scenario)


def test_the_activity_of_another_time_or_account_is_not_listed() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        address, now = address_of(0), server.state.now()
        await told(base, f"/venue/accounts/{address}", kind="deposit", amount="1")
        for bounds, expected in (
            ({"start": now - timedelta(seconds=5), "end": now + timedelta(seconds=60)}, 1),
            ({"start": now + timedelta(seconds=60)}, 0),
            ({"end": now - timedelta(seconds=5)}, 0),
        ):
            assert len(await collected(client.list_activity(user=address, **bounds))) == expected
        assert await collected(client.list_activity(user=address_of(3))) == []
        async with aiohttp.ClientSession() as session:
            # The service leaves transfers out unless it is told not to; the official client always does.
            plain = await (await session.get(f"{base}/v2/activity", params={"user": address})).json()
            named = await (await session.get(f"{base}/v2/activity?type=DEPOSIT&user={address}")).json()
        assert (len(plain["data"]), len(named["data"])) == (0, 1)

    play(scenario)


def test_trades_and_redemptions_are_activity_once_they_are_on_the_chain() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        address, start = address_of(0), server.state.now()
        await client.place_limit_order(token_id=market.yes_token, **BUY)
        await client.place_limit_order(token_id=market.no_token, side="BUY", price=Decimal("0.51"), size=Decimal(5))
        await until(lambda: server.state.exchange.purses[address].has(CASH) > PLAY)
        rows = await collected(client.list_activity(user=address, sort_direction="ASC", start=start))
        kinds = [(r.type, r.outcome, r.amount) for r in rows]
        assert kinds == [
            ("TRADE", "Up", Decimal("5.1")),
            ("TRADE", "Down", Decimal("2.55")),
            ("REDEEM", "Up", 10),
            ("REDEEM", "Down", 0),
        ]
        assert [(r.side, r.shares, r.price) for r in rows[:2]] == [
            ("BUY", 10, Decimal("0.51")),
            ("BUY", 5, Decimal("0.51")),
        ]
        assert {r.condition_id for r in rows} == {market.id}
        for row in rows:
            assert (await on_chain(base, "eth_getTransactionReceipt", row.transaction_hash))["status"] == "0x1"

    play(scenario, pace=AT_ONCE, series=[Flat(seconds=30)], clock=ScaledClock(datetime.now(UTC), 4))


def test_trades_and_positions_come_in_pages() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        address = address_of(0)
        for token in (market.yes_token, market.no_token, market.yes_token):
            await client.place_limit_order(token_id=token, side="BUY", price=Decimal("0.51"), size=Decimal(5))
        await until(lambda: all(t.status == "CONFIRMED" for t in server.state.exchange.trades.values()))
        trades = await collected(client.list_trades(user=address, page_size=2))
        assert [(t.outcome, t.size, t.price) for t in trades] == [
            (outcome, 5, Decimal("0.51")) for outcome in ("Up", "Down", "Up")
        ]
        positions = await collected(client.list_positions(user=address, page_size=1))
        assert {(p.asset_id, p.current_size) for p in positions} == {(market.yes_token, 10), (market.no_token, 5)}

    play(scenario)


def test_a_withdrawal_takes_what_is_free_and_ends_orders_that_cannot_be_paid_any_more() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        address = address_of(0)
        placed = [
            await client.place_limit_order(
                token_id=market.yes_token, price=Decimal("0.40"), size=Decimal(1000), side="BUY", post_only=True
            )
            for _ in range(2)
        ]
        await told(base, f"/venue/accounts/{address}", status=400, kind="withdrawal", amount="1000.000001")
        await told(base, f"/venue/accounts/{address}", kind="withdrawal", amount="300")
        older, newer = (server.state.exchange.orders[p.order_id].status for p in placed)
        assert (older, newer) == ("LIVE", "CANCELED_NOT_ENOUGH_BALANCE")
        assert [o.id for o in await collected(client.list_open_orders())] == [placed[0].order_id]

    play(scenario)


def test_a_command_that_makes_no_sense_changes_nothing() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        address = address_of(0)
        order = {"token_id": market.yes_token, "side": "BUY", "price": "0.10", "size": "10"}
        for amount in ("0", "-1", "0.0000001", "NaN", "1e999999", None, [1]):
            await told(base, f"/venue/accounts/{address}", status=400, kind="deposit", amount=amount)
        await told(base, f"/venue/accounts/{address}", status=400, kind="trade", amount="1")
        for wrong in ({"side": "HOLD"}, {"price": "2"}, {"size": "0"}, {"order_type": "GTD"}, {"price": "1e-999999"}):
            await told(base, f"/venue/accounts/{address}/orders", status=400, **order | wrong)
        await told(base, f"/venue/accounts/{'0x' + '77' * 20}/orders", status=404, **order)
        assert server.state.exchange.purses[address].held == {CASH: PLAY}
        assert not server.state.exchange.orders and not server.state.exchange.activity.rows

    play(scenario)


@pytest.mark.parametrize("signature_type", [0, 3])
def test_an_order_that_the_key_never_signed_is_there_like_any_other(signature_type: int) -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        heard: list[Any] = []
        stream = await client.subscribe([UserSpec(markets=[market.id])])
        listening = asyncio.create_task(_listen(stream, heard))
        path = f"/venue/accounts/{address_of(signature_type)}/orders"
        rests = await told(base, path, token_id=market.yes_token, side="BUY", price="0.10", size="10")
        assert rests["status"] == "live"
        (order,) = await collected(client.list_open_orders())
        assert (order.id, order.price, order.original_size) == (rests["orderID"], Decimal("0.10"), 10)

        taken = await told(base, path, token_id=market.yes_token, side="BUY", price="0.51", size="10")
        assert taken["status"] == "matched"
        (trade,) = await collected(client.list_account_trades())
        assert (trade.taker_order_id, trade.trader_side) == (taken["orderID"], "TAKER")
        await until(lambda: any(type(e).__name__ == "UserTradeEvent" for e in heard))
        listening.cancel()
        await stream.close()
        assert {e.payload.id for e in heard if type(e).__name__ == "UserOrderEvent"} == {order.id, taken["orderID"]}
        # The owner's own key has power over it: it can be cancelled.
        assert (await client.cancel_order(order_id=order.id)).canceled == (order.id,)

    play(scenario, signature_type)


async def _listen(stream: Any, heard: list[Any]) -> None:
    async for event in stream:
        heard.append(event)  # noqa: PERF401 - what was heard is looked at while it comes in


@pytest.mark.parametrize("hash_given", [True, False])
def test_a_trade_that_is_never_mined_moves_nothing(hash_given: bool) -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        address = address_of(0)
        await command(base, Fault.NEVER_MINED, transaction_hash=hash_given)
        await client.place_limit_order(token_id=market.yes_token, **BUY)
        await client.place_limit_order(token_id=market.yes_token, **BUY)
        stuck, settled = server.state.exchange.trades.values()
        await until(lambda: settled.status is VenueTradeStatus.CONFIRMED)
        rows = {t.id: t for t in await collected(client.list_account_trades())}
        assert rows[stuck.id].status == "MATCHED" and bool(rows[stuck.id].transaction_hash) is hash_given
        if hash_given:
            assert await on_chain(base, "eth_getTransactionReceipt", rows[stuck.id].transaction_hash) is None
        left = PLAY - 5_100_000 - FEE
        assert (await client.get_balance_allowance(asset_type="COLLATERAL")).balance == left
        assert await dollars_on_chain(base, address) == left
        shares = await client.get_balance_allowance(asset_type="CONDITIONAL", token_id=market.yes_token)
        assert shares.balance == 10_000_000
        assert len(await collected(client.list_activity(user=address))) == 1
        # It still binds the money: that much cannot be spent.
        assert server.state.exchange.purses[address].owes(CASH) == 5_100_000 + FEE

    play(scenario)


def test_shares_that_did_settle_are_paid_beside_a_trade_that_never_does() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        purse = server.state.exchange.purses[address_of(0)]
        await client.place_limit_order(token_id=market.yes_token, **BUY)
        await command(base, Fault.NEVER_MINED)
        await client.place_limit_order(token_id=market.yes_token, **BUY)
        await until(lambda: purse.held == {CASH: PLAY - 5_100_000 - FEE + 10_000_000})
        assert not purse.bound and not purse.coming
        assert [t.status for t in server.state.exchange.trades.values()] == ["CONFIRMED", "MATCHED"]

    play(scenario, pace=AT_ONCE, series=[Flat(seconds=30)], clock=ScaledClock(datetime.now(UTC), 4))


def test_a_trade_that_is_mined_silently_moves_everything_but_its_status() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        address = address_of(0)
        await command(base, Fault.MINED_SILENTLY, count=2)
        await client.place_limit_order(token_id=market.yes_token, **BUY)
        await client.place_limit_order(token_id=market.yes_token, **BUY)
        purse = server.state.exchange.purses[address]
        await until(lambda: purse.held == {CASH: PLAY - 2 * (5_100_000 + FEE), market.yes_token: 20_000_000})
        first, second = await collected(client.list_account_trades())
        assert (first.status, second.status) == ("MATCHED", "MATCHED")
        assert first.transaction_hash and not second.transaction_hash, "every second one has a hash"
        receipt = await on_chain(base, "eth_getTransactionReceipt", first.transaction_hash)
        assert receipt["status"] == "0x1"
        rows = await collected(client.list_activity(user=address, sort_direction="ASC"))
        assert [r.type for r in rows] == ["TRADE", "TRADE"] and rows[0].transaction_hash == first.transaction_hash
        assert await dollars_on_chain(base, address) == purse.has(CASH)

    play(scenario)


@pytest.mark.parametrize("kind", ["A", "0x12", ""])
def test_questions_about_nobody_are_refused(kind: str) -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        for wrong in ("user=" + kind, f"user={address_of(0)}&cursor=abc", f"user={address_of(0)}&type=LOSS"):
            async with aiohttp.ClientSession() as session, session.get(f"{base}/v2/activity?{wrong}") as answer:
                assert answer.status == 400 and "error" in await answer.json()

    play(scenario)


ROWS = st.lists(
    st.tuples(st.sampled_from(list(LoopbackActivityKind)), st.sampled_from(["a", "b"]), st.integers(0, 9)), max_size=30
)


@given(ROWS, st.integers(1, 7), st.booleans(), st.frozensets(st.sampled_from(list(LoopbackActivityKind))))
def test_pages_of_any_size_give_every_row_once_even_if_more_come_meanwhile(
    made: list[tuple[LoopbackActivityKind, str, int]],
    limit: int,
    newest_first: bool,
    kinds: frozenset[LoopbackActivityKind],
) -> None:
    day = datetime(2026, 9, 1, tzinfo=UTC)
    rows = [LoopbackActivity(k, who, day + timedelta(seconds=n), "0x", n) for k, who, n in made]
    log, got, after = ActivityLog(list(rows)), list[LoopbackActivity](), None
    while True:
        query = ActivityQuery(kinds=kinds, newest_first=newest_first, after=after, until=day + timedelta(seconds=8))
        page, after = log.page("a", query, limit)
        got += page
        if after is None:
            break
        assert len(page) == limit
        log.append([LoopbackActivity(LoopbackActivityKind.DEPOSIT, "b", day, "0x", 1)])
    expected = [r for r in rows if r.address == "a" and r.kind in kinds and r.dollars <= 8]
    assert got == (expected[::-1] if newest_first else expected)
