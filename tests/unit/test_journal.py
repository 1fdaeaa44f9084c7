"""Lines of the operator's log: every event has its form, amounts are exact, and what repeats itself is said once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("structlog", reason="the extra `live` is not installed")

from agent.service.contract import told_events
from agent.service.journal import EventLines, LogLine
from agent.service.supervision import HealthWatch
from agent.trading.bus import LocalBus
from market import events
from market.events import Event, HealthChanged, JobDone, OrderEnd
from market.polymarket.outages import OutageReport
from market.types import (
    OVER,
    UNIT,
    Fill,
    FillEvidence,
    Micro,
    Order,
    OrderStatus,
    Outcome,
    PayoutSource,
    Settlement,
    Side,
    TimeInForce,
)
from storage.canonical import plain
from tests.fakes import START, market

ORDER = Order(
    market_id="0x0000",
    outcome=Outcome.YES,
    side=Side.BUY,
    price=Decimal("0.73"),
    size=13_690_000,
    tif=TimeInForce.GTC,
    placed_at=START,
    key="late_favourite:0x0000/2",
)
MICROS = st.integers(-(10**15), 10**15)


def fill_of(size: Micro, fee: Micro = 0) -> Fill:
    return Fill(
        id="f",
        order_id="0xabc",
        market_id="0x0000",
        outcome=Outcome.YES,
        side=Side.BUY,
        price=Decimal("0.73"),
        size=size,
        fee=fee,
        at=START,
        evidence=FillEvidence.VENUE,
    )


def ended(filled: Micro, status: OrderStatus = OrderStatus.CANCELED) -> events.OrderEnded:
    return events.OrderEnded(
        at=START,
        order_id="0xabc",
        order=ORDER,
        end=OrderEnd.of(ORDER, status, START),
        status=status,
        reason="",
        filled=filled,
    )


def lines_of(*told: Event) -> list[LogLine]:
    lines = EventLines()
    return [lines.line(event) for event in told]


def test_every_event_has_an_action_of_its_own() -> None:
    """None is left to the form for events that nobody has thought of."""
    from agent.service.journal import _FORMS

    assert set(_FORMS) == set(told_events())


def test_an_event_without_a_form_is_told_as_it_is() -> None:
    class Unheard(events.SlotSkipped):
        topic = "un/heard"

    (line,) = lines_of(Unheard(at=START, reason="x"))
    assert (line.action, dict(line.fields)) == ("un/heard", {"reason": "x"})


def test_an_order_is_followed_from_its_placing_to_its_end_and_result() -> None:
    paid = Settlement("0x0000", Outcome.YES, 5 * UNIT, Decimal(1), PayoutSource.OFFICIAL, START)
    placed, fill, end, settled = lines_of(
        events.OrderPlaced(at=START, order_id="0xabc", order=ORDER, slug=market().slug),
        events.OrderFilled(at=START, fill=fill_of(5 * UNIT, fee=10_000)),
        ended(5 * UNIT),
        events.PositionSettled(at=START, settlement=paid, paid=3_660_000),
    )
    assert [line.action for line in (placed, fill, end, settled)] == ["order", "fill", "cancel", "settlement"]
    assert placed.fields["cost"] == "9.9937" and placed.fields["decision"] == "late_favourite:0x0000"
    assert (fill.fields["cost"], fill.fields["fee"]) == ("3.66", "0.01")
    assert (fill.fields["filled"], fill.fields["of"]) == (end.fields["filled"], end.fields["of"]) == ("5", "13.69")
    assert (settled.fields["cash"], settled.fields["paid"], settled.fields["result"]) == ("5", "3.66", "1.34")
    assert {line.fields["slug"] for line in (placed, fill, end, settled)} == {market().slug}


@given(size=MICROS, fee=MICROS)
def test_amounts_are_exact_decimal_text(size: Micro, fee: Micro) -> None:
    (line,) = lines_of(events.OrderFilled(at=START, fill=fill_of(size, fee)))
    for name, micros in (("size", size), ("fee", fee), ("cost", -fill_of(size, fee).cash)):
        text = str(line.fields[name])
        assert Decimal(text) * UNIT == micros and "E" not in text


@given(
    status=st.sampled_from(sorted(OVER - {OrderStatus.REJECTED})), tif=st.sampled_from(TimeInForce), late=st.booleans()
)
def test_an_end_has_one_name_for_every_order(status: OrderStatus, tif: TimeInForce, late: bool) -> None:
    until = START + timedelta(seconds=-1 if late else 1)
    end = OrderEnd.of(replace(ORDER, tif=tif, good_until=until), status, START)
    assert (end is OrderEnd.FILLED) == (status is OrderStatus.MATCHED)
    if status is OrderStatus.CANCELED:
        expected = OrderEnd.EXPIRED if late else OrderEnd.CANCELLED
        assert end is (expected if tif is TimeInForce.GTC else OrderEnd.KILLED)


def test_a_market_taken_on_from_an_earlier_process_has_its_name() -> None:
    start = events.RunStarted(
        at=START, run_id="r", account="a", mode="live", traders=("agent",), engine="m", resumed=True,
        unsettled=(("0x0000", market().slug),),
    )  # fmt: skip
    _, fill = lines_of(start, events.OrderFilled(at=START, fill=fill_of(UNIT)))
    assert fill.fields["slug"] == market().slug
    assert fill.fields["filled"] is None, "how much was filled before is not known here"


def test_a_fill_that_is_taken_back_is_a_warning() -> None:
    assert [line.level for line in lines_of(*(events.OrderFilled(at=START, fill=fill_of(n)) for n in (1, -1)))] == [
        "info",
        "warning",
    ]


def job(says: str, *, ok: bool = True) -> JobDone:
    return JobDone(at=START, name="health", ok=ok, says=says, milliseconds=1.0)


def test_a_job_is_told_once_until_it_has_something_new_to_say() -> None:
    told = [
        job(""),
        job("low disk", ok=False),
        job("low disk", ok=False),
        job(""),
        job("low disk", ok=False),
        job("ok"),
    ]
    assert [line.level for line in lines_of(*told)] == ["debug", "warning", "debug", "debug", "warning", "info"]


def test_a_stop_that_was_asked_for_is_no_error() -> None:
    def level(finished: bool, reason: str) -> str:
        return lines_of(events.RunStopped(at=START, run_id="r", finished=finished, reason=reason))[0].level

    assert [level(True, "its slots are done"), level(False, "interrupted"), level(False, "The disk is full.")] == [
        "info",
        "info",
        "error",
    ]


def test_lines_are_json_whatever_the_event() -> None:
    for line in lines_of(
        ended(0), job("x"), events.TradingResumed(at=START), events.TradingHalted(at=START, reason="x")
    ):
        assert json.loads(json.dumps(plain(dict(line.fields)))) is not None


class _Heard:
    def __init__(self) -> None:
        self.bus, self.got = LocalBus(), list[Event]()


@pytest.fixture
def heard() -> _Heard:
    return _Heard()


def health(heard: _Heard, *looks: Sequence[str]) -> list[tuple[str, bool]]:
    with heard.bus.subscribed(HealthChanged, heard.got.append):
        watch = HealthWatch(heard.bus)
        for remarks in looks:
            watch.look(remarks, START)
    return [(event.complaint, event.over) for event in heard.got if isinstance(event, HealthChanged)]


def test_a_complaint_is_told_when_it_begins_and_when_it_is_over(heard: _Heard) -> None:
    silent = "No market data for {} s."
    told = health(heard, [], [silent.format(61)], [silent.format(62), "The engine hangs."], ["The engine hangs."], [])
    assert told == [
        (silent.format(61), False),
        ("The engine hangs.", False),
        (silent.format(61), True),
        ("The engine hangs.", True),
    ]


def test_an_outage_is_one_loss_and_one_return_however_often_it_was_tried(heard: _Heard) -> None:
    from market.clock import WallClock

    with heard.bus.subscribed(Event, heard.got.append):
        report = OutageReport("user", WallClock(), heard.bus.publish)
        for why in ("", "reset", "refused", "refused", "", "", "reset", ""):
            report(why)
    assert [(type(e).__name__, getattr(e, "reason", "")) for e in heard.got] == [
        ("ConnectionLost", "reset"),
        ("ConnectionRestored", ""),
        ("ConnectionLost", "reset"),
        ("ConnectionRestored", ""),
    ]


def test_an_unexpected_error_is_logged_without_its_secrets_and_not_printed() -> None:
    import os

    import typer

    from agent.cli.run import _end_logged
    from agent.service.journal import RunLogger
    from agent.service.logstream import open_stream

    ours, theirs = os.pipe()
    with os.fdopen(ours) as read:
        with os.fdopen(theirs, "w") as file:
            stream = open_stream("info", file, {})
            with pytest.raises(typer.Exit) as ended, _end_logged(RunLogger(stream)):
                os.stat("/nowhere/postgresql://edgeclaw:hunter2@db/edgeclaw")
            stream.close()
        (line,) = [json.loads(text) for text in read]
    assert ended.value.exit_code == 1
    assert (line["action"], line["level"]) == ("crash", "critical")
    assert "FileNotFoundError" in line["exception"] and "hunter2" not in json.dumps(line)
