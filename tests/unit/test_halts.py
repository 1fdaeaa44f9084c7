"""The kill switch: a file that anybody may make, that outlives the process, and that only a person takes away."""

from __future__ import annotations

import asyncio
import errno
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trading.bus import LocalBus
from agent.trading.execution import Execution
from agent.trading.inhibit import InhibitSignal
from agent.trading.kill_switch import KillSwitchWatcher, watching_kill_switch
from market.clock import ManualClock
from market.errors import Halt, LimitExceeded, StoreUnavailable, VenueUnavailable
from market.events import Event
from market.types import UNIT, Ack, Order, OrderStatus, Outcome, Side, SignedOrder, TimeInForce
from tests.values import risk_limits
from tools.halts import Halted, KillSwitch, Resumed
from tools.limits import CostLimited, RateLimited, Results, Switched
from tools.orders import Account, OrderTool

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Hands:
    """Counts what reaches the venue; refuses or is deaf as often as told."""

    def __init__(self, stop: str = "", deaf: int = 0, late: bool = False) -> None:
        self.sent, self.cancels, self.stop, self.deaf, self.late = 0, 0, stop, deaf, late

    async def send(self, signed: SignedOrder) -> Ack:
        if self.stop:
            raise LimitExceeded(self.stop)
        self.sent += 1
        return Ack(signed.id, OrderStatus.LIVE)

    async def account(self) -> Account:
        return Account(0, open_orders=(signed(),) if self.late and self.cancels < 2 else ())

    async def cancel_many(self, order_ids: Sequence[str]) -> int:
        return await self.cancel_all()

    async def cancel_all(self) -> int:
        if self.deaf:
            self.deaf -= 1
            raise VenueUnavailable("gone")
        self.cancels += 1
        return 1


def tool(hands: Hands) -> OrderTool:
    return cast(OrderTool, hands)


def signed(number: int = 0) -> SignedOrder:
    order = Order(
        "m", Outcome.YES, Side.BUY, Decimal("0.5"), 10 * UNIT, TimeInForce.GTC, NOW, f"d/{number}", post_only=True
    )
    return SignedOrder(f"0x{number}", order)


# -- the file


def test_a_halt_is_read_by_whoever_comes_later_and_keeps_its_reason(tmp_path: Path) -> None:
    KillSwitch(tmp_path).throw("too hot", "a person", NOW)
    again = KillSwitch(tmp_path)
    assert again.throw("another", "somebody else", NOW).reason == "too hot"
    assert again.read() == Halted("too hot", "a person", "2026-11-01T12:00:00.000000+00:00")
    assert again.release("cooled down", "a person", NOW + timedelta(hours=1)) is not None
    assert again.read() is None
    assert again.resumes() == [Resumed(NOW + timedelta(hours=1))]
    assert [e["what"] for e in again.history()] == ["halt", "resume"]


@pytest.mark.parametrize("text", ["", "lunch", "{}", "\xff\x00", "[1,2]", "{" * 5000])
def test_whatever_is_in_the_file_it_halts(tmp_path: Path, text: str) -> None:
    switch = KillSwitch(tmp_path)
    switch.file.write_bytes(text.encode("latin-1"))
    halted = switch.read()
    assert halted is not None
    assert halted.reason


def test_a_switch_that_cannot_be_read_counts_as_thrown(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path)
    switch.file.mkdir()
    assert switch.read() is not None


def test_a_halt_that_cannot_be_written_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        KillSwitch(tmp_path / "file").throw("x", "a person", NOW)


