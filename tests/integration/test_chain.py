"""The wallet over a node, and the loopback venue's node under it: what the chain says is what the venue says."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web

pytest.importorskip("web3", reason="the extra `live` is not installed")
pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from polymarket.errors import RequestRejectedError

from backtest.venue.balances import CASH
from backtest.venue.faults import Fault
from backtest.venue.rpc import LoopbackChain
from backtest.venue.server import VenueServer
from backtest.venue.state import VenueState
from market.clock import ScaledClock, WallClock
from market.errors import Misconfigured, NotReady, VenueUnavailable
from market.types import UNIT, Market
from tests.servers import free_port, until
from tests.venue import KEY, OTHER_KEY, PLAY, QUICK, Flat, address_of, command, loopback, official, open_market
from tools.polymarket import chain, contracts
from tools.polymarket.chain import (
    Call,
    Ceiling,
    ChainWallet,
    Transaction,
    approve,
    approve_shares,
    open_chain,
    redeem,
)
from tools.polymarket.signing import Signer
from tools.polymarket.typed import keccak
from tools.wallet import KINDS, Receipt, advice

SIGNER, STRANGER = Signer.of_hex(KEY), Signer.of_hex(OTHER_KEY)
EOA = SIGNER.address
CANARY = "c0ffee5eedc0ffee5eed"


@asynccontextmanager
async def quick(*, speed: float = 50.0, **how: Any) -> AsyncIterator[tuple[VenueServer, str, ChainWallet]]:
    """A venue whose time runs fast, and the plain account of our key there."""
    clock = ScaledClock(datetime.now(UTC), speed)
    async with (
        loopback(clock=clock, pace=QUICK, **how) as (server, base),
        open_chain(base, EOA, clock, wallet=EOA) as wallet,
    ):
        yield server, base, wallet


async def asked(base: str, body: Any) -> Any:
    """Raw answer of the node."""
    async with aiohttp.ClientSession() as session:
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with session.post(base, **sent) as answer:
            return await answer.json()


async def said(base: str, method: str, *params: Any) -> Any:
    answer = await asked(base, {"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
    assert answer["jsonrpc"] == "2.0" and answer["id"] == 7
    return answer["result"] if "result" in answer else answer["error"]


async def done(wallet: ChainWallet, call: Call) -> Receipt:
    known_as = await wallet.send(call, SIGNER)
    return await wallet.settled(known_as, wallet._clock.now() + timedelta(seconds=60))


# -- reads


@pytest.mark.parametrize("signature_type", [0, 1, 2, 3])
def test_the_chain_and_the_venue_say_the_same_of_every_kind_of_wallet(signature_type: int) -> None:
    async def scenario() -> None:
        async with loopback(pace=QUICK) as (server, base), official(base, signature_type) as client:
            market, own = open_market(server), address_of(signature_type)
            async with open_chain(base, EOA, WallClock(), wallet=own) as wallet:
                await _same(wallet, client, market)
                await client.place_limit_order(
                    token_id=market.yes_token, price=Decimal("0.51"), size=Decimal(10), side="BUY"
                )
                await _same(wallet, client, market)
                await until(lambda: all(t.status == "CONFIRMED" for t in server.state.exchange.trades.values()))
                await _same(wallet, client, market)
                status = await wallet.status()
                assert status.balance == server.state.exchange.purses[own].chain(CASH) < PLAY
                assert await wallet.positions([market.no_token, market.yes_token]) == {
                    market.no_token: 0,
                    market.yes_token: 10 * UNIT,
                }
                assert (status.kind, status.signature_type) == (KINDS[signature_type], signature_type)
                assert (status.address, status.funder.lower(), status.chain_id) == (EOA, own, 137)
                assert status.missing == () and advice(status) == ()
                assert abs(status.block_at - server.state.now()) <= timedelta(seconds=3)

    asyncio.run(scenario())


async def _same(wallet: chain.ChainWallet, client: Any, market: Market) -> None:
    """Compare every figure that both can be asked for, once nothing was mined between the questions."""

    async def ours_now() -> tuple[Any, Any]:
        return await wallet.status(), await wallet.positions([market.yes_token])

    while True:
        status, held = await ours_now()
        cash = await client.get_balance_allowance(asset_type="COLLATERAL")
        shares = await client.get_balance_allowance(asset_type="CONDITIONAL", token_id=market.yes_token)
        later, held_later = await ours_now()
        if (later.balance, held_later) == (status.balance, held):
            break
    assert (status.balance, held[market.yes_token]) == (cash.balance, shares.balance)
    allowed = {address.lower(): int(amount) for address, amount in cash.allowances.items()}
    ours = {chain.SPENDERS[name].lower(): amount for name, amount in status.allowances.items()}
    assert len(allowed) == 4 and all(ours[address] == amount for address, amount in allowed.items())


def test_a_settled_trade_has_a_receipt_and_others_have_none() -> None:
    async def scenario() -> None:
        async with loopback(pace=QUICK) as (server, base), official(base) as client:
            market = open_market(server)
            await client.place_limit_order(
                token_id=market.yes_token, price=Decimal("0.51"), size=Decimal(10), side="BUY"
            )
            await until(lambda: all(t.transaction for t in server.state.exchange.trades.values()))
            (trade,) = server.state.exchange.trades.values()
            async with open_chain(base, EOA, WallClock()) as wallet:
                found = await wallet.receipt(trade.transaction)
                assert found is not None and found.ok and found.gas_used > 21_000
                assert abs(found.block - (await wallet.status()).block) <= 5
                assert await wallet.receipt("0x" + "ab" * 32) is None
                with pytest.raises(Misconfigured):
                    await wallet.receipt("0x12")

    asyncio.run(scenario())


def test_a_trade_that_failed_to_settle_has_no_receipt() -> None:
    async def scenario() -> None:
        async with loopback(pace=QUICK) as (server, base), official(base) as client:
            await command(base, Fault.SETTLEMENT_FAILS)
            market = open_market(server)
            await client.place_limit_order(
                token_id=market.yes_token, price=Decimal("0.51"), size=Decimal(10), side="BUY"
            )
            await until(lambda: all(t.status == "FAILED" for t in server.state.exchange.trades.values()))
            async with open_chain(base, EOA, WallClock(), wallet=EOA) as wallet:
                assert (await wallet.status()).balance == PLAY
                assert await wallet.positions([market.yes_token]) == {market.yes_token: 0}
            assert server.chain._mined == {}

    asyncio.run(scenario())


def test_many_positions_are_asked_for_in_parts_and_answered_in_order() -> None:
    async def scenario() -> None:
        async with quick() as (server, _, wallet):
            tokens = [str((1 << 200) + (1 << 64) + n) for n in range(250)]
            for n, token in enumerate(tokens):
                server.state.purse(EOA.lower()).put(token, n)
            held = await wallet.positions(tokens)
            assert list(held.items()) == [(token, n) for n, token in enumerate(tokens)]
            assert await wallet.positions([]) == {}
            with pytest.raises(Misconfigured):
                await wallet.positions([str(1 << 248)])

    asyncio.run(scenario())


def test_blocks_cannot_be_read_without_the_middleware_for_their_long_extra_data() -> None:
    from web3.exceptions import ExtraDataLengthError
    from web3.middleware import ExtraDataToPOAMiddleware

    async def scenario() -> None:
        async with loopback() as (_, base), aiohttp.ClientSession(raise_for_status=True) as session:
            web3 = chain._web3(base, session)
            block = await web3.eth.get_block("latest")
            assert len(block["proofOfAuthorityData"]) >= 97
            assert (await web3.eth.get_block(block["hash"]))["number"] == block["number"]
            web3.middleware_onion.remove(ExtraDataToPOAMiddleware)
            for which in ("latest", block["hash"]):
                with pytest.raises(ExtraDataLengthError):
                    await web3.eth.get_block(which)

    asyncio.run(scenario())


# -- transactions


def test_a_new_account_is_set_up_by_two_bounded_approvals_and_then_trades() -> None:
    async def scenario() -> None:
        async with loopback(pace=QUICK, faucet=None) as (server, base), official(base) as client:
            clock, market = server.state.clock, open_market(server)
            server.state.purse(EOA.lower()).put(CASH, PLAY)
            order = {"token_id": market.yes_token, "price": Decimal("0.51"), "size": Decimal(10), "side": "BUY"}
            async with open_chain(base, EOA, clock, wallet=EOA) as wallet:
                before = await wallet.status()
                assert len(before.missing) == 2 == len(advice(before))
                assert not any(before.allowances.values()) and not any(before.approvals.values())
                signed = await client.create_limit_order(**order)
                with pytest.raises(RequestRejectedError, match="allowance is not enough"):
                    await client.post_order(signed)
                first = await done(wallet, approve(contracts.EXCHANGE, 25 * UNIT))
                between = await wallet.status()
                assert len(between.missing) == 1 and between.allowances["exchange"] == 25 * UNIT
                second = await done(wallet, approve_shares(contracts.EXCHANGE, True))
                after = await wallet.status()
                assert (first.status, second.status) == ("ok", "ok") and first.block < second.block <= after.block
                assert after.missing == () and "may take only 25.000000" in advice(after)[0]
                assert [n for n, amount in after.allowances.items() if amount] == ["exchange"], "and nobody else"
                assert [n for n, there in after.approvals.items() if there] == ["exchange"]
                assert before.gas - after.gas == (first.gas_used + second.gas_used) * 55 * 10**9
                assert (await client.place_limit_order(**order)).ok
                await done(wallet, approve(contracts.EXCHANGE, 0))
                assert len((await wallet.status()).missing) == 1
                assert EOA.lower() not in server.state.approved

    asyncio.run(scenario())


def test_the_official_clients_own_approvals_are_carried_out_too() -> None:
    async def scenario() -> None:
        async with loopback(pace=QUICK, faucet=None) as (_, base), official(base) as client:
            handle = await client.approve_erc20(
                token_address=contracts.COLLATERAL, spender_address=contracts.EXCHANGE, amount=7 * UNIT
            )
            await handle.wait()
            async with open_chain(base, EOA, WallClock(), wallet=EOA) as wallet:
                assert (await wallet.status()).allowances["exchange"] == 7 * UNIT

    asyncio.run(scenario())


def test_winnings_are_redeemed_once_the_market_is_resolved_and_not_before() -> None:
    async def scenario() -> None:
        async with quick(series=[Flat(seconds=60)], speed=20) as (server, _, wallet):
            market, purse = open_market(server), server.state.purse(EOA.lower())
            purse.put(market.yes_token, 10 * UNIT)
            purse.put(market.no_token, 3 * UNIT)
            with pytest.raises(NotReady, match="result for condition not received yet"):
                await wallet.send(redeem(market.id), SIGNER)
            await until(lambda: server.state.hall(market).resolved)
            receipt = await done(wallet, redeem(market.id))
            assert receipt.ok and (await wallet.status()).balance == PLAY + 10 * UNIT
            assert set((await wallet.positions([market.yes_token, market.no_token])).values()) == {0}
            assert purse.has(CASH) == PLAY + 10 * UNIT

    asyncio.run(scenario())


def test_what_the_contract_refuses_is_found_out_before_it_is_paid_for() -> None:
    async def scenario() -> None:
        async with quick(series=[Flat(seconds=60)], speed=20, faucet=None) as (server, _, wallet):
            market = open_market(server)
            await until(lambda: server.state.hall(market).resolved)
            for neg_risk in (False, True):
                with pytest.raises(NotReady, match="need operator approval"):
                    await wallet.send(redeem(market.id, neg_risk=neg_risk), SIGNER)
            elsewhere = replace(redeem(market.id), target=contracts.CONDITIONAL_TOKENS)
            with pytest.raises(NotReady, match="no such function"):
                await wallet.send(elsewhere, SIGNER)
            assert (await wallet.status()).gas == 10 * 10**18

    asyncio.run(scenario())


def test_a_transaction_that_is_reverted_says_so_and_costs_gas() -> None:
    async def scenario() -> None:
        async with quick() as (server, base, wallet):
            market = open_market(server)
            raw = Transaction(0, 25 * 10**9, 90 * 10**9, 200_000, redeem(market.id)).signed(SIGNER)
            known_as = await said(base, "eth_sendRawTransaction", "0x" + raw.hex())
            assert known_as == "0x" + keccak(raw).hex()
            receipt = await wallet.settled(known_as, server.state.now() + timedelta(seconds=60))
            assert not receipt.ok and receipt.status == "reverted"
            assert (await wallet.status()).gas == 10 * 10**18 - receipt.gas_used * 55 * 10**9

    asyncio.run(scenario())


def test_one_that_runs_out_of_gas_does_nothing() -> None:
    async def scenario() -> None:
        async with quick(faucet=None) as (server, base, wallet):
            call = approve(contracts.EXCHANGE, 5)
            raw = Transaction(0, 25 * 10**9, 90 * 10**9, 21_000, call).signed(SIGNER)
            known_as = await said(base, "eth_sendRawTransaction", "0x" + raw.hex())
            receipt = await wallet.settled(known_as, server.state.now() + timedelta(seconds=60))
            assert not receipt.ok and receipt.gas_used == 21_000
            assert (await wallet.status()).allowances["exchange"] == 0

    asyncio.run(scenario())


def test_nothing_is_sent_over_the_ceiling_with_another_key_or_from_another_kind_of_wallet() -> None:
    async def scenario() -> None:
        async with quick() as (server, base, wallet):
            call = approve(contracts.EXCHANGE, 5 * UNIT)
            for ceiling in (Ceiling(gas=50_000), Ceiling(wei=10**15)):
                with pytest.raises(Misconfigured, match="are allowed"):
                    await wallet.send(call, SIGNER, ceiling)
            with pytest.raises(Misconfigured, match="The key is of"):
                await wallet.send(call, STRANGER)
            async with open_chain(base, EOA, server.state.clock) as deposit:
                with pytest.raises(Misconfigured, match="cannot send a transaction by itself"):
                    await deposit.send(call, SIGNER)
            with pytest.raises(Misconfigured, match="is not a wallet of the key"):
                async with open_chain(base, EOA, server.state.clock, wallet=STRANGER.address):
                    pass
            assert await said(base, "eth_getTransactionCount", EOA, "pending") == "0x0"

    asyncio.run(scenario())


def test_an_account_without_gas_money_is_told_how_much_it_needs() -> None:
    async def scenario() -> None:
        async with _node(fuel=10**14) as (base, _), open_chain(base, EOA, WallClock(), wallet=EOA) as wallet:
            with pytest.raises(NotReady, match=r"has 0\.000100 POL and may need 0\.0"):
                await wallet.send(approve(contracts.EXCHANGE, 5 * UNIT), SIGNER)
            raw = Transaction(0, 25 * 10**9, 90 * 10**9, 60_000, approve(contracts.EXCHANGE, 5)).signed(SIGNER)
            refusal = await said(base, "eth_sendRawTransaction", "0x" + raw.hex())
            assert "insufficient funds" in refusal["message"]

    asyncio.run(scenario())


def test_a_transaction_that_is_in_no_block_by_the_deadline_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with quick() as (server, _, wallet):
            deadline = server.state.now() + timedelta(seconds=10)
            with pytest.raises(VenueUnavailable, match="in no block yet") as raised:
                await wallet.settled("0x" + "ab" * 32, deadline)
            assert "before anything is sent again" in raised.value.next_step
            assert server.state.now() >= deadline

    asyncio.run(scenario())


def test_a_lost_answer_to_a_transaction_names_it_so_that_it_is_not_sent_twice() -> None:
    async def scenario() -> None:
        async with _node(loses="eth_sendRawTransaction") as (base, node):  # noqa: SIM117
            async with open_chain(base, EOA, WallClock(), wallet=EOA) as wallet:
                with pytest.raises(VenueUnavailable, match="Whether the chain took") as raised:
                    await wallet.send(approve(contracts.EXCHANGE, 5 * UNIT), SIGNER)
                (named,) = [word for word in str(raised.value).split() if len(word) == 66]
                receipt = await wallet.settled(named, WallClock().now() + timedelta(seconds=10))
                assert receipt.ok and (await wallet.status()).allowances["exchange"] == 5 * UNIT
                assert node.allowance(EOA.lower(), contracts.EXCHANGE.lower()) == 5 * UNIT

    asyncio.run(scenario())


@asynccontextmanager
async def _node(
    *, fuel: int = 10**19, loses: str = "", answers: Callable[[bytes], Any] | None = None
) -> AsyncIterator[tuple[str, LoopbackChain]]:
    """The venue's node alone: with little gas money, or cutting off after one method, or answering what it is told."""
    node = LoopbackChain(VenueState(WallClock(), []), fuel=fuel)

    async def answer(request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if answers is not None and (own := answers(raw)) is not None:
            return own if isinstance(own, web.Response) else web.json_response(own)
        made = await node.answer(request)
        if loses and loses.encode() in raw and request.transport is not None:
            request.transport.abort()
        return made

    app = web.Application()
    app.add_routes([web.post("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
        yield f"http://127.0.0.1:{port}", node
    finally:
        await runner.cleanup()


# -- nodes that are wrong, gone, or lie


def test_a_node_of_another_chain_is_refused_unless_told() -> None:
    async def scenario() -> None:
        async with _node(answers=lambda raw: _result("0x13882") if b"eth_chainId" in raw else None) as (base, _):
            with pytest.raises(Misconfigured, match="is of chain 80002, not of 137"):
                async with open_chain(base, EOA, WallClock()):
                    pass
            async with open_chain(base, EOA, WallClock(), chain_id=80002) as wallet:
                assert (await wallet.status()).chain_id == 80002

    asyncio.run(scenario())


def _result(result: Any) -> Mapping[str, Any]:
    return {"jsonrpc": "2.0", "id": 0, "result": result}


def _shows_nothing(error: Exception) -> None:
    assert CANARY not in "".join(traceback.format_exception(error)) + repr(error)


_LIES: list[tuple[str, Any]] = [
    ("eth_call", _result("0x")),
    ("eth_call", _result("0x01")),
    ("eth_call", _result(None)),
    ("eth_call", _result({"a": CANARY})),
    ("eth_call", {"jsonrpc": "2.0", "id": 0}),
    ("eth_call", {"jsonrpc": "2.0", "id": 0, "error": {"code": -32000, "message": CANARY}}),
    ("eth_call", {"jsonrpc": "2.0", "id": 0, "error": CANARY}),
    ("eth_call", [1, 2]),
    ("eth_call", CANARY),
    ("eth_getBalance", _result("many")),
    ("eth_getBalance", _result(None)),
    ("eth_getBlockByNumber", _result(None)),
    ("eth_getBlockByNumber", _result({})),
    ("eth_getBlockByNumber", _result({"number": "0x1"})),
    ("eth_getBlockByNumber", _result("0x1")),
]


@pytest.mark.parametrize(("method", "lie"), _LIES)
def test_answers_that_cannot_be_used_are_refused_and_not_repeated(method: str, lie: Any) -> None:
    async def scenario() -> None:
        async with (
            _node(answers=lambda raw: lie if method.encode() in raw else None) as (base, _),
            open_chain(base, EOA, WallClock()) as wallet,
        ):
            with pytest.raises((VenueUnavailable, NotReady)) as raised:
                await wallet.status()
            if not isinstance(raised.value, NotReady):
                assert CANARY not in str(raised.value)

    asyncio.run(scenario())


@pytest.mark.parametrize("raw", [b"", b"<html>", b"{", b"\xff\xfe", b"null", b'"x"'])
def test_what_is_no_json_rpc_is_refused(raw: bytes) -> None:
    async def scenario() -> None:
        async with _node(answers=lambda _: web.Response(body=raw)) as (base, _):
            with pytest.raises(VenueUnavailable, match="cannot be used"):
                async with open_chain(base, EOA, WallClock()):
                    pass

    asyncio.run(scenario())


@pytest.mark.parametrize("form", ["http://user:{c}@127.0.0.1:{p}/", "{b}/v2/{c}", "{b}/?key={c}"])
@pytest.mark.parametrize("broken", [False, True])
def test_a_nodes_address_shows_its_credentials_nowhere(
    form: str, broken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)

    async def scenario() -> None:
        async with _node(answers=lambda raw: web.Response(status=500) if broken else None) as (base, _):
            url = form.format(c=CANARY, b=base, p=base.rpartition(":")[2])
            try:
                async with open_chain(url, EOA, WallClock()) as wallet:
                    assert CANARY not in repr(wallet)
                    assert (await wallet.status()).chain_id == 137
                    assert not broken
            except VenueUnavailable as error:
                assert broken
                _shows_nothing(error)

    asyncio.run(scenario())
    assert CANARY not in caplog.text


def test_a_node_that_is_silent_or_gone_is_unavailable() -> None:
    async def scenario() -> None:
        async with _node(answers=lambda raw: None) as (base, _):
            gone = f"http://127.0.0.1:{free_port()}"
            with pytest.raises(VenueUnavailable, match="did not answer"):
                async with open_chain(gone, EOA, WallClock()):
                    pass
            async with _silent() as silent:
                with pytest.raises(VenueUnavailable, match=r"did not answer \(.*Timeout.*\)"):
                    async with open_chain(silent, EOA, WallClock(), timeout=0.2):
                        pass
            async with open_chain(base, EOA, WallClock()) as wallet:
                assert (await wallet.status()).chain_id == 137

    asyncio.run(scenario())


@asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_the_venue_when_it_is_broken_is_unavailable_and_then_answers_again() -> None:
    async def scenario() -> None:
        async with quick() as (_, base, wallet):
            await command(base, Fault.SERVER_ERROR)
            with pytest.raises(VenueUnavailable):
                await wallet.status()
            assert (await wallet.status()).chain_id == 137

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "url", ["", "node", "ftp://127.0.0.1", "http://", f"http://user:{CANARY}@[::1", "http://h:99999"]
)
def test_what_is_no_address_of_a_node_is_refused_without_being_repeated(url: str) -> None:
    async def scenario() -> None:
        with pytest.raises(Misconfigured, match="is not a URL") as raised:
            async with open_chain(url, EOA, WallClock()):
                pass
        _shows_nothing(raised.value)

    asyncio.run(scenario())


# -- the node by itself


def test_requests_go_in_batches_and_each_gets_its_own_answer() -> None:
    async def scenario() -> None:
        async with loopback() as (_, base):
            ask = {"jsonrpc": "2.0", "params": []}
            answers = await asked(
                base,
                [
                    ask | {"id": 1, "method": "eth_chainId"},
                    ask | {"id": "two", "method": "eth_mining"},
                    ask | {"id": 3, "method": "eth_getBalance"},
                    5,
                ],
            )
            assert answers[0] == {"jsonrpc": "2.0", "id": 1, "result": "0x89"}
            assert [a.get("error", {}).get("code") for a in answers] == [None, -32601, -32602, -32600]
            assert [a["id"] for a in answers] == [1, "two", 3, None]
            for body, code in ((b"{", -32700), ([], -32600), ([1] * 101, -32600), ({"id": 1}, -32600)):
                assert (await asked(base, body))["error"]["code"] == code

    asyncio.run(scenario())


def test_the_rest_of_the_node_answers_as_the_library_expects() -> None:
    async def scenario() -> None:
        async with loopback() as (_, base), aiohttp.ClientSession(raise_for_status=True) as session:
            web3 = chain._web3(base, session)
            tip, price = await web3.eth.max_priority_fee, await web3.eth.gas_price
            history = await web3.eth.fee_history(4, "latest", [50])
            assert history["baseFeePerGas"] == [price - tip] * 5 and history["reward"] == [[tip]] * 4
            number = await web3.eth.block_number
            earlier = await web3.eth.get_block(number - 1)
            later = await web3.eth.get_block(number)
            assert later["parentHash"] == earlier["hash"] and later["timestamp"] - earlier["timestamp"] == 2
            decimals = await said(
                base,
                "eth_call",
                {"to": contracts.COLLATERAL, "data": "0x" + chain.packed("decimals()").hex()},
                "latest",
            )
            assert int(decimals, 16) == 6
            one = chain.packed("balanceOf(address,uint256)", EOA.lower(), 1 << 200)
            shares = await said(
                base, "eth_call", {"to": contracts.CONDITIONAL_TOKENS, "data": "0x" + one.hex()}, "latest"
            )
            assert int(shares, 16) == 0
            assert await said(base, "eth_call", {"to": "0x" + "22" * 20, "data": "0x12345678"}, "latest") == "0x"
            assert (await said(base, "eth_getBalance", EOA, "0x1"))["code"] == -32000, "the past is not kept"
            assert await said(base, "eth_getBlockByNumber", hex(number + 10_000), False) is None
            assert await said(base, "eth_getBlockByHash", "0x" + "ab" * 32, False) is None

    asyncio.run(scenario())


def test_transactions_that_do_not_fit_are_refused() -> None:
    async def scenario() -> None:
        async with quick() as (_, base, _):
            right = Transaction(0, 25 * 10**9, 90 * 10**9, 60_000, approve(contracts.EXCHANGE, 5))
            for words, wrong in {
                "nonce too high": replace(right, nonce=1),
                "another chain": replace(right, chain_id=1),
                "underpriced": replace(right, most_fee=10**9),
                "insufficient funds": replace(right, most_fee=10**18),
            }.items():
                assert (
                    words in (await said(base, "eth_sendRawTransaction", "0x" + wrong.signed(SIGNER).hex()))["message"]
                )
            raw = "0x" + right.signed(SIGNER).hex()
            assert (await said(base, "eth_sendRawTransaction", raw)).startswith("0x")
            assert (await said(base, "eth_sendRawTransaction", raw))["message"] == "already known"
            again = replace(right, gas=61_000).signed(SIGNER)
            assert (await said(base, "eth_sendRawTransaction", "0x" + again.hex()))["message"] == "nonce too low"
            for garbage in ("0x", "0x02", "0x02c0", "0x" + "ff" * 40, raw[:-2]):
                assert (await said(base, "eth_sendRawTransaction", garbage))["code"] == -32000

    asyncio.run(scenario())
