"""The account compared with the venue's over sockets: what moves beside trading, what is not ours, and late trades."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")
pytest.importorskip("web3", reason="the extra `live` is not installed")

from agent.config.load import load_config
from agent.live.account import OpenAccount, VenueAccount
from agent.live.booking import book_transfer
from agent.live.comparison import AccountComparison
from agent.live.late_trades import GIVEN_UP, Chain, LateTrades
from agent.live.recovery import AccountHistory, load_account_history
from agent.live.wallet import wallet_of
from agent.trading.bus import LocalBus
from agent.trading.execution import Execution
from backtest.venue.balances import CASH
from backtest.venue.exchange import Exchange, Pace
from backtest.venue.server import VenueServer
from market.clock import EPOCH, Clock, ScaledClock, WallClock
from market.errors import LedgerMismatch, Misconfigured
from market.events import CashTransferred
from market.polymarket.hosts import Hosts
from market.types import UNIT, Market, Order, Outcome, Side, TimeInForce, TransferKind
from storage.records import RecordKind, RunIdentity, RunManifest
from storage.store import Store, open_store
from tests.venue import KEY, QUICK, Flat, command, loopback, open_market, told
from tools.keystore import SecretKey
from tools.polymarket.client import SigningAccount


@dataclass
class Desk:
    """An open account with its log and its comparison."""

    server: VenueServer
    base: str
    clock: Clock
    market: Market
    account: VenueAccount
    hands: OpenAccount
    execution: Execution
    comparison: AccountComparison
    store: Store
    halts: list[str]

    @property
    def wallet(self) -> str:
        return self.account.trader.wallet

    async def buys(self, price: str = "0.51", size: int = 10, tif: TimeInForce = TimeInForce.GTC) -> str:
        now = self.clock.now()
        order = Order(self.market.id, Outcome.YES, Side.BUY, Decimal(price), size * UNIT, tif, now, now.isoformat())
        signed = await self.execution.orders.sign(order)
        await self.execution.log.intent("d", signed, now, view=None, why="")
        self.execution.working[signed.id] = order
        await self.execution.orders.send(signed)
        return signed.id

    async def later(self, by: timedelta) -> None:
        await self.clock.wait_until(self.clock.now() + by)

    async def slot(self) -> None:
        """One slot's comparison."""
        now = self.clock.now()
        await self.comparison.watch([(now, now + timedelta(seconds=2))])

    async def agrees(self) -> None:
        await self.comparison.compare()
        assert self.comparison.differs == "" and not self.halts

    async def history(self) -> AccountHistory:
        return await load_account_history(self.store, self.account.name, self.execution.log.run_id)


