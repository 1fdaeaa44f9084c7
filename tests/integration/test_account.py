"""The account verbs on the loopback venue: what chain and venue say, approvals, winnings, and one order that cannot
fill; by a plain account itself, and by a deposit wallet through the relayer."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("polymarket")
pytest.importorskip("web3")

from agent.config.load import load_config
from agent.live.livetest import LivetestStep
from agent.live.recovery import AccountHistory
from agent.live.wallet import OpenWallet, open_wallet
from backtest.venue.balances import CASH
from backtest.venue.contests import Contest
from backtest.venue.exchange import Pace
from backtest.venue.server import VenueServer
from market.clock import ScaledClock, WallClock
from market.errors import DataInvalid, Misconfigured, NotReady
from market.polymarket.feed import LiveFeed
from market.types import UNIT, Market, Order, OrderStatus, Outcome, Side, TimeInForce
from tests.venue import KEY, PLAY, QUICK, Flat, address_of, loopback, open_market, told
from tools.polymarket import chain
from tools.polymarket.chain import approve, approve_shares
from tools.polymarket.contracts import CONDITIONAL_TOKENS, EXCHANGE
from tools.polymarket.typed import DEPOSIT, EOA
from tools.polymarket.wallets import wallets_of


def key_file(home: Path) -> Path:
    path = home / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    return path


def relayer_file(home: Path, owner: str) -> Path:
    path = home / "relayer.json"
    path.write_text(json.dumps({"address": owner, "key": "a-relayer-key"}))
    path.chmod(0o600)
    return path


@asynccontextmanager
async def wallet(
    base: str, home: Path, kind: int, *, relayer: bool = True, slugs: Sequence[str] = ()
) -> AsyncIterator[OpenWallet]:
    own = address_of(EOA)
    asked: dict[str, Any] = {
        "venue.loopback": base,
        "venue.key_file": str(key_file(home)),
        "venue.wallet": address_of(kind),
        "venue.series": ["btc-15m"],
        "venue.slugs": list(slugs),
    }
    if relayer:
        asked["venue.relayer_key_file"] = str(relayer_file(home, own))
    async with open_wallet(load_config(None, asked), home) as found:
        yield found


@pytest.mark.parametrize("kind", [EOA, DEPOSIT])
def test_a_new_account_is_told_what_is_missing_and_set_up_by_bounded_approvals(kind: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with loopback(pace=QUICK, faucet=None) as (server, base), wallet(base, tmp_path, kind) as account:
            server.state.purse(address_of(kind)).put(CASH, PLAY)
            before = await account.report()
            assert len(before.chain.missing) == 2
            assert sum("wallet setup" in a for a in before.advice) == 2
            calls = await account.approvals(25 * UNIT)
            assert "up to 25.000000 dollars" in calls[0].says
            assert len(calls) == 3
            done = await account.carry_out(calls)
            assert all(d.receipt.ok for d in done)
            after = await account.report()
            assert after.chain.missing == ()
            assert after.chain.allowances["exchange"] == 25 * UNIT
            assert after.venue_balance == after.chain.balance == PLAY
            assert await account.approvals(25 * UNIT) == ()
            assert server.chain.allowance(address_of(kind), EXCHANGE.lower()) == 25 * UNIT

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", [EOA, DEPOSIT])
def test_winnings_are_shown_and_turned_into_dollars_once(kind: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 20)
        pace = Pace(mining=QUICK.mining, confirming=QUICK.confirming, paying=None)
        venue = loopback(series=[Flat(seconds=60)], clock=clock, pace=pace)
        async with venue as (server, base), wallet(base, tmp_path, kind) as account:
            market, purse = open_market(server), server.state.purse(address_of(kind))
            purse.put(market.yes_token, 10 * UNIT)
            purse.put(market.no_token, 3 * UNIT)
            assert await account.redeemable() == ()
            with pytest.raises(Misconfigured, match="can be redeemed"):
                await account.redemptions([market.id])
            await _until_resolved(server, market)
            report = await account.report()
            assert [(h.market_id, h.outcome, h.size, h.worth) for h in report.redeemable] == [
                (market.id, "Up", 10 * UNIT, 10 * UNIT)
            ]
            assert any("wallet redeem" in a for a in report.advice)
            (done,) = await account.carry_out(await account.redemptions())
            assert done.receipt.ok
            after = await account.report()
            assert after.redeemable == ()
            assert after.venue_balance == report.venue_balance + 10 * UNIT
            assert await account.redemptions() == ()

    asyncio.run(scenario())


def test_a_watched_event_of_negative_risk_is_set_up_tested_traded_and_redeemed(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ScaledClock(WallClock().now(), 20)
        pace = replace(QUICK, resolving=timedelta(seconds=2), paying=None)
        venue = loopback(series=[Contest(7, seconds=900)], clock=clock, pace=pace, faucet=None)
        async with venue as (server, base):
            market = next(w.market for w in server.state.windows.values() if w.market.opens_at <= clock.now())
            server.state.purse(address_of(EOA)).put(CASH, PLAY)
            async with wallet(base, tmp_path, EOA, slugs=[market.slug]) as account:
                missing = (await account.report()).chain.missing
                assert len(missing) == 6 and "the neg-risk exchange's allowance to take dollars" in missing
                past = AccountHistory(PLAY, clock.now())
                opened = account.account.opened(_feed_of(market), clock, past, {market.id: market}.get)
                for call in (approve(EXCHANGE, PLAY), approve_shares(EXCHANGE, True)):
                    await account.carry_out([call])
                async with opened as hands:
                    with pytest.raises(NotReady, match="neg-risk exchange is not allowed"):
                        await hands.ready(clock)
                    await account.carry_out(await account.approvals(PLAY))
                    await hands.ready(clock)
                    assert (await account.report()).chain.missing == ()
                    now = clock.now()
                    order = Order(
                        market_id=market.id,
                        outcome=Outcome.YES,
                        side=Side.BUY,
                        price=Decimal("0.99"),
                        size=5 * UNIT,
                        tif=TimeInForce.FAK,
                        placed_at=now,
                        key="one",
                    )
                    ack = await hands.orders.send(await hands.orders.sign(order))
                    assert ack.status is not OrderStatus.REJECTED, ack
                    await hands.orders.sync()
                    assert (await hands.orders.account()).held(market.id, Outcome.YES) > 0
                    await told(base, f"/venue/markets/{market.id}", payout="1")
                    await _until_resolved(server, market)
                    adapter = chain.OPERATORS["neg-risk collateral adapter"]
                    await account.carry_out([approve_shares(adapter, False)])
                    with pytest.raises(NotReady, match="neg-risk collateral adapter may not take shares"):
                        await account.redemptions(approving=False)
                    calls = await account.redemptions()
                    assert [c.target for c in calls] == [CONDITIONAL_TOKENS, adapter]
                    assert all(done.receipt.ok for done in await account.carry_out(calls))
                    assert await account.redeemable() == ()

    asyncio.run(scenario())


def _feed_of(market: Market) -> LiveFeed:
    """What an open account asks of a feed."""
    return cast(LiveFeed, SimpleNamespace(neg_risk=market.neg_risk, outages=lambda _: lambda _: None))


async def _until_resolved(server: VenueServer, market: Any) -> None:
    for _ in range(4000):
        server.state.now()
        if server.state.hall(market).resolved:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the window never ended")


def test_the_staged_test_rests_one_order_takes_it_back_and_leaves_the_money_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with loopback(pace=QUICK) as (server, base), wallet(base, tmp_path, DEPOSIT) as account:
            steps: list[LivetestStep] = []
            await account.livetest(steps.append)
            assert [s.name for s in steps] == ["self-test", "signed", "sent", "seen", "cancelled", "money"]
            (placed,) = server.state.exchange.orders.values()
            assert placed.submission.order.post_only
            assert server.state.purse(address_of(DEPOSIT)).has(CASH) == PLAY

    asyncio.run(scenario())


def test_a_wallet_without_a_relayer_key_is_told_to_get_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        venue = loopback(pace=QUICK, faucet=None)
        async with venue as (_, base), wallet(base, tmp_path, DEPOSIT, relayer=False) as account:
            calls = await account.approvals(UNIT)
            with pytest.raises(NotReady, match="relayer"):
                await account.carry_out(calls)

    asyncio.run(scenario())


@pytest.mark.parametrize("wrong", ["", "{}", "[1]", '{"address": 1}'])
def test_a_relayer_key_that_is_none_is_refused_without_being_repeated(wrong: str, tmp_path: Path) -> None:
    from agent.live.keys import relayer_key

    path = tmp_path / "relayer.json"
    path.write_text(wrong)
    path.chmod(0o600)
    with pytest.raises(DataInvalid, match="not a relayer key"):
        relayer_key(load_config(None, {"venue.relayer_key_file": str(path)}).venue)


def test_the_relayer_takes_only_what_the_wallets_key_has_signed(tmp_path: Path) -> None:
    """Another's wallet, another's key and an old nonce are refused, and nothing is carried out."""

    async def scenario() -> None:
        async with loopback(pace=QUICK, faucet=None) as (server, base), wallet(base, tmp_path, DEPOSIT) as account:
            relayer_file(tmp_path, wallets_of("0x" + "ab" * 20).eoa)
            with pytest.raises(NotReady, match="invalid authorization"):
                await account.carry_out(await account.approvals(UNIT))
            assert server.chain.allowance(address_of(DEPOSIT), EXCHANGE.lower()) == 0

    asyncio.run(scenario())


def test_the_key_is_kept_encrypted_and_opens_the_same_account(tmp_path: Path) -> None:
    import subprocess
    import sys

    phrase, plain, kept = tmp_path / "phrase", key_file(tmp_path), tmp_path / "kept.json"
    phrase.write_text("a long passphrase\n")
    phrase.chmod(0o600)
    made = subprocess.run(
        [sys.executable, "-m", "agent", "wallet", "keystore", str(kept), "--from-file", str(plain),
         "--passphrase-file", str(phrase), "--json"],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "EDGECLAW_HOME": str(tmp_path)},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["deposit_wallet"].lower() == address_of(DEPOSIT)
    assert KEY.removeprefix("0x") not in made.stdout + made.stderr + kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    from agent.live.keys import key_of

    venue = load_config(None, {"venue.key_file": str(kept)}).venue
    assert key_of(venue, tmp_path, lambda _: "a long passphrase").address.lower() == address_of(EOA)
    with pytest.raises(Misconfigured, match="does not open"):
        key_of(venue, tmp_path, lambda _: "another")
