"""The whole agent in a made-up world with a planted effect: it must find it, trade it, and account for every cent.

In every window buyers outweigh sellers and Up wins nine times out of ten at a price of one half; an honest verifier
finds that only after fifty windows.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.app.recorded import PaperPlan, World
from agent.config.load import load_config
from agent.llm.engine import Engine
from agent.llm.scripted import ScriptedEngine
from agent.replay.replay import ReplayResult
from agent.replay.replay import replay as again
from agent.trading.agent_trader import AgentTrader
from agent.trading.bus import LocalBus
from agent.trading.execution import Execution
from agent.trading.quotes import RestingQuote
from agent.trading.strategy_trader import QuotingTrader
from backtest.exchange import PaperExchange
from backtest.replay import ReplayFeed
from market.clock import ManualClock
from market.errors import LimitExceeded, StoreUnavailable, VenueUnavailable
from market.events import DecisionMade, OrderFilled, TradingHalted
from market.types import (
    UNIT,
    Ack,
    Book,
    Fill,
    FillEvidence,
    Market,
    OrderStatus,
    Outcome,
    Settlement,
    Side,
    SignedOrder,
)
from storage.records import RecordKind, Run, RunIdentity
from storage.store import RunLog, Store
from strategies.base import OrderIntent, View
from strategies.quoting import JoinBest
from tests.fakes import START, book, levels, market, recorded, replay
from tests.profiles import examples
from tests.stores import open_store
from tests.values import risk_limits
from tools.ledger import balance
from tools.limits import RiskLimited, RiskLimits
from tools.orders import Around, OrderTool

WINDOWS, SECONDS = 70, 300
CASH = 1_000 * UNIT


def up(text: str, labels: tuple[str, ...]) -> list[float]:
    """A model that reads the present buckets and always claims up."""
    now = text.rsplit("now: ", 1)[1]
    told = [f"{text.rsplit(' ', 1)[1]}{label}" for label in labels]
    return [9.0 if t in now or label == " up" else 1.0 for t, label in zip(told, labels, strict=True)]


@lru_cache(maxsize=4)
def planted(late: bool = False, turns_at: int = WINDOWS, dips: bool = False) -> ReplayFeed:
    """Windows whose books stand still. Where `late`, the ask is dear at the open and fair half a minute later; where it
    `dips`, it stays dear but for an instant in which the market trades through the bid; from window `turns_at` on, Up
    always loses."""
    windows = []
    for number in range(WINDOWS):
        m = market(number, seconds=SECONDS)
        steps = range(-320, SECONDS, 10)
        books = [
            book(
                m.opens_at + timedelta(seconds=s),
                market_id=m.id,
                bids=levels(*([("0.46", 300)] if dips and s == 20 else [("0.49", 300), ("0.48", 300)])),
                asks=levels((_ask(s, late=late, dips=dips), 90), ("0.63", 60)),
            )
            for s in steps
        ]
        windows.append(recorded(*books, number=number, seconds=SECONDS, payout=_pays(number, turns_at)))
    return replay(*windows)


def _ask(second: int, *, late: bool, dips: bool) -> str:
    if dips:
        return "0.48" if second == 20 else "0.61"
    return "0.61" if late and second <= 20 else "0.51"


def _pays(number: int, turns_at: int) -> str:
    return "0" if number % 10 == 7 or number >= turns_at else "1"


@dataclass
class Played:
    run: Run
    ticks: Sequence[float]
    halted: str
    fills: list[Fill]
    settlements: list[Settlement]
    decisions: list[Any]
    kinds: list[str]
    end: Any
    appended: int
    replayed: list[ReplayResult]


def play(database: Path, feed: ReplayFeed, **overrides: object) -> Played:
    return play_with(ScriptedEngine(up), database, feed, **overrides)


def play_with(engine: Engine, database: Path, feed: ReplayFeed, **overrides: object) -> Played:
    keys = {"trading.shrink": 0.5, "trading.max_shift": 1.0, "trading.max_order": "5", **overrides}
    config = load_config(None, {k.replace("__", "."): v for k, v in keys.items()})

    async def scope() -> Played:
        async with open_store(f"sqlite:///{database}") as store:
            world = World(PaperPlan(config, "planted"), feed, store, LocalBus())
            run, ticks, log, halted = await world.agent(engine)
            records = await store.records(run.id)
            return Played(
                run,
                ticks,
                halted,
                await store.fills(run.id),
                await store.settlements(run.id),
                [r for r in records if r.kind is RecordKind.DECISION],
                [r.kind.value for r in records],
                records[-1].body,
                log.appended,
                [await again(store, r, store) for r in records if r.kind is RecordKind.DECISION],
            )

    return asyncio.run(scope())


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play(tmp_path_factory.mktemp("planted") / "e.db", planted())


def test_it_trades_only_after_fifty_windows_and_then_finds_the_effect(played: Played) -> None:
    actions = [d.body["summary"]["action"] for d in played.decisions]
    first = actions.index("take")
    assert 50 <= first <= 54, "fifty outcomes must be known before the first trade"
    assert all(a == "take" for a in actions[first:])
    assert {f.outcome for f in played.fills} == {Outcome.YES}
    assert len({f.order_id for f in played.fills}) == WINDOWS - first


def test_cash_positions_and_fees_balance(played: Played) -> None:
    assert played.end["cash"] == balance(CASH, played.fills, played.settlements) and played.end["holdings"] == {}
    assert sum(f.size for f in played.fills) == sum(s.size for s in played.settlements)
    assert all(f.fee > 0 for f in played.fills)
    assert played.end["cash"] > CASH, "a real effect pays"


def test_every_intent_is_written_before_its_answer_and_after_its_decision(played: Played) -> None:
    kinds = played.kinds
    for i, kind in enumerate(kinds):
        if kind == "intent":
            assert kinds[i - 1] == "decision" and kinds[i + 1] == "ack"


def test_the_hot_path_acts_on_a_standing_belief_when_the_price_comes(tmp_path: Path) -> None:
    made = play(tmp_path / "late.db", planted(late=True))
    taken = [d for d in made.decisions if d.body["summary"]["action"] == "take"]
    assert taken == [], "at the open every ask is too dear"
    assert made.fills and len(made.ticks) == len({f.order_id for f in made.fills})
    assert all(20 < (f.at - START).total_seconds() % SECONDS < 61 for f in made.fills), "while its evidence holds"
    assert max(f.price for f in made.fills) == Decimal("0.51")
    assert made.replayed and all(r.differences == () for r in made.replayed), "orders of the hot path replay too"


def test_an_order_waits_where_taking_is_too_dear_and_fills_without_a_fee(tmp_path: Path) -> None:
    made = play(tmp_path / "dips.db", planted(dips=True), **{"trading.maker_premium": "0"})
    actions = {d.body["summary"]["action"] for d in made.decisions}
    assert actions == {"abstain", "post"}
    assert made.fills
    assert {(f.price, f.fee, f.maker, f.evidence) for f in made.fills} == {
        (Decimal("0.49"), 0, True, FillEvidence.TRADE_THROUGH)
    }
    assert made.end["cash"] == balance(CASH, made.fills, made.settlements)
    assert made.end["unknown"] == []
    assert made.replayed and all(r.differences == () for r in made.replayed)


def test_an_order_that_waits_makes_room_for_one_that_takes(tmp_path: Path) -> None:
    made = play(tmp_path / "late.db", planted(late=True), **{"trading.maker_premium": "0"})
    posted = [d for d in made.decisions if d.body["summary"]["action"] == "post"]
    assert posted
    assert made.fills and not any(f.maker for f in made.fills)
    assert {f.price for f in made.fills} == {Decimal("0.51")}
    assert made.end["cash"] == balance(CASH, made.fills, made.settlements)
    assert all(r.differences == () for r in made.replayed)


def test_a_belief_is_not_traded_on_after_its_evidence_stops_to_apply(tmp_path: Path) -> None:
    stale = play(tmp_path / "stale.db", planted(late=True), **{"trading.taker_delay": 0})
    last = max((f.at - START).total_seconds() % SECONDS for f in stale.fills)
    assert last <= 60.2


def test_a_second_run_is_compared_and_nothing_is_added(tmp_path: Path) -> None:
    first = play(tmp_path / "e.db", planted())
    again = play(tmp_path / "e.db", planted())
    assert again.appended == 0 and first.appended == len(first.kinds)
    assert [d.hash for d in again.decisions] == [d.hash for d in first.decisions]


def test_losses_stop_trading_and_the_stop_is_remembered(tmp_path: Path) -> None:
    made = play(tmp_path / "e.db", planted(turns_at=55), **{"risk.loss": "10"})
    assert "realised loss" in made.halted and made.end["halted"] == made.halted
    assert CASH - made.end["cash"] < 10 * UNIT + 3 * 5 * UNIT, "what was at risk when the limit was reached, no more"
    reasons = [d.body["summary"]["reason"] for d in made.decisions]
    assert reasons[-1] == "halted" and len(made.fills) < 12
    again = play(tmp_path / "e.db", planted(turns_at=55), **{"risk.loss": "10"})
    assert again.halted == made.halted and again.appended == 0


class Wire(Around):
    """An order tool whose connection fails on command, after or before the venue took the order."""

    def __init__(self, inner: OrderTool, plan: Sequence[str]) -> None:
        super().__init__(inner)
        self._plan, self.sent = list(plan), list[str]()

    async def send(self, signed: SignedOrder) -> Ack:
        fault = self._plan.pop(0) if self._plan else "fine"
        if fault == "lost":
            raise VenueUnavailable("the connection broke before the order was sent")
        ack = await self._inner.send(signed)
        self.sent.append(signed.id)
        if fault == "dropped":
            raise VenueUnavailable("the connection broke after the order was sent")
        return ack


def desk_on(
    store: Store, log: RunLog, plan: Sequence[str], clock: ManualClock, limits: RiskLimits
) -> tuple[Execution, Wire]:
    wire = Wire(PaperExchange(planted(), clock, cash=CASH, run=log.run_id), plan)
    return Execution(RiskLimited(wire, limits), log, LocalBus()), wire


async def seen(execution: Execution, m: Market, clock: ManualClock) -> View:
    """The view of a trader at the clock's instant."""
    standing = await planted().book(m.id, clock.now())
    assert standing is not None
    return await execution.look(m, standing, clock.now())


