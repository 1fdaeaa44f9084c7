"""Events reach observers, and a failing observer reaches nobody."""

import logging
from pathlib import Path

import pytest

from agent.trading.bus import LocalBus
from agent.trading.event_log import event_log
from market import events
from market.errors import Misconfigured
from market.events import CycleStarted, Event, TradingHalted
from tests.fakes import START


def test_subscribers_hear_their_kind_while_subscribed() -> None:
    bus, heard = LocalBus(), list[Event]()
    with bus.subscribed(CycleStarted, heard.append):
        bus.publish(CycleStarted(at=START, markets=1))
        bus.publish(TradingHalted(at=START, reason="x"))
    bus.publish(CycleStarted(at=START, markets=2))
    assert heard == [CycleStarted(at=START, markets=1)]


def test_a_failing_observer_is_logged_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    def boom(event: Event) -> None:
        raise RuntimeError("no")

    bus, heard = LocalBus(), list[Event]()
    with caplog.at_level(logging.ERROR), bus.subscribed(Event, boom), bus.subscribed(Event, heard.append):
        bus.publish(CycleStarted(at=START, markets=1))
    assert len(heard) == 1 and "cycle/started" in caplog.text


def test_every_event_has_a_topic_of_its_own() -> None:
    kinds = [v for v in vars(events).values() if isinstance(v, type) and issubclass(v, Event) and v is not Event]
    assert len({k.topic for k in kinds}) == len(kinds) >= 6


def test_the_journal_appends_json_lines(tmp_path: Path) -> None:
    bus, path = LocalBus(), tmp_path / "logs" / "edge-ai.log"
    for _ in range(2):
        with event_log(bus, path):
            bus.publish(CycleStarted(at=START, markets=1))
    assert path.read_text().count('"topic": "cycle/started"') == 2
    with pytest.raises(Misconfigured, match="cannot write"), event_log(bus, tmp_path):
        pass
