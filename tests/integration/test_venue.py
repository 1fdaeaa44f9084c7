"""The loopback venue as the official client sees it: keys, orders, streams, settlement, refusals and faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import aiohttp
import pytest

polymarket = pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from polymarket.errors import (  # noqa: E402
    OrderHeartbeatMismatchError,
    RateLimitError,
    RequestRejectedError,
    TransportError,
)
from polymarket.streams import CryptoPriceSpec, CryptoTwapPriceSpec, MarketSpec, UserSpec  # noqa: E402

from backtest.venue.balances import CASH  # noqa: E402
from backtest.venue.exchange import Pace  # noqa: E402
from backtest.venue.faults import Fault  # noqa: E402
from backtest.venue.server import VenueServer  # noqa: E402
from market.clock import ScaledClock  # noqa: E402
from market.types import Market  # noqa: E402
from tests.servers import until  # noqa: E402
from tests.venue import KEY, OTHER_KEY, PLAY, QUICK, Flat, address_of, command, loopback, official, open_market  # noqa: E402

Scenario = Callable[[VenueServer, str, Any, Market], Awaitable[None]]


def play(scenario: Scenario, signature_type: int = 0, **how: Any) -> None:
    """Run a scenario with a venue, the official client and the open window."""

    async def scope() -> None:
        async with loopback(**{"pace": QUICK, **how}) as (server, base), official(base, signature_type) as client:
            await scenario(server, base, client, open_market(server))

    asyncio.run(scope())


async def refusal(call: Awaitable[Any]) -> RequestRejectedError:
    with pytest.raises(RequestRejectedError) as raised:
        await call
    return raised.value


async def collected(items: Any) -> list[Any]:
    return [one async for page in items for one in (page.items if hasattr(page, "items") else page)]


@pytest.mark.parametrize("signature_type", [0, 1, 2, 3])
def test_the_official_client_trades_from_every_kind_of_wallet(signature_type: int) -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        heard: list[Any] = []
        streams = await client.subscribe([UserSpec(markets=[market.id]), MarketSpec(token_ids=[market.yes_token])])
        listening = asyncio.create_task(_listen(streams, heard))
        book = await client.get_order_book(token_id=market.yes_token)
        ask = book.asks[-1].price

        rest = await client.place_limit_order(
            token_id=market.yes_token, price=Decimal("0.01"), size=Decimal(10), side="BUY", post_only=True
        )
        assert rest.ok and rest.status == "live"
        assert (await client.get_order(order_id=rest.order_id)).price == Decimal("0.01")
        assert [o.id for o in await collected(client.list_open_orders())] == [rest.order_id]
        assert (await client.cancel_order(order_id=rest.order_id)).canceled == (rest.order_id,)
        assert await collected(client.list_open_orders()) == []

        bought = await client.place_limit_order(token_id=market.yes_token, price=ask, size=Decimal(10), side="BUY")
        assert bought.ok and bought.status == "matched" and bought.taking_amount == 10
        await until(lambda: "CONFIRMED" in [t.status.value for t in server.state.exchange.trades.values()])
        trades = await collected(client.list_account_trades())
        assert {t.status for t in trades} <= {"CONFIRMED", "MINED"} and sum(t.size for t in trades) == 10
        shares = await client.get_balance_allowance(asset_type="CONDITIONAL", token_id=market.yes_token)
        assert shares.balance == 10_000_000
        cash = await client.get_balance_allowance(asset_type="COLLATERAL")
        assert cash.balance == server.state.exchange.purses[address_of(signature_type)].chain(CASH) < PLAY

        await until(
            lambda: {"UserOrderEvent", "UserTradeEvent", "MarketBookEvent"} <= {type(e).__name__ for e in heard}
        )
        listening.cancel()
        await streams.close()
        orders = [e.payload.order_event_type for e in heard if type(e).__name__ == "UserOrderEvent"]
        assert orders == ["PLACEMENT", "CANCELLATION", "PLACEMENT", "UPDATE"]

    play(scenario, signature_type)


async def _listen(streams: Any, heard: list[Any]) -> None:
    async for event in streams:
        heard.append(event)  # noqa: PERF401 - what was heard is looked at while it comes in


def test_refusals_are_in_the_words_of_the_venue() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        token, cent = market.yes_token, Decimal("0.01")
        limit = partial(client.place_limit_order, token_id=token, side="BUY")
        take = partial(client.place_market_order, token_id=token)
        known = {
            "invalid post-only order: order crosses book": limit(
                price=Decimal("0.51"), size=Decimal(10), post_only=True
            ),
            "lower than the minimum: 5": limit(price=cent, size=Decimal(4)),
            "not enough balance / allowance: the balance is not enough -> balance: 1000000000, order amount": limit(
                price=Decimal("0.40"), size=Decimal(5000)
            ),
            "FOK orders are fully filled or killed": take(
                side="BUY", amount=Decimal(200), max_price=Decimal("0.51"), order_type="FOK"
            ),
            "no orders found to match with FAK order": take(
                side="BUY", amount=Decimal(10), max_price=Decimal("0.30"), order_type="FAK"
            ),
            "balance: 0, order amount: 10000000": take(side="SELL", shares=Decimal(10), min_price=Decimal("0.49")),
        }
        for words, call in known.items():
            assert words in str(await refusal(call))
        assert server.state.exchange.purses[address_of(0)].chain(CASH) == PLAY, "nothing was traded"

    play(scenario)


def test_a_key_is_made_once_and_then_derived() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        async with official(base) as again:
            placed = await again.place_limit_order(
                token_id=market.yes_token, price=Decimal("0.10"), size=Decimal(10), side="BUY"
            )
        assert [o.id for o in await collected(client.list_open_orders())] == [placed.order_id]

    play(scenario)


def test_plain_key_accounts_are_refused_where_the_venue_wants_deposit_wallets() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        call = client.place_limit_order(token_id=market.yes_token, price=Decimal("0.10"), size=Decimal(10), side="BUY")
        assert str(await refusal(call)) == "maker address not allowed, please use the deposit wallet flow"

    play(scenario, strict_wallets=True)


def test_orders_go_in_batches_and_are_cancelled_by_market_and_all_at_once() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        async def rest(token: str) -> Any:
            return await client.create_limit_order(token_id=token, price=Decimal("0.10"), size=Decimal(10), side="BUY")

        signed = [await rest(t) for t in (market.yes_token, market.yes_token, market.no_token)]
        placed = await client.post_orders(signed)
        assert [p.status for p in placed] == ["live"] * 3
        gone = await client.cancel_market_orders(token_id=market.no_token)
        assert gone.canceled == (placed[2].order_id,)
        gone = await client.cancel_orders(order_ids=[placed[0].order_id, placed[2].order_id])
        assert gone.canceled == (placed[0].order_id,)
        assert dict(gone.not_canceled) == {placed[2].order_id: "already canceled or matched"}
        assert (await client.cancel_all()).canceled == (placed[1].order_id,)

    play(scenario)


def test_two_accounts_trade_with_each_other_and_buyers_of_both_outcomes_make_a_pair() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        async with official(base, key=OTHER_KEY) as other:
            rest = await client.place_limit_order(
                token_id=market.yes_token, price=Decimal("0.50"), size=Decimal(20), side="BUY"
            )
            assert rest.status == "live"
            met = await other.place_limit_order(
                token_id=market.no_token, price=Decimal("0.50"), size=Decimal(8), side="BUY"
            )
            assert met.status == "matched"
            await until(lambda: all(t.status == "CONFIRMED" for t in server.state.exchange.trades.values()))
            ours, theirs = (server.state.exchange.purses[address_of(0, k)] for k in (KEY, OTHER_KEY))
            assert ours.has(market.yes_token) == theirs.has(market.no_token) == 8_000_000
            assert ours.chain(CASH) == PLAY - 4_000_000, "a maker pays no fee"
            assert theirs.chain(CASH) == PLAY - 4_000_000 - 140_000, "a taker pays 0.07 p (1 - p) a share"
            (trade,) = await collected(client.list_account_trades())
            assert trade.trader_side == "MAKER" and trade.maker_orders[0].order_id == rest.order_id
            assert (await client.get_order(order_id=rest.order_id)).size_matched == 8

    play(scenario)


def test_whoever_sweeps_several_orders_and_the_book_makes_one_trade() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        async with official(base, key=OTHER_KEY) as other:
            # Two bids for the other outcome are offers of this one, before the displayed book at 0.51.
            rests = [
                await other.place_limit_order(
                    token_id=market.no_token, price=Decimal("0.50"), size=Decimal(n), side="BUY", post_only=True
                )
                for n in (10, 5)
            ]
            taken = await client.place_limit_order(
                token_id=market.yes_token, price=Decimal("0.51"), size=Decimal(20), side="BUY"
            )
            assert taken.status == "matched" and taken.making_amount == Decimal("10.05") and len(taken.trade_ids) == 1
            await until(lambda: all(t.status == "CONFIRMED" for t in server.state.exchange.trades.values()))
            (seen,) = await collected(client.list_account_trades())
            assert (seen.trader_side, seen.size, seen.price) == ("TAKER", 20, Decimal("0.5025"))
            parts = [(m.order_id, m.matched_amount, m.price, m.outcome) for m in seen.maker_orders]
            assert parts[:2] == [(r.order_id, n, Decimal("0.50"), "Down") for r, n in zip(rests, (10, 5), strict=True)]
            assert parts[2][1:] == (5, Decimal("0.51"), "Up") and parts[2][0] not in server.state.exchange.orders
            (theirs,) = await collected(other.list_account_trades())
            assert (theirs.id, theirs.trader_side, theirs.maker_orders) == (seen.id, "MAKER", seen.maker_orders)

            purse = server.state.exchange.purses[address_of(0)]
            # The fee is rounded for each part, as it is charged.
            fee = 175_000 + 87_500 + 87_470
            assert purse.held == {CASH: PLAY - 10_050_000 - fee, market.yes_token: 20_000_000} and not purse.bound
            rows = await collected(client.list_activity(user=address_of(0)))
            assert [(r.amount, r.shares, r.price) for r in rows] == [(Decimal("10.05"), 20, Decimal("0.5025"))]
            rows = await collected(client.list_activity(user=address_of(0, OTHER_KEY)))
            assert [(r.amount, r.shares) for r in rows] == [(Decimal("2.5"), 5), (5, 10)]

    play(scenario)


def test_one_key_that_trades_with_another_wallet_of_its_own_sees_the_trade_once() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        async with official(base, signature_type=3) as own:
            rest = await own.place_limit_order(
                token_id=market.no_token, price=Decimal("0.50"), size=Decimal(10), side="BUY", post_only=True
            )
            taken = await client.place_limit_order(
                token_id=market.yes_token, price=Decimal("0.50"), size=Decimal(10), side="BUY"
            )
            (trade,) = await collected(client.list_account_trades())
            assert trade.trader_side == "TAKER" and trade.taker_order_id == taken.order_id
            assert [m.order_id for m in trade.maker_orders] == [rest.order_id]
            await until(lambda: all(t.status == "CONFIRMED" for t in server.state.exchange.trades.values()))
            purses = [server.state.exchange.purses[address_of(n)] for n in (0, 3)]
            assert [p.has(t) for p, t in zip(purses, (market.yes_token, market.no_token), strict=True)] == [
                10_000_000
            ] * 2

    play(scenario)


def test_a_trade_that_fails_to_settle_is_undone() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        await command(base, Fault.SETTLEMENT_FAILS)
        await client.place_limit_order(token_id=market.yes_token, price=Decimal("0.51"), size=Decimal(10), side="BUY")
        (trade,) = server.state.exchange.trades.values()
        purse = server.state.exchange.purses[address_of(0)]
        assert purse.owes(CASH) > 5_000_000 and purse.chain(CASH) == PLAY
        await until(lambda: trade.status == "FAILED")
        assert purse.held == {CASH: PLAY} and not purse.bound and not purse.coming
        assert [t.status for t in await collected(client.list_account_trades())] == ["FAILED"]

    play(scenario)


def test_an_order_whose_answer_was_lost_is_there_and_is_not_taken_twice() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        signed = await client.create_limit_order(
            token_id=market.yes_token, price=Decimal("0.51"), size=Decimal(10), side="BUY"
        )
        await command(base, Fault.LOST_ANSWER)
        with pytest.raises(TransportError):
            await client.post_order(signed)
        (placed,) = server.state.exchange.orders
        assert str(await refusal(client.post_order(signed))) == f"order {placed} is invalid. Duplicated."
        assert len(server.state.exchange.trades) == 1

    play(scenario)


def test_a_request_that_was_lost_never_happened() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        signed = await client.create_limit_order(
            token_id=market.yes_token, price=Decimal("0.51"), size=Decimal(10), side="BUY"
        )
        await command(base, Fault.LOST_REQUEST)
        with pytest.raises(TransportError):
            await client.post_order(signed)
        assert not server.state.exchange.orders
        assert (await client.post_order(signed)).status == "matched"

    play(scenario)


@pytest.mark.parametrize(
    ("mode", "status", "restriction"),
    [
        (Fault.RESTARTING, 425, "restarting"),
        (Fault.CANCEL_ONLY, 503, "cancel_only"),
        (Fault.POST_ONLY, 503, "post_only"),
        (Fault.DISABLED, 503, None),
        (Fault.SERVER_ERROR, 500, None),
        (Fault.VERSION_MISMATCH, 400, None),
    ],
)
def test_modes_of_the_venue_are_what_the_client_takes_them_for(
    mode: Fault, status: int, restriction: str | None
) -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        rest = partial(
            client.place_limit_order, token_id=market.yes_token, price=Decimal("0.10"), size=Decimal(10), side="BUY"
        )
        before = await rest()
        await command(base, mode, seconds=600)
        error = await refusal(rest())
        assert (error.status, error.restriction) == (status, restriction)
        if mode is Fault.POST_ONLY:
            assert (await rest(post_only=True)).ok
        if mode is Fault.RESTARTING:
            assert (await refusal(client.cancel_order(order_id=before.order_id))).status == 425
        else:
            assert (await client.cancel_order(order_id=before.order_id)).canceled == (before.order_id,)

    play(scenario)


def test_too_many_requests_are_said_to_be_that() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        await command(base, Fault.RATE_LIMITED)
        with pytest.raises(RateLimitError) as raised:
            await client.place_limit_order(
                token_id=market.yes_token, price=Decimal("0.10"), size=Decimal(10), side="BUY"
            )
        assert raised.value.retry_after == 1

    play(scenario)


def test_whoever_stops_sending_heartbeats_loses_the_orders_that_rest() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        first = await client.send_order_heartbeat(heartbeat_id="")
        second = await client.send_order_heartbeat(heartbeat_id=first.heartbeat_id)
        with pytest.raises(OrderHeartbeatMismatchError) as raised:
            await client.send_order_heartbeat(heartbeat_id=first.heartbeat_id)
        assert raised.value.heartbeat_id == second.heartbeat_id
        await client.place_limit_order(token_id=market.yes_token, price=Decimal("0.10"), size=Decimal(10), side="BUY")
        await until(lambda: not any(p.open for p in server.state.exchange.orders.values()))

    play(scenario, pace=Pace(heartbeat=timedelta(milliseconds=300)))


def test_wrong_credentials_open_nothing() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{base}/data/orders", headers={"POLY_API_KEY": "nobody"}) as answer:
                assert answer.status == 401 and await answer.json() == {"error": "Unauthorized/Invalid api key"}
            async with session.post(f"{base}/auth/api-key", headers={"POLY_ADDRESS": address_of(0)}) as answer:
                assert answer.status == 401
            async with session.ws_connect(f"{base}/ws/user") as socket:
                await socket.send_json({"type": "user", "auth": {"apiKey": "a", "secret": "b", "passphrase": "c"}})
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE

    play(scenario)


def test_a_window_ends_is_resolved_and_pays_its_winners() -> None:
    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        await client.place_limit_order(token_id=market.yes_token, price=Decimal("0.51"), size=Decimal(10), side="BUY")
        rest = await client.place_limit_order(
            token_id=market.yes_token, price=Decimal("0.10"), size=Decimal(10), side="BUY"
        )
        await until(lambda: server.state.hall(market).resolved)
        assert server.state.exchange.orders[rest.order_id].status == "CANCELED_MARKET_RESOLVED"
        purse = server.state.exchange.purses[address_of(0)]
        fee = 174_930
        await until(lambda: purse.held == {CASH: PLAY - 5_100_000 - fee + 10_000_000})

    play(scenario, pace=Pace(resolving=timedelta(seconds=8), paying=timedelta(seconds=1)), series=[Flat(seconds=20)])


@pytest.mark.parametrize("spec", [CryptoTwapPriceSpec, CryptoPriceSpec])
def test_prices_are_streamed_to_whoever_has_a_key(spec: Any) -> None:
    """The average that windows settle on, and the price of the moment."""

    async def scenario(server: VenueServer, base: str, client: Any, market: Market) -> None:
        stream = await client.subscribe(spec(symbols=("btcusd",)))
        events: list[Any] = []
        listening = asyncio.create_task(_listen(stream, events))
        await until(lambda: len(events) >= 2)
        listening.cancel()
        await stream.close()
        snapshot, *updates = events
        assert [p.value for p in snapshot.payload.data] and {u.payload.value for u in updates} == {100_000}

    play(scenario)


def test_books_of_windows_long_over_are_let_go_and_who_won_stays_known() -> None:
    async def scenario() -> None:
        clock = ScaledClock(datetime.now(UTC), 5_000)
        async with loopback(series=[Flat(seconds=900)], clock=clock, pace=QUICK) as (server, _):
            market = open_market(server)
            await until(lambda: not server.state.windows[market.id].tape.books)
            assert server.state.hall(market).resolved
            assert server.state.hall(market).tape.payout == 1
            assert any(w.tape.books for w in server.state.windows.values())

    asyncio.run(scenario())