@examples(25)
@given(
    plan=st.lists(st.sampled_from(["fine", "lost", "dropped"]), max_size=8),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
)
def test_no_order_is_lost_doubled_or_hidden_by_a_failing_connection(plan: list[str], sizes: list[int]) -> None:
    async def scope() -> None:
        async with open_store("sqlite://") as store:
            run = await store.begin_run(RunIdentity("d", "c", "x", "m", "agent"), {}, START)
            log, clock = store.log(run.id), ManualClock(START)
            execution, wire = desk_on(store, log, plan, clock, risk_limits(market=10**12))
            m = market(0, seconds=SECONDS)
            for i, size in enumerate(sizes):
                intent = OrderIntent(Outcome.YES, Side.BUY, Decimal("0.63"), size * UNIT, "test")
                await execution.act(intent, await seen(execution, m, clock), "d", i)
                clock.advance_to(clock.now() + timedelta(seconds=11))
                await execution.reconcile(clock.now())
            intents, fills = await store.intents(run.id), await store.fills(run.id)
            account = await execution.account()
            assert len(intents) == len(sizes) and len(set(wire.sent)) == len(wire.sent)
            assert {f.order_id for f in fills} <= set(wire.sent) <= {i.order_id for i in intents}
            assert account.cash == CASH + sum(f.cash for f in fills)
            assert account.held(m.id, Outcome.YES) == sum(f.size for f in fills)
            assert {i.status for i in intents} <= {"matched", "canceled", "rejected"}, (
                "how each order ended is known and written"
            )
            assert execution.working == {} and execution.at_risk(m.id) == -sum(f.cash for f in fills)

    asyncio.run(scope())


