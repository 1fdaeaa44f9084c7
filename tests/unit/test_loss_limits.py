"""Loss limits go by what fills and settlements realise, through a person's resumes and through restarts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.app.guards import Guards
from agent.config.load import load_config
from agent.live.recovery import AccountHistory
from agent.live.status import status
from agent.trading.bus import LocalBus
from agent.trading.execution import Execution
from agent.trading.inhibit import Inhibitor
from agent.trading.kill_switch import KillSwitchWatcher
from market.clock import ManualClock
from market.errors import Halt, LimitExceeded
from market.types import (
    UNIT,
    Ack,
    Fill,
    FillEvidence,
    Micro,
    Order,
    OrderStatus,
    Outcome,
    PayoutSource,
    Resolution,
    Settlement,
    Side,
    SignedOrder,
    TimeInForce,
)  # fmt: skip
from storage.records import RunIdentity, RunManifest
from tests.stores import open_store
from tests.values import pulse, risk_limits
from tools.halts import KillSwitch, Resumed
from tools.ledger import PositionLedger
from tools.limits import Exposure, InferenceToday, LossLimits, RiskLimited, Switched
from tools.orders import Account, OrderTool

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
FAR = 10**15


def traded(number: int, side: Side, dollars: int, at: datetime, market: str = "m") -> Fill:
    """100 shares for so many dollars."""
    price = Decimal(dollars) / 100
    return Fill(
        f"f{number}", f"o{number}", market, Outcome.YES, side, price, 100 * UNIT, 0, at, FillEvidence.VENUE
    )  # fmt: skip


def round_trip(number: int, at: datetime, lost: int = 40, market: str = "m") -> list[Fill]:
    """100 shares are bought at 60 cents and sold at less."""
    later = at + timedelta(seconds=1)
    return [traded(2 * number, Side.BUY, 60, at, market), traded(2 * number + 1, Side.SELL, 60 - lost, later, market)]


def order(number: int, at: datetime) -> SignedOrder:
    made = Order("m", Outcome.YES, Side.BUY, Decimal("0.5"), 10 * UNIT, TimeInForce.FAK, at, f"d/{number}")
    return SignedOrder(f"0x{number}", made)


@dataclass
class Venue:
    """Takes every order, and tells the fills that it is given; a market settles at nothing."""

    waiting: list[Fill] = field(default_factory=list)
    sent: int = 0

    async def send(self, signed: SignedOrder) -> Ack:
        self.sent += 1
        return Ack(signed.id, OrderStatus.REJECTED, "only tried")

    async def fills(self) -> Sequence[Fill]:
        told, self.waiting = self.waiting, []
        return told

    async def cancel_all(self) -> int:
        return 0

    async def account(self) -> Account:
        return Account(0)

    async def settle(self, resolution: Resolution) -> Sequence[Settlement]:
        source = PayoutSource.OFFICIAL
        return [Settlement(resolution.market_id, Outcome.YES, 100 * UNIT, Decimal(0), source, resolution.known_at)]


@dataclass
class Trading:
    """Limits and the kill switch of a home folder around a venue, as a process has them; begun with what is on
    record."""

    home: Path
    limits: dict[str, Micro]
    record: list[Fill] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """The process ends, and another one begins."""
        self.switch, self.venue = KillSwitch(self.home), Venue()
        past = AccountHistory(0, NOW, fills=list(self.record))
        self.risk = RiskLimited(
            cast(OrderTool, self.venue), risk_limits(**self.limits), past.exposure(), self.switch.resumes()
        )
        self.tool = Switched(self.risk, self.switch)
        self.execution = Execution(self.tool, None, LocalBus())  # type: ignore[arg-type]
        self.watcher = KillSwitchWatcher(
            self.switch, self.execution, self.tool, ManualClock(NOW),
            lambda: self.risk.losses.resume(self.switch.resumes()),
        )  # fmt: skip

    def lose(self, dollars: int, at: datetime) -> None:
        self.number += 1
        for fill in round_trip(self.number, at, dollars):
            self.venue.waiting.append(fill)
            self.record.append(fill)

    def trades(self, at: datetime) -> bool:
        """True if an order is sent."""
        self.number += 1
        before = self.venue.sent
        try:
            asyncio.run(self.tool.send(order(self.number, at)))
        except Halt:
            assert self.switch.read() is not None and self.venue.sent == before
            return False
        return self.venue.sent == before + 1

    def resume(self, at: datetime, margin: int | None = None, *, reset: bool = False) -> None:
        asyncio.run(self.watcher.look())
        allowed = None if margin is None else margin * UNIT
        assert self.switch.release("looked", "a person", at, margin=allowed, reset=reset) is not None
        asyncio.run(self.watcher.look())
        assert self.execution.halted == ""


@pytest.fixture(params=[False, True], ids=["one process", "a restart at each step"])
def restarts(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@dataclass
class Steps:
    """Steps with a second between two, and with a restart, if asked for."""

    on: Trading
    restarts: bool
    at: datetime = NOW

    def next(self) -> datetime:
        if self.restarts and not self.on.venue.waiting:
            self.on.start()
        self.at += timedelta(seconds=10)
        return self.at

    def lose(self, dollars: int) -> None:
        self.on.lose(dollars, self.next())

    def trades(self) -> bool:
        return self.on.trades(self.next() + timedelta(seconds=5))

    def resume(self, margin: int | None = None, *, reset: bool = False) -> None:
        self.on.resume(self.next(), margin, reset=reset)


def steps(tmp_path: Path, restarts: bool, **limits: int) -> Steps:
    named = {"loss": FAR, "day": FAR, "drawdown": FAR} | {name: dollars * UNIT for name, dollars in limits.items()}
    return Steps(Trading(tmp_path, named), restarts)


# -- what counts


@pytest.mark.parametrize("limit", ["loss", "day", "drawdown"])
def test_a_loss_made_by_selling_stops_trading_at_once(tmp_path: Path, limit: str) -> None:
    """Five round trips of 40 dollars passed a limit of 50 for as long as nothing settled."""
    played, sent = steps(tmp_path, False, **{limit: 50}), 0
    for _ in range(5):
        played.lose(40)
        sent += played.trades()
    assert sent == 1
    halted = played.on.switch.read()
    assert halted is not None and "of $80.000000 reached the limit of $50.000000" in halted.reason


def test_a_settlement_counts_the_cost_that_is_left(tmp_path: Path) -> None:
    played = steps(tmp_path, False, loss=61)
    played.on.venue.waiting.append(traded(900, Side.BUY, 60, NOW))
    assert played.trades() and played.on.risk.positions.cost("m") == 60 * UNIT
    asyncio.run(played.on.risk.settle(Resolution("m", Decimal(0), PayoutSource.OFFICIAL, NOW + timedelta(minutes=1))))
    assert played.trades() and played.on.risk.positions.costs == {}
    played.lose(1)
    assert not played.trades()


def test_a_loss_on_a_fill_that_failed_counts_no_more(tmp_path: Path) -> None:
    played = steps(tmp_path, False, loss=50)
    played.lose(60)
    sale = played.on.record[-1]
    assert not played.trades()
    played.resume()
    played.on.venue.waiting.append(replace(sale, id=f"{sale.id}/failed", size=-sale.size, fee=0))
    assert played.trades()


# -- a person resumes


@pytest.mark.parametrize("limit", ["loss", "day", "drawdown"])
def test_a_resume_restores_the_margin_that_is_stated_and_no_more(tmp_path: Path, restarts: bool, limit: str) -> None:
    played = steps(tmp_path, restarts, **{limit: 50})
    played.lose(60)
    assert not played.trades()
    played.resume()
    assert not played.trades(), "a resume without a margin forgets nothing"
    played.resume(25)
    assert played.trades()
    played.lose(24)
    assert played.trades()
    played.lose(1)
    assert not played.trades(), "after exactly that further loss"
    played.resume(10)
    played.lose(9)
    assert played.trades()
    played.lose(1)
    assert not played.trades()
    played.resume(reset=True)
    played.lose(49)
    assert played.trades()
    played.lose(1)
    assert not played.trades()


def test_a_margin_beyond_one_limit_is_none_beyond_another(tmp_path: Path, restarts: bool) -> None:
    played = steps(tmp_path, restarts, day=50, loss=80)
    played.lose(60)
    assert not played.trades()
    played.resume(40)
    played.lose(19)
    assert played.trades()
    played.lose(1)
    assert not played.trades(), "the total loss has a limit of its own"
    halted = played.on.switch.read()
    assert halted is not None and halted.reason.startswith("realised loss of $80")


def test_the_day_goes_on_counting_after_a_halt_that_had_another_reason(tmp_path: Path, restarts: bool) -> None:
    played = steps(tmp_path, restarts, day=50)
    played.lose(30)
    assert played.trades()
    played.on.switch.throw("a look", "a person", played.next())
    played.resume(25)
    played.lose(19)
    assert played.trades()
    played.lose(1)
    assert not played.trades()


def test_the_next_day_has_a_limit_of_its_own(tmp_path: Path, restarts: bool) -> None:
    played = steps(tmp_path, restarts, day=50)
    played.lose(60)
    assert not played.trades()
    played.resume(25)
    played.at += timedelta(days=1)
    played.lose(49)
    assert played.trades()
    played.lose(1)
    assert not played.trades(), "yesterday's margin is not today's"


def test_a_new_best_result_ends_the_margin_of_a_drawdown(tmp_path: Path, restarts: bool) -> None:
    played = steps(tmp_path, restarts, drawdown=50)
    played.lose(59)
    assert not played.trades()
    played.resume(30)
    for _ in range(3):
        played.lose(-39)
    assert played.trades()
    played.lose(50)
    assert not played.trades()


def test_a_live_run_takes_the_margin_when_it_is_resumed_and_tells_the_limit(tmp_path: Path) -> None:
    """By the limits and the watcher as a live run composes them."""
    seen, clock, venue = pulse(), ManualClock(NOW), Venue()
    switch, spent = KillSwitch(tmp_path), InferenceToday(clock, 0.0, lambda: 0)
    guards = Guards(load_config(None, {"risk.daily_loss": 50}), clock, switch, Inhibitor(), seen)
    past = AccountHistory(0, NOW, fills=round_trip(1, NOW, 40))

    async def scenario() -> None:
        execution, watcher = guards.around(cast(OrderTool, venue), None, LocalBus(), past, spent)  # type: ignore[arg-type]
        assert (seen.realised(), seen.breach()) == (-40 * UNIT, "")
        venue.waiting = round_trip(2, NOW, 20)
        with pytest.raises(LimitExceeded):
            await execution.orders.send(order(1, NOW))
        assert seen.realised() == -60 * UNIT and "of $60.000000 reached the limit of $50.000000" in seen.breach()
        await watcher.look()
        switch.release("looked", "a person", NOW + timedelta(minutes=1), margin=25 * UNIT)
        await watcher.look()
        assert execution.halted == "" and seen.breach() == ""
        await execution.orders.send(order(2, NOW + timedelta(minutes=2)))
        assert venue.sent == 1
        venue.waiting = round_trip(3, NOW + timedelta(minutes=3), 25)
        with pytest.raises(LimitExceeded, match=r"85\.0+ reached the limit of \$85"):
            await execution.orders.send(order(3, NOW + timedelta(minutes=4)))

    asyncio.run(scenario())


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-30, 30)), max_size=12),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, 5, 20]), st.booleans()), max_size=3),
    st.randoms(),
)
def test_losses_by_news_in_any_order_are_those_by_the_record(
    rows: list[tuple[int, int]], decided: list[tuple[int, int | None, bool]], chance: random.Random
) -> None:
    """Fills come late, and people resume in between: what counts follows from what is on record alone."""
    limits = risk_limits(loss=40 * UNIT, day=30 * UNIT, drawdown=35 * UNIT)
    fills = [
        f
        for n, (day, lost) in enumerate(rows)
        for f in round_trip(n, NOW + timedelta(days=day, minutes=n), lost, f"{n}")
    ]
    resumes = [
        Resumed(NOW + timedelta(days=day, hours=1), None if dollars is None else dollars * UNIT, reset)
        for day, dollars, reset in decided
    ]
    whole = LossLimits(limits, PositionLedger(fills), resumes)
    positions, known = PositionLedger(), list[Resumed]()
    losses = LossLimits(limits, positions)
    news: list[Fill | Resumed] = [*fills, *resumes]
    chance.shuffle(news)
    for one in news:
        if isinstance(one, Fill):
            positions.fill(one)
        else:
            known.append(one)
            losses.resume(known)
        if chance.random() < 0.5:
            losses.results()
    assert losses.results() == whole.results()
    for day in range(7):
        on = (NOW + timedelta(days=day)).date()
        assert losses.breach(on) == whole.breach(on)


# -- what is seen from outside


def test_the_status_names_the_limit_that_the_run_was_configured_with(tmp_path: Path) -> None:
    """And a run that is over no longer holds anybody up, once another account is traded on."""
    home, scope = tmp_path / "home", {"config": {"risk": {"loss": "50", "daily_loss": "500", "drawdown": "500"}}}

    async def scenario() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}") as store:
            about = RunManifest(cash=1000 * UNIT, account="paper", config=scope)
            run = await store.begin_run(RunIdentity("d", "c", "x", "m"), about.to_json(), NOW)
            log = store.log(run.id)
            for fill in round_trip(1, NOW, 55):
                await log.fill(fill)
            (seen,) = (await status(store, KillSwitch(home), NOW)).accounts
            assert seen.breach == "realised loss of $55.000000 reached the limit of $50.000000" and seen.active
            assert (seen.earned, seen.today, seen.at_risk) == (-55 * UNIT, -55 * UNIT, 0)
            switch = KillSwitch(home)
            switch.throw("lost", "a limit", NOW + timedelta(minutes=1))
            switch.release("looked", "a person", NOW + timedelta(minutes=2), margin=5 * UNIT)
            (seen,) = (await status(store, switch, NOW)).accounts
            assert seen.breach == ""
            await log.end(NOW, {})
            other = replace(about, account="live", config=None)
            await store.begin_run(RunIdentity("d", "c", "x", "m2"), other.to_json(), NOW)
            live, paper = (await status(store, switch, NOW)).accounts
            assert (live.account, live.active, paper.active) == ("live", True, False)

    asyncio.run(scenario())


def test_exposure_of_nothing_is_nothing() -> None:
    assert Exposure().positions().total_cost == 0 and LossLimits(risk_limits(), PositionLedger()).breach(date.min) == ""