def test_a_full_disk_halts_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spare file, made while there was room, has only to be renamed."""
    switch = KillSwitch(tmp_path)
    switch.prepare()
    assert switch.read() is None

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tools.halts._durably", full)
    assert switch.throw("the database cannot be written", "edgeclaw", NOW).by == "edgeclaw"
    standing = KillSwitch(tmp_path).read()
    assert standing is not None and "full disk" in standing.reason
    monkeypatch.undo()
    assert switch.release("made room", "a person", NOW) == standing and switch.read() is None


def test_a_late_resume_lifts_the_halt_that_it_names_and_no_other(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path)
    first = switch.throw("hot", "a person", NOW)
    switch.release("cool", "a person", NOW, named=first.at)
    second = switch.throw("hot again", "a person", NOW + timedelta(microseconds=1))
    with pytest.raises(ValueError, match="not the one in force"):
        switch.release("cool", "a person", NOW, named=first.at)
    assert switch.read() == second


@pytest.mark.parametrize("text", ["", "lunch", '{"reason": "full", "by": "edgeclaw", "at": ""}'])
def test_a_halt_without_an_instant_of_its_own_is_named_by_when_it_appeared(tmp_path: Path, text: str) -> None:
    switch = KillSwitch(tmp_path)
    switch.file.write_text(text)
    halted = switch.read()
    assert halted is not None and datetime.fromisoformat(halted.at).tzinfo is not None
    with pytest.raises(ValueError, match="not the one in force"):
        switch.release("looked", "a person", NOW, named="")
    assert switch.release("looked", "a person", NOW, named=halted.at) == halted and switch.read() is None


def test_a_torn_history_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path)
    switch.throw("x", "a person", NOW)
    switch.release("y", "a person", NOW)
    with (tmp_path / "halts.jsonl").open("a") as out:
        out.write('{"what": "resume", "at": "2026-11-01T12:00:00"}\n{"what": "resume", "at": "20')
    assert len(switch.history()) == 2
    assert switch.resumes() == [Resumed(NOW)]
    assert KillSwitch(tmp_path / "nowhere").resumes() == []


def test_a_resume_keeps_the_margin_and_one_of_an_earlier_version_has_reset_the_limits(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path)
    old = {"what": "resume", "reason": "y", "by": "a person", "at": NOW.isoformat(timespec="microseconds")}
    (tmp_path / "halts.jsonl").write_text(json.dumps(old) + "\n")
    for number, (margin, reset) in enumerate([(25 * UNIT, False), (None, True), (None, False)], 1):
        at = NOW + timedelta(minutes=number)
        switch.throw("hot", "a person", at)
        switch.release("looked", "a person", at, margin=margin, reset=reset)
    assert [(r.margin, r.reset) for r in KillSwitch(tmp_path).resumes()] == [
        (None, True), (25 * UNIT, False), (None, True), (None, False),
    ]  # fmt: skip


# -- orders


@given(st.lists(st.sampled_from(["send", "halt", "resume"]), max_size=12))
def test_no_order_is_sent_while_the_switch_is_thrown(tmp_path_factory: pytest.TempPathFactory, acts: list[str]) -> None:
    switch, hands = KillSwitch(tmp_path_factory.mktemp("home")), Hands()
    behind = Switched(tool(hands), switch)
    allowed, halted = 0, False

    async def play() -> None:
        nonlocal allowed, halted
        for number, act in enumerate(acts):
            if act == "halt":
                KillSwitch(switch.file.parent).throw("stop", "a person", NOW)
                halted = True
            elif act == "resume":
                switch.release("go", "a person", NOW)
                halted = False
            elif halted:
                with pytest.raises(Halt, match="halted by a person"):
                    await behind.send(signed(number))
            else:
                await behind.send(signed(number))
                allowed += 1

    asyncio.run(play())
    assert hands.sent == allowed


def test_a_limit_that_stops_trading_throws_the_switch(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path)
    behind = Switched(tool(Hands(stop="lost too much")), switch)
    with pytest.raises(LimitExceeded):
        asyncio.run(behind.send(signed()))
    halted = KillSwitch(tmp_path).read()
    assert halted is not None
    assert (halted.reason, halted.by) == ("lost too much", "a limit")


def test_inference_that_cost_too_much_refuses_orders_and_nothing_else() -> None:
    hands, spent = Hands(), [0]
    behind = CostLimited(tool(hands), 1000, lambda: spent[0])
    assert asyncio.run(behind.send(signed())).status is OrderStatus.LIVE
    spent[0] = 1000
    refused = asyncio.run(behind.send(signed(1)))
    assert refused.status is OrderStatus.REJECTED
    assert "inference" in refused.reason
    assert asyncio.run(behind.cancel_all()) == 1


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=40), st.integers(1, 8))
def test_no_window_of_a_second_sees_more_than_twice_the_rate(gaps: list[int], rate: int) -> None:
    clock, hands = ManualClock(NOW), Hands()
    behind, taken = RateLimited(tool(hands), clock, rate), list[datetime]()

    async def play() -> None:
        for number, gap in enumerate(gaps):
            await clock.wait_until(clock.now() + timedelta(milliseconds=gap))
            if (await behind.send(signed(number))).status is OrderStatus.LIVE:
                taken.append(clock.now())

    asyncio.run(play())
    for at in taken:
        assert sum(1 for t in taken if at <= t < at + timedelta(seconds=1)) <= 2 * rate


# -- limits of losses


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-100, 100)), max_size=30))
def test_results_are_the_sums_they_say(earned: list[tuple[int, int]]) -> None:
    results, total, best = Results(risk_limits()), 0, 0
    earned.sort(key=lambda e: e[0])
    for day, amount in earned:
        results.add(NOW + timedelta(days=day), amount)
        total += amount
        best = max(best, total)
    assert (results.total, results.best) == (total, best)
    if earned:
        last = earned[-1][0]
        assert results.today == sum(a for d, a in earned if d == last)
        assert max(results.days) == (NOW + timedelta(days=last)).date()


@pytest.mark.parametrize(
    ("earned", "said"),
    [
        ([(0, -60), (1, -50)], "realised loss of \\$110"),
        ([(0, 100), (1, -80)], "of 2026-11-02 of \\$80"),
        ([(0, 300), (1, -70), (2, -60)], "drawdown of realised profit"),
        ([(0, -70), (1, 60), (2, -70)], ""),
    ],
)
def test_each_limit_of_losses_is_told_apart(earned: list[tuple[int, int]], said: str) -> None:
    limits = risk_limits(loss=100 * UNIT, day=80 * UNIT, drawdown=120 * UNIT)
    results = Results(limits)
    for day, dollars in earned:
        results.add(NOW + timedelta(days=day), dollars * UNIT)
    reached = results.reached(max(results.days))
    assert [bool(re.search(said, r.sentence())) for r in reached] == [True] * bool(said)


# -- a run obeys


def obedient(home: Path, hands: Hands) -> tuple[KillSwitchWatcher, Execution, list[str]]:
    forgot: list[str] = []
    execution = Execution(tool(hands), cast(Any, None), LocalBus())
    return KillSwitchWatcher(
        KillSwitch(home), execution, tool(hands), ManualClock(NOW), lambda: forgot.append("losses")
    ), execution, forgot  # fmt: skip


def test_a_run_takes_its_orders_back_stays_halted_and_goes_on_when_told(tmp_path: Path) -> None:
    hands = Hands(deaf=2)
    watcher, execution, forgot = obedient(tmp_path, hands)

    async def play() -> None:
        await watcher.look()
        assert (execution.halted, hands.cancels) == ("", 0)
        KillSwitch(tmp_path).throw("hot", "a person", NOW)
        for _ in range(5):
            await watcher.look()
        assert (execution.halted, hands.cancels) == ("hot", 1)
        KillSwitch(tmp_path).release("cool", "a person", NOW)
        await watcher.look()
        assert (execution.halted, forgot) == ("", ["losses"])

    asyncio.run(play())


def test_a_halt_that_an_order_and_the_watcher_both_see_is_one_event(tmp_path: Path) -> None:
    watcher, execution, _ = obedient(tmp_path, Hands())
    heard: list[Event] = []
    assert isinstance(execution.bus, LocalBus)

    async def play() -> None:
        KillSwitch(tmp_path).throw("hot", "a person", NOW)
        execution.halt("seen by an order under way", NOW)
        await watcher.look()
        KillSwitch(tmp_path).release("cool", "a person", NOW)
        await watcher.look()
        execution.halt("a limit", NOW)

    with execution.bus.subscribed(Event, heard.append):
        asyncio.run(play())
    assert [type(event).__name__ for event in heard] == ["TradingHalted", "TradingResumed", "TradingHalted"]


def test_an_order_that_arrives_while_the_others_are_taken_back_is_taken_back_too(tmp_path: Path) -> None:
    hands = Hands(late=True)
    watcher, _, _ = obedient(tmp_path, hands)

    async def play() -> None:
        KillSwitch(tmp_path).throw("hot", "a person", NOW)
        for _ in range(5):
            await watcher.look()

    asyncio.run(play())
    assert hands.cancels == 2


def test_a_desk_that_halted_for_another_reason_is_not_set_going_by_a_switch_nobody_threw(tmp_path: Path) -> None:
    watcher, execution, _ = obedient(tmp_path, Hands())
    execution.halt("the disk is full", NOW)
    asyncio.run(watcher.look())
    assert execution.halted == "the disk is full"


def test_what_rests_is_taken_back_once_for_caution_which_passes_by_itself(tmp_path: Path) -> None:
    hands = Hands(deaf=1)
    watcher, execution, forgot = obedient(tmp_path, hands)

    async def looks(count: int) -> None:
        for _ in range(count):
            await watcher.look()

    execution.inhibitor.clock = "clock_differs"
    asyncio.run(looks(4))
    assert hands.cancels == 1 and not execution.halted and execution.idle(NOW)
    execution.inhibitor.clock = ""
    asyncio.run(looks(3))
    assert hands.cancels == 1 and not execution.idle(NOW) and not forgot
    execution.inhibitor.inhibit(InhibitSignal("news", NOW + timedelta(minutes=1)), NOW)
    asyncio.run(looks(3))
    assert hands.cancels == 2 and execution.idle(NOW)


def test_an_order_on_its_way_when_caution_begins_is_taken_back_too(tmp_path: Path) -> None:
    hands = Hands(late=True)
    watcher, execution, _ = obedient(tmp_path, hands)
    execution.inhibitor.clock = "clock_differs"

    async def play() -> None:
        for _ in range(5):
            await watcher.look()

    asyncio.run(play())
    assert hands.cancels == 2


def test_a_signal_throws_it(tmp_path: Path) -> None:
    import os
    import signal

    hands = Hands()
    watcher, execution, _ = obedient(tmp_path, hands)

    async def play() -> None:
        async with watching_kill_switch(watcher):
            os.kill(os.getpid(), signal.SIGUSR1)
            for _ in range(100):
                await asyncio.sleep(0.02)
                if hands.cancels:
                    return

    asyncio.run(play())
    assert execution.halted == "SIGUSR1 received"
    assert hands.cancels == 1