@examples(25)
@given(
    costs=st.lists(st.integers(1, 40), min_size=1, max_size=10),
    plan=st.lists(st.sampled_from(["fine", "lost", "dropped"]), max_size=10),
    order=st.integers(1, 30),
    total=st.integers(1, 60),
)
def test_limits_hold_for_every_sequence_of_orders_and_faults(
    costs: list[int], plan: list[str], order: int, total: int
) -> None:
    async def scope() -> None:
        async with open_store("sqlite://") as store:
            run = await store.begin_run(RunIdentity("d", "c", "x", "m", "agent"), {}, START)
            clock, m = ManualClock(START), market(0, seconds=SECONDS)
            limits = risk_limits(order=order * UNIT, market=total * UNIT)
            execution, wire = desk_on(store, store.log(run.id), plan, clock, limits)
            for i, cost in enumerate(costs):
                intent = OrderIntent(Outcome.YES, Side.BUY, Decimal("0.50"), 2 * cost * UNIT, "test")
                ack = await execution.act(intent, await seen(execution, m, clock), "d", i)
                if cost > order:
                    assert ack is not None and ack.status is OrderStatus.REJECTED and "limit" in ack.reason
            intents = {i.order_id: i for i in await store.intents(run.id)}
            assert sum(intents[sent].order.cost for sent in wire.sent) <= total * UNIT
            assert len(intents) == len(costs) and set(wire.sent) <= set(intents)

    asyncio.run(scope())


