"""Negative-risk events at the loopback venue: listed, traded, settled and redeemed as the official client and the chain
have it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("web3", reason="the extra `live` is not installed")
pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from polymarket import AsyncPublicClient
from polymarket.errors import RequestRejectedError

from backtest.venue.balances import CASH
from backtest.venue.contests import Contest
from backtest.venue.exchange import Pace
from backtest.venue.server import VenueServer
from backtest.venue.state import Window
from market.clock import ScaledClock, WallClock
from market.errors import NotReady
from market.polymarket.gamma import read_page
from market.rules import taker_delay
from market.types import UNIT
from tests.integration.test_chain import done
from tests.integration.test_venue import collected
from tests.integration.test_venue_routes import SIGNER, Caller
from tests.servers import until
from tests.venue import PLAY, QUICK, Flat, address_of, environment, loopback, official, open_market, told
from tools.polymarket import chain, contracts
from tools.polymarket.chain import Call, approve, approve_shares, open_chain, redeem
from tools.polymarket.typed import VenueOrder

CONTEST = Contest(7, seconds=600)


def running(server: VenueServer) -> list[Window]:
    """Markets of the event that is open now, in order."""
    now = server.state.now()
    return [w for w in server.state.windows.values() if w.tape.place and w.market.opens_at <= now < w.market.closes_at]


def test_an_event_is_listed_with_its_markets_as_the_official_client_reads_them() -> None:
    async def scenario() -> None:
        async with loopback(series=[Flat(), CONTEST], pace=QUICK) as (server, base), official(base) as client:
            windows = running(server)
            places = [w.tape.place for w in windows if w.tape.place]
            assert [p.answer for p in places] == list(CONTEST.answers)
            event = await client.get_event(slug=places[0].slug)
            assert [m.question for m in event.markets] == [w.market.question for w in windows]
            assert event.trading.neg_risk and event.trading.neg_risk_market_id == places[0].market_id
            listed = [e for e in await collected(client.list_events(closed=False)) if e.slug == places[0].slug]
            assert [m.condition_id for m in listed[0].markets] == [w.market.id for w in windows]
            async with aiohttp.ClientSession() as session:
                one = await (await session.get(f"{base}/markets/slug/{windows[2].market.slug}")).json()
                page = await (await session.get(f"{base}/markets/keyset")).read()
                no_event = await session.get(f"{base}/events/{windows[1].number}")
                flag = await (await session.get(f"{base}/neg-risk?token_id={windows[0].market.no_token}")).json()
            assert (one["negRisk"], one["groupItemTitle"], one["groupItemThreshold"]) == (True, "Katherine", "2")
            assert one["negRiskMarketID"][:-2] == one["questionID"][:-2] and one["questionID"].endswith("02")
            assert one["events"][0]["slug"] == event.slug and flag == {"neg_risk": True} and no_event.status == 404
            ours = {m.market.id: m.market for m in read_page(page).listed}
            assert [ours[w.market.id].neg_risk for w in windows] == [True] * 4
            assert not all(m.neg_risk for m in ours.values()), "the windows beside it are no such event"

    asyncio.run(scenario())


@pytest.mark.parametrize("signature_type", [0, 3])
def test_the_official_client_trades_every_answer(signature_type: int) -> None:
    async def scenario() -> None:
        async with (
            loopback(series=[CONTEST], pace=QUICK) as (server, base),
            official(base, signature_type) as client,
        ):
            spent = Decimal(0)
            for window in running(server):
                ask = (await client.get_order_book(token_id=window.market.no_token)).asks[-1].price
                bought = await client.place_limit_order(
                    token_id=window.market.no_token, price=ask, size=Decimal(5), side="BUY"
                )
                assert bought.status == "matched", "nothing delays takers outside of crypto markets"
                spent += ask * 5
            await until(lambda: all(t.status == "CONFIRMED" for t in server.state.exchange.trades.values()))
            rows = await collected(client.list_activity(user=address_of(signature_type)))
            assert sum(r.amount for r in rows) == spent and len(rows) == 4
            assert {r.event_slug for r in rows} == {p.slug for w in running(server) if (p := w.tape.place)}
            assert {r.outcome for r in rows} == {"No"}

    asyncio.run(scenario())


@pytest.mark.parametrize("neg_risk", [True, False])
def test_an_order_signed_for_the_other_exchange_has_an_invalid_signature(neg_risk: bool) -> None:
    async def scenario() -> None:
        async with loopback(series=[Flat(), CONTEST], pace=QUICK) as (server, base), aiohttp.ClientSession() as session:
            caller = Caller(base, session)
            await caller.enrol()
            market = next(w.market for w in server.state.windows.values() if w.market.neg_risk is neg_risk)
            for signed_for, status in ((not neg_risk, 400), (neg_risk, 200)):
                said = await _posted(caller, market.yes_token, signed_for)
                assert said[0] == status, said
                assert status == 200 or said[1] == {"error": "invalid signature"}

    asyncio.run(scenario())


async def _posted(caller: Caller, token: str, neg_risk: bool) -> tuple[int, Any]:
    """Answer to an order that rests, signed for one of the two exchanges."""
    order = VenueOrder(
        salt=5,
        maker=SIGNER.address,
        signer=SIGNER.address,
        token_id=int(token),
        maker_amount=50_000,
        taker_amount=5_000_000,
        side=0,
        signature_type=0,
        timestamp=int(WallClock().now().timestamp() * 1000),
    )
    signed = SIGNER.order(order, neg_risk=neg_risk)
    wire = {
        "salt": order.salt, "maker": order.maker, "signer": order.signer, "tokenId": token, "makerAmount": "50000",
        "takerAmount": "5000000", "side": "BUY", "expiration": "0", "signatureType": 0,
        "timestamp": str(order.timestamp), "metadata": "0x" + "00" * 32, "builder": "0x" + "00" * 32,
        "signature": "0x" + signed.signature.hex(),
    }  # fmt: skip
    assert caller.credentials is not None
    body = json.dumps({"order": wire, "owner": caller.credentials.key, "orderType": "GTC"}).encode()
    status, said = await caller.ask("POST", "/order", None, body)
    return status, json.loads(said)


def test_orders_need_the_approvals_of_the_negative_risk_contracts() -> None:
    async def scenario() -> None:
        clock, series = ScaledClock(datetime.now(UTC), 3), (Flat(seconds=3600), Contest(7, seconds=3600, step=30))
        async with (
            loopback(series=series, clock=clock, pace=QUICK, faucet=None) as (server, base),
            official(base) as client,
            open_chain(base, SIGNER.address, clock, wallet=SIGNER.address) as wallet,
        ):
            server.state.purse(address_of(0)).put(CASH, PLAY)
            market = running(server)[0].market
            # Signed and sent by itself: in one call the client would give the missing approvals of its own accord.
            order = {"token_id": market.yes_token, "price": Decimal("0.01"), "size": Decimal(5), "side": "BUY"}
            signed = await client.create_limit_order(**order)
            for call in (approve(contracts.EXCHANGE, PLAY), approve_shares(contracts.EXCHANGE, True)):
                await done(wallet, call)
            with pytest.raises(RequestRejectedError, match="not enough balance / allowance"):
                await client.post_order(signed)
            needed = (contracts.NEG_RISK_EXCHANGE, contracts.NEG_RISK_COLLATERAL_ADAPTER)
            for one in needed:
                assert _allowances(await client.get_balance_allowance(asset_type="COLLATERAL"))[one.lower()] == 0
                await done(wallet, approve(one, PLAY))
                with pytest.raises(RequestRejectedError, match="not enough balance / allowance"):
                    await client.post_order(signed)
            await done(wallet, approve_shares(needed[0], True))
            await done(wallet, approve_shares(needed[1], True))
            assert (await client.post_order(signed)).ok
            dollars = _allowances(await client.get_balance_allowance(asset_type="COLLATERAL"))
            assert {dollars[one.lower()] for one in (*needed, contracts.EXCHANGE)} == {PLAY}
            await done(wallet, approve_shares(needed[0], False))
            signed = await client.create_limit_order(**order)
            with pytest.raises(RequestRejectedError, match="not enough balance / allowance"):
                await client.post_order(signed)

    asyncio.run(scenario())


def _allowances(answer: Any) -> dict[str, int]:
    return {name.lower(): amount for name, amount in answer.allowances.items()}


def test_one_answer_wins_and_its_shares_are_redeemed_through_the_adapter() -> None:
    async def scenario() -> None:
        clock = ScaledClock(datetime.now(UTC), 50)
        pace = Pace(resolving=timedelta(seconds=2), paying=None)
        async with (
            loopback(series=[Contest(7, seconds=60)], clock=clock, pace=pace) as (server, base),
            open_chain(base, SIGNER.address, clock, wallet=SIGNER.address) as wallet,
        ):
            windows, purse = running(server), server.state.purse(address_of(0))
            for window in windows:
                purse.put(window.market.yes_token, 3 * UNIT)
                purse.put(window.market.no_token, 2 * UNIT)
            await until(lambda: all(server.state.hall(w.market).resolved for w in windows), 20)
            assert sum(w.tape.payout for w in windows) == 1
            for window in windows:
                # Through the ordinary adapter the transaction succeeds and pays nothing.
                before = purse.has(CASH)
                assert (await done(wallet, redeem(window.market.id))).status == "ok"
                assert purse.has(CASH) == before and purse.has(window.market.yes_token) == 3 * UNIT
                assert (await done(wallet, redeem(window.market.id, neg_risk=True))).status == "ok"
                assert purse.has(CASH) == before + (3 if window.tape.payout else 2) * UNIT
            assert purse.held == {CASH: PLAY + (3 + 3 * 2) * UNIT}
            await told(base, f"/venue/markets/{windows[0].market.id}", status=400, payout="0.5")

    asyncio.run(scenario())


@pytest.mark.parametrize("neg_risk", [False, True])
def test_sets_are_split_and_merged_through_the_adapter_of_their_kind(neg_risk: bool) -> None:
    async def scenario() -> None:
        clock = ScaledClock(datetime.now(UTC), 50)
        series = Contest(7, seconds=3600, step=30) if neg_risk else Flat(seconds=3600)
        async with (
            loopback(series=[series], clock=clock, pace=QUICK) as (server, base),
            open_chain(base, SIGNER.address, clock, wallet=SIGNER.address) as wallet,
        ):
            market = next(iter(server.state.windows.values())).market
            own, other = contracts.NEG_RISK_COLLATERAL_ADAPTER, contracts.COLLATERAL_ADAPTER
            own, other = (own, other) if neg_risk else (other, own)
            purse = server.state.purse(address_of(0))
            assert (await done(wallet, _sets("splitPosition", own, market.id, 7 * UNIT))).ok
            assert purse.held == {CASH: PLAY - 7 * UNIT, market.yes_token: 7 * UNIT, market.no_token: 7 * UNIT}
            assert (await done(wallet, _sets("mergePositions", own, market.id, 3 * UNIT))).ok
            assert purse.held == {CASH: PLAY - 4 * UNIT, market.yes_token: 4 * UNIT, market.no_token: 4 * UNIT}
            for call, why in (
                (_sets("splitPosition", own, market.id, PLAY), "exceeds balance"),
                (_sets("mergePositions", own, market.id, 5 * UNIT), "insufficient balance"),
                (_sets("splitPosition", other, market.id, UNIT), "not a condition of this adapter"),
                (_sets("splitPosition", own, "0x" + "77" * 32, UNIT), "not prepared"),
            ):
                with pytest.raises(NotReady, match=why):
                    await wallet.send(call, SIGNER)
            async with AsyncPublicClient(environment=environment(base)) as client:
                rows = await collected(client.list_activity(user=address_of(0), sort_direction="ASC"))
            assert [(r.type, r.amount, r.condition_id) for r in rows] == [
                ("SPLIT", 7, market.id),
                ("MERGE", 3, market.id),
            ]

    asyncio.run(scenario())


def _sets(name: str, adapter: str, market_id: str, amount: int) -> Call:
    data = chain.packed(
        f"{name}(address,bytes32,bytes32,uint256[],uint256)",
        contracts.COLLATERAL,
        bytes(32),
        bytes.fromhex(market_id.removeprefix("0x")),
        [1, 2],
        amount,
    )
    return Call(adapter, data, f"{name} of {amount}")


def test_the_official_client_splits_merges_and_redeems_sets() -> None:
    async def scenario() -> None:
        clock, pace = ScaledClock(datetime.now(UTC), 4), Pace(resolving=timedelta(seconds=1))
        contest = Contest(7, seconds=40)
        async with loopback(series=[contest], clock=clock, pace=pace) as (server, base), official(base) as client:
            # The event that opens next: it is listed, and there is time enough.
            market = [w.market for w in server.state.windows.values() if w.tape.begins <= server.state.now()][-1]
            purse = server.state.purse(address_of(0))
            await (await client.split_position(condition_id=market.id, amount=7 * UNIT)).wait()
            assert purse.held == {CASH: PLAY - 7 * UNIT, market.yes_token: 7 * UNIT, market.no_token: 7 * UNIT}
            await (await client.merge_positions(condition_id=market.id, amount=2 * UNIT)).wait()
            assert purse.held == {CASH: PLAY - 5 * UNIT, market.yes_token: 5 * UNIT, market.no_token: 5 * UNIT}
            await until(lambda: server.state.hall(market).resolved)
            handle = await client.redeem_positions(condition_id=market.id)
            known_as = (await handle.wait()).transaction_hash
            assert purse.held == {CASH: PLAY}, "a whole set is worth what it cost, whoever won"
            rows = await collected(client.list_activity(user=address_of(0), sort_direction="ASC"))
            assert [(r.type, r.amount) for r in rows[:2]] == [("SPLIT", 7), ("MERGE", 2)]
            assert sorted((r.type, r.amount) for r in rows[2:]) == [("REDEEM", 0), ("REDEEM", 5)]
            assert {r.transaction_hash for r in rows[2:]} == {known_as}

    asyncio.run(scenario())


def test_shares_that_are_merged_are_not_sold_any_more() -> None:
    async def scenario() -> None:
        async with loopback(series=[Flat(seconds=3600)], pace=QUICK) as (server, base), official(base) as client:
            market, purse = open_market(server), server.state.purse(address_of(0))
            for token in (market.yes_token, market.no_token):
                purse.put(token, 10 * UNIT)
            rests = [
                await client.place_limit_order(token_id=t, price=Decimal("0.90"), size=Decimal(10), side="SELL")
                for t in (market.yes_token, market.no_token)
            ]
            assert server.state.exchange.merge(address_of(0), market.id, 10 * UNIT, "0x" + "00" * 32)
            assert not server.state.exchange.merge(address_of(0), market.id, UNIT, "0x" + "00" * 32)
            found = [server.state.exchange.orders[r.order_id].status for r in rests]
            assert found == ["CANCELED_NOT_ENOUGH_BALANCE"] * 2
            assert purse.held == {CASH: PLAY + 10 * UNIT}

    asyncio.run(scenario())


def test_the_official_client_reads_shares_of_such_markets_through_the_older_adapter() -> None:
    async def scenario() -> None:
        async with (
            loopback(series=[CONTEST], pace=QUICK) as (server, base),
            open_chain(base, SIGNER.address, WallClock(), wallet=SIGNER.address) as wallet,
        ):
            market = running(server)[0].market
            server.state.purse(address_of(0)).put(market.yes_token, 5)
            data = chain.packed("balanceOf(address,uint256)", SIGNER.address, int(market.yes_token))
            async with aiohttp.ClientSession() as session:
                call = {"to": "0xd91E80cF2E7be2e162c6513ceD06f1dD0dA35296", "data": "0x" + data.hex()}
                asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "latest"]}
                answer = await (await session.post(base, json=asked)).json()
            assert int(answer["result"], 16) == 5
            assert await wallet.positions([market.yes_token]) == {market.yes_token: 5}

    asyncio.run(scenario())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(0, 10**5))
def test_every_event_has_one_winner_and_odds_that_add_up(seed: int, answers: int, number: int) -> None:
    opens_at = datetime(2026, 9, 28, tzinfo=UTC) + number * timedelta(seconds=30)
    contest = Contest(seed, tuple(f"Answer {n}" for n in range(answers)), seconds=30)
    tapes = contest.tapes(opens_at)
    assert tapes == contest.tapes(opens_at), "the same seed makes the same event"
    assert sorted(t.payout for t in tapes) == [0] * (answers - 1) + [1]
    places = [t.place for t in tapes if t.place]
    assert [int(p.question_id[-2:], 16) for p in places] == list(range(answers))
    assert len({p.market_id for p in places}) == 1 and places[0].market_id.endswith("00")
    assert len({t for one in tapes for t in (one.market.id, one.market.yes_token, one.market.no_token)}) == 3 * answers
    for books in zip(*(t.books for t in tapes), strict=True):
        assert not any(b.crossed for b in books)
        # All answers bought at once cost at least a dollar, and sold bring no more.
        asks, bids = ([side[0].price for b in books if (side := getattr(b, name))] for name in ("asks", "bids"))
        assert len(asks) < answers or sum(asks) >= 1
        assert sum(bids) <= 1
    assert taker_delay(tapes[0].market, opens_at) == timedelta(0)