@asynccontextmanager
async def desk(speed: float = 1.0, pace: Pace = QUICK, **past: Any) -> AsyncIterator[Desk]:
    span = timedelta(seconds=900)
    clock = ScaledClock(EPOCH + (WallClock().now() - EPOCH) // span * span + timedelta(seconds=10), speed)
    async with loopback(series=[Flat()], clock=clock, pace=pace) as (server, base), open_store("sqlite://") as store:
        account = VenueAccount(
            Hosts.loopback(base), SigningAccount.of(SecretKey.of_hex(KEY).signer()), SecretKey.of_hex(KEY)
        )
        await account.begin(clock)
        market, cash = open_market(server), await account.cash(clock)
        manifest = RunManifest(cash=cash, account=account.name)
        run = await store.begin_run(RunIdentity("d", "c", "x", "m"), manifest.to_json(), clock.now())
        history = AccountHistory(cash, clock.now(), **past)
        async with account.opened(None, clock, history, {market.id: market}.get) as hands:
            assert hands.venue is not None
            execution = Execution(hands.orders, store.log(run.id), LocalBus())

            @asynccontextmanager
            async def chain() -> AsyncIterator[Chain]:
                config = load_config(None, {"venue.loopback": base})
                async with wallet_of(config, account, clock) as wallet:
                    yield wallet.chain

            halts = list[str]()

            def halt(reason: str) -> None:
                halts.append(reason)
                execution.halt(reason, clock.now())

            late = LateTrades(hands.venue.books, chain, hands.venue.traded, {market.id: market}.get, clock)
            doubt = partial(setattr, execution.inhibitor, "account")
            comparison = AccountComparison(
                account=hands.venue,
                execution=execution,
                clock=clock,
                halt=halt,
                doubt=doubt,
                late=late,
                close_books=execution.reconcile,
            )
            yield Desk(server, base, clock, market, account, hands, execution, comparison, store, halts)


@pytest.mark.parametrize("kind", [k for k in TransferKind if k is not TransferKind.BOOKED])
def test_cash_that_moves_beside_trading_is_a_record_of_its_own_and_the_comparison_goes_on(kind: TransferKind) -> None:
    async def scenario() -> None:
        async with desk(speed=10) as d:
            heard: list[CashTransferred] = []
            with d.execution.bus.subscribed(CashTransferred, heard.append):  # type: ignore[attr-defined]
                await d.agrees()
                await d.later(timedelta(seconds=2))  # the venue tells the time of a transfer to the second
                before = (await d.execution.account()).cash
                for amount in ("12.34", "0.000001"):
                    await told(d.base, f"/venue/accounts/{d.wallet}", kind=kind.value, amount=amount)
                await d.agrees()
                await d.agrees()
            moved = 12_340_001 * (-1 if kind is TransferKind.WITHDRAWAL else 1)
            assert (await d.execution.account()).cash == before + moved
            records = await d.store.records(d.execution.log.run_id, RecordKind.TRANSFER)
            assert len(records) == len(heard) == 2 and {r.body["kind"] for r in records} == {kind.value}
            assert sum(t.amount for t in (await d.history()).transfers) == moved

    asyncio.run(scenario())


def test_cash_that_nobody_explains_stops_trading_and_says_how_much() -> None:
    async def scenario() -> None:
        async with desk(speed=60) as d:
            await d.slot()
            d.server.state.purse(d.wallet.lower()).put(CASH, -UNIT)
            await d.slot()
            assert len(d.halts) == 1 and "the venue holds 999.000000 where the records say 1000.000000" in d.halts[0]
            assert d.execution.halted and "edgeclaw wallet book" in d.halts[0]
            await d.slot()
            assert len(d.halts) == 1, "halted once"

    asyncio.run(scenario())


def test_what_the_venue_pays_before_its_outcome_is_told_is_no_difference_and_more_than_that_is() -> None:
    async def scenario() -> None:
        pace = replace(QUICK, resolving=timedelta(seconds=1), paying=timedelta(seconds=1))
        async with desk(speed=60, pace=pace) as d:
            await d.buys(tif=TimeInForce.FAK)
            await d.clock.wait_until(d.market.closes_at + timedelta(seconds=10))
            await d.agrees()
            assert (await d.execution.account()).holdings, "nobody has told the outcome"
            d.server.state.purse(d.wallet.lower()).put(CASH, 1)
            await d.comparison.compare()
            assert "dollars" in d.comparison.differs

    asyncio.run(scenario())


def test_what_the_owner_books_is_taken_on_by_the_next_start() -> None:
    async def scenario() -> None:
        async with desk() as d:
            d.server.state.purse(d.wallet.lower()).put(CASH, -UNIT)
            other = RunManifest(cash=0, account="b").to_json()
            await d.store.begin_run(RunIdentity("e", "c", "x", "m"), other, EPOCH)
            with pytest.raises(Misconfigured, match="several accounts"):
                await book_transfer(d.store, "", -UNIT, "bought a coffee", d.clock.now())
            done = await book_transfer(d.store, d.account.name, -UNIT, "bought a coffee", d.clock.now())
            assert (done.run, done.transfer.why) == (d.execution.log.run_id, "bought a coffee")
            async with d.account.opened(None, d.clock, await d.history(), {d.market.id: d.market}.get) as later:
                assert later.venue is not None and await later.venue.audit() == ""
            assert await d.store.verify() == []
            await d.store.log(done.run).go_on()

    asyncio.run(scenario())


@pytest.mark.parametrize("price", ["0.10", "0.51"])
def test_an_order_or_a_trade_of_another_program_halts_and_is_left_alone(price: str) -> None:
    async def scenario() -> None:
        async with desk(speed=20) as d:
            await d.slot()
            await d.buys("0.20")
            path = f"/venue/accounts/{d.wallet}/orders"
            await told(d.base, path, token_id=d.market.yes_token, side="BUY", price=price, size="10")
            await d.slot()
            assert len(d.halts) == 1 and "is not of this log" in d.halts[0]
            await d.execution.withdraw_all(d.clock.now())
            resting = [p.submission.order.price for p in d.server.state.exchange.orders.values() if p.open]
            assert resting == ([Decimal("0.10")] if price == "0.10" else [])

    asyncio.run(scenario())


@pytest.mark.parametrize("price", ["0.10", "0.51"])
def test_a_start_beside_another_program_sends_nothing(price: str) -> None:
    """The later of two boxes on one key finds the other's resting order, or what it has traded lately."""

    async def scenario(reviewed: bool) -> None:
        async with desk() as d:
            path = f"/venue/accounts/{d.wallet}/orders"
            await told(d.base, path, token_id=d.market.yes_token, side="BUY", price=price, size="10")
            await asyncio.sleep(0.5)
            key = {d.market.id: d.market}.get
            now = d.clock.now() + timedelta(seconds=1 if reviewed else 0)
            past = AccountHistory(d.server.state.purse(d.wallet.lower()).chain(CASH), d.clock.now())
            past = AccountHistory(past.cash, past.since, reviewed_at=now) if reviewed else past
            async with d.account.opened(None, d.clock, past, key) as later:
                assert later.venue is not None
                await replace(d.comparison, account=later.venue).begin()

    with pytest.raises(LedgerMismatch, match="trades on this account"):
        asyncio.run(scenario(reviewed=False))
    asyncio.run(scenario(reviewed=True))


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("fault", ["never_mined", "mined_silently"])
def test_a_trade_that_is_never_called_final_is_settled_by_the_chain(fault: str, hashed: bool) -> None:
    async def scenario() -> None:
        async with desk(speed=100) as d:
            await command(d.base, fault, count=1, transaction_hash=hashed)
            before = (await d.execution.account()).cash
            await d.buys(tif=TimeInForce.FAK)
            await d.later(timedelta(minutes=2))
            await d.execution.catch_up(d.clock.now())
            await d.comparison.compare()
            assert "is not settled yet" in " ".join(d.comparison.remarks())
            await d.later(GIVEN_UP)
            await d.comparison.compare()
            await d.agrees()
            await d.execution.catch_up(d.clock.now())
            account = await d.execution.account()
            if fault == "never_mined":
                assert account.cash == before and not account.holdings
            else:
                assert account.cash < before and account.holdings == {(d.market.id, Outcome.YES): 10 * UNIT}
            assert d.hands.venue is not None and d.hands.venue.books.unsettled_since() is None
            assert not d.comparison.late.remarks()

    asyncio.run(scenario())


def test_late_trades_of_one_market_are_told_apart_after_its_close() -> None:
    """Three of one size, of which one was never mined: sums would take each for another."""

    async def scenario() -> None:
        pace = replace(QUICK, resolving=timedelta(minutes=1), paying=timedelta(minutes=1))
        async with desk(speed=300, pace=pace) as d:
            await d.clock.wait_until(d.market.closes_at - timedelta(minutes=3))
            before = (await d.execution.account()).cash
            for fault in ("never_mined", "mined_silently", "mined_silently"):
                await command(d.base, fault, count=1, transaction_hash=False)
                await d.buys(tif=TimeInForce.FAK)
            await d.later(GIVEN_UP + timedelta(minutes=5))
            await d.execution.catch_up(d.clock.now())
            await d.comparison.compare()
            await d.agrees()
            account = await d.execution.account()
            assert not d.comparison.late.remarks()
            assert account.holdings == {(d.market.id, Outcome.YES): 20 * UNIT} and account.cash < before

    asyncio.run(scenario())


def test_cancels_go_in_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[int] = []
    cancel = Exchange.cancel

    def counted(self: Exchange, ids: Iterable[str], owner: str) -> tuple[list[str], dict[str, str]]:
        requests.append(len(list(ids)))
        return cancel(self, ids, owner)

    monkeypatch.setattr(Exchange, "cancel", counted)

    async def scenario() -> None:
        async with desk() as d:
            ids = [await d.buys(f"0.{n}") for n in range(20, 40)]
            await d.execution.withdraw(ids, d.clock.now())
            assert not d.execution.working and requests == [20]
            assert not any(p.open for p in d.server.state.exchange.orders.values())

    asyncio.run(scenario())