def test_what_a_killed_order_promised_is_free_again() -> None:
    async def scope() -> None:
        async with open_store("sqlite://") as store:
            run = await store.begin_run(RunIdentity("d", "c", "x", "m", "agent"), {}, START)
            clock, m = ManualClock(START), market(0, seconds=SECONDS)
            execution, wire = desk_on(
                store, store.log(run.id), [], clock, risk_limits(order=10 * UNIT, market=10 * UNIT)
            )
            for i in range(3):
                intent = OrderIntent(
                    Outcome.YES, Side.BUY, Decimal("0.50"), 20 * UNIT, "below every offer, so it is killed"
                )
                await execution.act(intent, await seen(execution, m, clock), "d", i)
                clock.advance_to(clock.now() + timedelta(seconds=5))
                await execution.reconcile(clock.now())
            assert len(wire.sent) == 3 and await store.fills(run.id) == []

    asyncio.run(scope())


def test_an_order_that_fills_while_it_is_asked_about_is_never_out_of_account() -> None:
    class Racing(Wire):
        """Time passes, and the order fills, while the venue is asked for its status."""

        async def status(self, order_id: str) -> Ack | None:
            clock.advance_to(clock.now() + timedelta(seconds=1))
            return await super().status(order_id)

    clock, m = ManualClock(START), market(0, seconds=SECONDS)

    async def scope() -> None:
        async with open_store("sqlite://") as store:
            run = await store.begin_run(RunIdentity("d", "c", "x", "m", "agent"), {}, START)
            exchange = PaperExchange(planted(), clock, cash=CASH, run=run.id)
            execution = Execution(Racing(exchange, []), store.log(run.id), LocalBus())
            intent = OrderIntent(Outcome.YES, Side.BUY, Decimal("0.51"), 10 * UNIT, "test")
            await execution.act(intent, await seen(execution, m, clock), "d", 0)
            await execution.reconcile(clock.now())
            held = (await execution.account()).held(m.id, Outcome.YES)
            assert held == 10 * UNIT and execution.at_risk(m.id) >= 5 * UNIT

    asyncio.run(scope())


def test_a_halted_desk_sends_nothing() -> None:
    async def scope() -> None:
        async with open_store("sqlite://") as store:
            run = await store.begin_run(RunIdentity("d", "c", "x", "m", "agent"), {}, START)
            execution, wire = desk_on(store, store.log(run.id), [], ManualClock(START), risk_limits(loss=0))
            intent = OrderIntent(Outcome.YES, Side.BUY, Decimal("0.51"), 10 * UNIT, "test")
            heard: list[TradingHalted] = []
            assert isinstance(execution.bus, LocalBus)
            with execution.bus.subscribed(TradingHalted, heard.append):
                view = await seen(execution, market(0, seconds=SECONDS), ManualClock(START))
                refused = await execution.act(intent, view, "d", 0)
            assert (
                refused is not None and refused.status is OrderStatus.REJECTED and execution.halted and len(heard) == 1
            )
            assert await execution.act(intent, view, "d", 1) is None
            assert wire.sent == [] and len(await store.intents(run.id)) == 1
            with pytest.raises(LimitExceeded):
                await execution.orders.send(await execution.orders.sign((await store.intents(run.id))[0].order))

    asyncio.run(scope())


@asynccontextmanager
async def resting() -> AsyncIterator[tuple[Execution, QuotingTrader, Book]]:
    """A desk on which an order rests, its trader, and the book it saw. When the block ends the order must be over, and
    its end written down once."""
    async with open_store("sqlite://") as store:
        run = await store.begin_run(RunIdentity("d", "c", "x", "m", "agent"), {}, START)
        log, clock = store.log(run.id), ManualClock(START)
        execution, _ = desk_on(store, log, [], clock, risk_limits(market=10**12))
        quoting, m = QuotingTrader(JoinBest(), execution), market(0, seconds=SECONDS)
        await quoting.cycle(START, [m], "")
        standing = await planted().book(m.id, START)
        assert standing is not None
        await quoting.on_book(standing)
        assert execution.working and quoting.quotes
        yield execution, quoting, standing
        assert not execution.working
        acks = [str(r.key).rpartition("/")[2] for r in await store.records(run.id, RecordKind.ACK)]
        assert acks == ["delayed", "canceled"]


async def with_an_order_taken_back(then: Callable[[Execution], Awaitable[None]]) -> None:
    async with resting() as (execution, _, _):
        await execution.orders.cancel_all()
        await then(execution)


def test_an_end_that_several_hear_of_at_the_same_time_is_written_down_once() -> None:
    async def then(execution: Execution) -> None:
        kind = type(execution.orders)
        at_once = kind.status

        async def later(orders: Any, order_id: str) -> Any:
            await asyncio.sleep(0.01)
            return await at_once(orders, order_id)

        with mock.patch.object(kind, "status", later):
            await asyncio.gather(execution.reconcile(START), execution.withdraw_all(START), execution.reconcile(START))

    asyncio.run(with_an_order_taken_back(then))


def test_an_order_that_ends_while_its_answer_is_awaited_has_one_end() -> None:
    """The account is compared in a task of its own: it may hear of the end before the answer to the order is there."""

    async def scope() -> None:
        async with open_store("sqlite://") as store:
            run = await store.begin_run(RunIdentity("d", "c", "x", "m", "agent"), {}, START)
            execution, _ = desk_on(store, store.log(run.id), [], ManualClock(START), risk_limits())
            kind = type(execution.orders)
            send, sent, canceled = kind.send, asyncio.Event(), asyncio.Event()

            async def slow(orders: Any, signed: SignedOrder) -> Any:
                await send(orders, signed)
                await orders.cancel_many([signed.id])
                sent.set()
                await canceled.wait()
                return Ack(signed.id, OrderStatus.CANCELED)

            async def compared() -> None:
                await sent.wait()
                await execution.reconcile(START)
                canceled.set()

            intent = OrderIntent(Outcome.YES, Side.BUY, Decimal("0.30"), 10 * UNIT, "test")
            view = await seen(execution, market(0, seconds=SECONDS), ManualClock(START))
            with mock.patch.object(kind, "send", slow):
                await asyncio.gather(execution.act(intent, view, "d", 0), compared())
            acks = [str(r.key).rpartition("/")[2] for r in await store.records(run.id, RecordKind.ACK)]
            assert acks == ["canceled"] and not execution.working

    asyncio.run(scope())


def test_an_end_is_written_down_once_where_whoever_wrote_it_was_cancelled() -> None:
    """A request to end comes while an order's end goes to the disk: it is written, and then all orders are asked."""

    async def then(execution: Execution) -> None:
        at_once, written = RunLog.ack, asyncio.Event()

        async def unheard(log: RunLog, *args: Any) -> Any:
            await at_once(log, *args)
            written.set()
            await asyncio.sleep(60)

        with mock.patch.object(RunLog, "ack", unheard):
            task = asyncio.create_task(execution.reconcile(START))
            await written.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await execution.withdraw_all(START)

    asyncio.run(with_an_order_taken_back(then))


def test_an_end_that_could_not_be_written_down_is_asked_for_again() -> None:
    async def then(execution: Execution) -> None:
        failing = mock.AsyncMock(side_effect=StoreUnavailable("the disk is full"))
        with mock.patch.object(RunLog, "ack", failing), pytest.raises(StoreUnavailable):
            await execution.reconcile(START)
        assert execution.working
        await execution.reconcile(START)

    asyncio.run(with_an_order_taken_back(then))


def test_an_order_that_caution_took_back_is_not_taken_back_twice() -> None:
    """Its trader learns of it only at the next slot: its end must not be written down again."""

    async def scope() -> None:
        async with resting() as (execution, quoting, standing):
            execution.inhibitor.clock = "clock_differs"
            await execution.orders.cancel_all()
            await execution.reconcile(START)
            await quoting.on_book(replace(standing, received_at=START + timedelta(seconds=5)))
            await quoting.cycle(START + timedelta(minutes=5), [], "clock_differs")
            assert not quoting.quotes

    asyncio.run(scope())


class Jumping(ManualClock):
    """A clock that is set ahead once, as after a suspended night, or stands where it should have gone on."""

    def __init__(self, start: datetime, at: datetime, by: timedelta) -> None:
        super().__init__(start)
        self._at, self._by = at, by

    async def wait_until(self, at: datetime) -> None:
        await super().wait_until(at + self._by if at == self._at else at)


@pytest.mark.parametrize(
    ("minutes", "skipped", "gaps"),
    [(12, ["slot_missed"], 1), (-6, ["clock_stepped_back", "thin_history", "thin_history"], 0)],
)
def test_a_clock_that_jumps_skips_slots_with_a_reason(
    minutes: int, skipped: list[str], gaps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots that are over before they start are one gap in the log; at one that begins too late nothing is traded."""
    jump, by = START + timedelta(minutes=10), timedelta(minutes=minutes)
    monkeypatch.setattr(World, "_clock", lambda self: Jumping(START - timedelta(minutes=10), jump, by))
    made = play(tmp_path / "e.db", replay(*planted().recordings[:6]))
    reasons = [d.body["summary"]["reason"] for d in made.decisions]
    assert reasons == ["thin_history", "thin_history", *skipped, "thin_history"]
    assert made.kinds.count("gap") == gaps


def test_an_order_wished_for_on_a_book_that_grew_old_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model thinks for longer than a book is good for: the belief stands, and the next fresh book is traded on."""
    clock = ManualClock(START - timedelta(minutes=10))

    class Slow(ScriptedEngine):
        async def forget(self) -> None:
            await super().forget()
            clock.advance_to(clock.now() + timedelta(seconds=16))

    monkeypatch.setattr(World, "_clock", lambda self: clock)
    made = play_with(Slow(up), tmp_path / "e.db", planted())
    takes = sum(d.body["summary"]["action"] == "take" for d in made.decisions)
    assert made.kinds.count("intent") == len(made.ticks) == takes > 0
    assert all((f.at - START).total_seconds() % SECONDS >= 1 for f in made.fills), "none on the book of the slot"


def test_an_order_of_unknown_outcome_is_not_followed_by_a_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dropping(PaperExchange):
        async def send(self, signed: SignedOrder) -> Ack:
            await super().send(signed)
            raise VenueUnavailable("the connection broke after the order was sent")

    monkeypatch.setattr("agent.app.recorded.PaperExchange", Dropping)
    made = play(tmp_path / "e.db", planted())
    intents = made.kinds.count("intent")
    assert intents == sum(d.body["summary"]["action"] == "take" for d in made.decisions) > 0
    assert len({f.order_id for f in made.fills}) == intents, "what the venue took is learned from its fills"
    assert made.end["unknown"] == []


def test_no_second_order_is_placed_beside_a_quote_whose_end_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The venue does not say how an earlier quote in the market ended: it may still be there."""
    cycle = AgentTrader.cycle

    async def unanswered(execution: Execution, quotes: object, market_ids: object, at: datetime) -> None:
        pass

    async def beside_an_old_quote(self: AgentTrader, slot: datetime, markets: Sequence[Market], blocked: str) -> None:
        intent = OrderIntent(Outcome.YES, Side.BUY, Decimal("0.49"), UNIT, why="an earlier quote", post_only=True)
        self.quotes[markets[0].id] = RestingQuote("0xold", intent, slot)
        await cycle(self, slot, markets, blocked)

    monkeypatch.setattr("agent.trading.agent_trader.withdraw_quotes", unanswered)
    monkeypatch.setattr(AgentTrader, "cycle", beside_an_old_quote)
    made = play(tmp_path / "e.db", planted())
    reasons = [d.body["summary"]["reason"] for d in made.decisions]
    assert set(reasons) == {"order_unaccounted"}
    assert made.kinds.count("intent") == 0


def test_a_feed_that_fails_skips_the_cycle_with_a_reason(tmp_path: Path) -> None:
    class Failing(ReplayFeed):
        async def book(self, market_id: str, at: datetime) -> Book | None:
            if at == START + timedelta(minutes=5):
                raise VenueUnavailable("no answer")
            return await super().book(market_id, at)

    made = play(tmp_path / "e.db", Failing("test", planted().recordings[:3]))
    assert [d.body["summary"]["reason"] for d in made.decisions] == ["thin_history", "feed_unavailable", "thin_history"]


def test_observers_hear_of_decisions_and_fills_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    heard: list[object] = []

    def broken(event: object) -> None:
        raise RuntimeError("no")

    async def scope(bus: LocalBus, name: str) -> Run:
        async with open_store(f"sqlite:///{tmp_path / name}") as store:
            config = load_config(None, {"trading.shrink": 0.5, "trading.max_shift": 1.0, "trading.max_order": "5"})
            return (await World(PaperPlan(config, "planted"), planted(), store, bus).agent(ScriptedEngine(up)))[0]

    quiet = asyncio.run(scope(LocalBus(), "a.db"))
    bus = LocalBus()
    hearing = bus.subscribed(DecisionMade, heard.append), bus.subscribed(OrderFilled, heard.append)
    with hearing[0], hearing[1], bus.subscribed(DecisionMade, broken):
        loud = asyncio.run(scope(bus, "b.db"))
    assert replace(loud, started_at=quiet.started_at) == replace(quiet)
    assert {type(e).__name__ for e in heard} == {"DecisionMade", "OrderFilled"}
