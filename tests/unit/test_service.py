"""What surrounds a run: when it is called well, what systemd hears over a real socket, what the pages say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
import yaml

from tests.servers import until
from tests.values import pulse as pulse_with

pytest.importorskip("prometheus_client", reason="the extra `service` is not installed")

from agent.config.schema import ServiceConfig
from agent.llm.engine import EngineHealth
from agent.llm.scripted import ScriptedEngine
from agent.service.metrics import Metrics
from agent.service.notify import Notifier
from agent.service.pulse import Pulse, beating, watching_slots
from agent.service.supervision import attended
from agent.service.web import serving
from agent.trading.bus import LocalBus
from market.clock import WallClock, monotonic
from market.errors import NotReady
from market.events import (
    CalibrationMeasured,
    CycleStarted,
    DecisionMade,
    HealthChanged,
    JobDone,
    OrderEnd,
    OrderEnded,
    OrderFilled,
    OrderPlaced,
    OrderRefused,
    PositionSettled,
    SlotSkipped,
    TradingHalted,
)
from market.incidents import Incidents
from market.types import (
    UNIT,
    Fill,
    FillEvidence,
    Order,
    OrderStatus,
    Outcome,
    PayoutSource,
    Settlement,
    Side,
    TimeInForce,
)
from tests.fakes import START


class Keeper:
    """A socket as systemd holds it, and what was said to it."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> list[str]:
        lines = []
        while True:
            try:
                lines.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return lines


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_that_it_trades_and_is_fed_only_while_all_is_well(tmp_path: Path, abstract: bool) -> None:
    address = f"@edgeclaw-{os.getpid()}" if abstract else str(tmp_path / "notify")
    keeper = Keeper(address)
    notifier = Notifier.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.interval == pytest.approx(0.02)
    market, pulse, said = [monotonic()], pulse_with(silence=30, lag=60), list[str]()

    def hears(what: str) -> bool:
        said.extend(keeper.heard())
        return any(line.startswith(what) for line in said)

    async def scenario() -> None:
        async with beating(pulse, ScriptedEngine(), notifier):
            await until(lambda: hears("WATCHDOG=1"))
            assert not hears("READY=1"), "alive while it starts, and not ready"
            pulse.stage, pulse.trading, pulse.heard = "trading", True, lambda: market[0]
            await until(lambda: hears("READY=1") and hears("STATUS=trading"))
            market[0] = monotonic() - 31
            await until(lambda: hears("STATUS=No market data for 3"))
            said.clear()
            for _ in range(3):
                await until(lambda: hears("STATUS=No market data"))
                assert not hears("WATCHDOG=1")
                said.clear()
            market[0] = monotonic()
            await until(lambda: hears("WATCHDOG=1"))  # it comes back by itself
            assert not hears("READY=1"), "said once"
        assert keeper.heard()[-1] == "STOPPING=1"

    asyncio.run(scenario())
    keeper.socket.close()


def test_a_loop_that_stood_still_is_complained_of_for_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("agent.service.pulse.monotonic", lambda: clock[0])

    async def scenario() -> None:
        pulse = pulse_with(lag=0.2)
        async with beating(pulse, ScriptedEngine(), Notifier()):
            await until(lambda: len(pulse.late) > 1)
            assert pulse.complaints() == ()
            clock[0] += 5.0
            await until(lambda: pulse.lag > 4)
            assert "Event loop lag of" in pulse.complaints()[0]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("health", "said"), [(EngineHealth(False, "The server is not well."), "not well"), (RuntimeError(), "RuntimeError")]
)
def test_an_engine_that_is_not_well_or_does_not_say_is_complained_of(
    health: EngineHealth | Exception, said: str
) -> None:
    class Ill(ScriptedEngine):
        async def health(self) -> EngineHealth:
            if isinstance(health, Exception):
                raise health
            return health

    async def scenario() -> None:
        pulse = pulse_with()
        async with beating(pulse, Ill(), Notifier()):
            await asyncio.sleep(0.05)
            assert said in pulse.complaints()[0]

    asyncio.run(scenario())


def test_nothing_is_said_where_nobody_listens_or_another_process_is_meant(tmp_path: Path) -> None:
    other = Notifier.of({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert not other.watched
    other.ready()  # a keeper that is gone is no reason to fall
    Notifier.of({}).alive()


async def _got(port: int, page: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{page}") as answer:
        return answer.status, await answer.text()


def _pages(scenario: Callable[[int, Pulse, LocalBus, list[str]], object]) -> None:
    async def scope() -> None:
        pulse, bus, halted = pulse_with(), LocalBus(), [""]
        metrics = Metrics(pulse)
        with metrics.counting(bus):
            async with serving("127.0.0.1:0", pulse, metrics, lambda: halted[0]) as port:
                await scenario(port, pulse, bus, halted)  # type: ignore[misc]

    asyncio.run(scope())


def test_health_and_readiness_are_two_things() -> None:
    async def scenario(port: int, pulse: Pulse, bus: LocalBus, halted: list[str]) -> None:
        assert (await _got(port, "/healthz"))[0] == 200
        status, text = await _got(port, "/readyz")
        assert status == 503 and json.loads(text)["complaints"] == ["Not trading yet: starting."]
        pulse.trading = True
        assert (await _got(port, "/readyz"))[0] == 200
        halted[0] = "a look at the books"
        status, text = await _got(port, "/readyz")
        assert status == 503 and "a look at the books" in text and (await _got(port, "/healthz"))[0] == 200
        halted[0], pulse.engine = "", "The model is gone."
        assert (await _got(port, "/healthz"))[0] == 503
        assert (await _got(port, "/other"))[0] == 404

    _pages(scenario)


def test_what_happens_is_counted() -> None:
    order = Order("0x1", Outcome.YES, Side.BUY, Decimal("0.5"), 10 * UNIT, TimeInForce.FAK, START, "k")
    fill = Fill(
        "f", "o", "0x1", Outcome.YES, Side.BUY, Decimal("0.5"), 10 * UNIT, 70_000, START, FillEvidence.BOOK_CROSS, False
    )
    settled = Settlement("0x1", Outcome.YES, 10 * UNIT, Decimal(1), PayoutSource.OFFICIAL, START)
    decision = DecisionMade(
        at=START, decision_id="d", market_id="0x1", slug="s", closes_at=START, action="abstain", reason="thin_history",
        bid=None, ask=None, mid=None, probability=None, phase_tokens=(("search", 30), ("verify", 4)),
        phase_seconds=(("search", 0.5), ("verify", 0.125)), dollars=1e-6, milliseconds=12.0,
    )  # fmt: skip

    async def scenario(port: int, pulse: Pulse, bus: LocalBus, halted: list[str]) -> None:
        pulse.at_risk, pulse.realised = lambda: 5_070_000, lambda: 4_930_000
        pulse.queues["mqtt"] = lambda: 7
        bus.publish(CycleStarted(at=START, markets=1, late=0.004))
        bus.publish(SlotSkipped(at=START, reason="slot_missed"))
        bus.publish(JobDone(at=START, name="health", ok=False, says="no", milliseconds=1.0))
        bus.publish(CalibrationMeasured(at=START, windows=3, log_score=-0.6, mid_log_score=-0.5))
        bus.publish(decision)
        bus.publish(OrderPlaced(at=START, order_id="o", order=order))
        bus.publish(OrderRefused(at=START, order_id="o", reason="too large"))
        bus.publish(OrderFilled(at=START, fill=fill))
        bus.publish(
            OrderEnded(
                at=START,
                order_id="o",
                order=order,
                end=OrderEnd.KILLED,
                status=OrderStatus.CANCELED,
                reason="",
                filled=0,
            )
        )
        bus.publish(PositionSettled(at=START, settlement=settled))
        bus.publish(TradingHalted(at=START, reason="a look"))
        _, text = await _got(port, "/metrics")
        for line in (
            "edgeclaw_cycles_total 1.0",
            'edgeclaw_decisions_total{action="abstain",reason="thin_history"} 1.0',
            'edgeclaw_tokens_total{phase="search"} 30.0',
            f'edgeclaw_orders_total{{side="{Side.BUY.value}"}} 1.0',
            "edgeclaw_orders_refused_total 1.0",
            'edgeclaw_orders_ended_total{end="killed"} 1.0',
            'edgeclaw_fills_total{evidence="book_cross"} 1.0',
            "edgeclaw_filled_dollars_total 5.0",
            "edgeclaw_fee_dollars_total 0.07",
            f"edgeclaw_cash_flow_dollars {(fill.cash + settled.cash) / UNIT}",
            "edgeclaw_profit_dollars 4.93",
            'edgeclaw_slot_late_seconds_bucket{le="0.005"} 1.0',
            'edgeclaw_slots_skipped_total{reason="slot_missed"} 1.0',
            'edgeclaw_phase_seconds_total{phase="verify"} 0.125',
            "edgeclaw_engine_tokens_per_second 54.4",
            'edgeclaw_jobs_total{name="health",ok="false"} 1.0',
            "edgeclaw_log_score -0.6",
            "edgeclaw_mid_log_score -0.5",
            "edgeclaw_halts_total 1.0",
            'edgeclaw_queue_depth{queue="mqtt"} 7.0',
            "edgeclaw_at_risk_dollars 5.07",
            "edgeclaw_halted 1.0",
            'edgeclaw_decision_seconds_bucket{le="0.03"} 1.0',
            "edgeclaw_well 1.0",
        ):
            assert line in text.splitlines(), line

    _pages(scenario)


def test_an_address_that_is_taken_is_one_sentence() -> None:
    async def scenario() -> None:
        pulse = pulse_with()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            where = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(NotReady, match="cannot be listened on"):
                async with serving(where, pulse, Metrics(pulse), str):
                    pass

    asyncio.run(scenario())


def test_rules_and_dashboard_ask_for_figures_that_there_are() -> None:
    """A renamed figure must not silence an alert."""
    told = Metrics(pulse_with()).text().decode()
    known = set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
    known |= {f"{name}_bucket" for name in known} | {f"{name.removesuffix('_total')}_total" for name in known}
    for name in ("prometheus-alerts.yaml", "grafana-dashboard.json"):
        text = (Path(__file__).parents[2] / "deploy" / name).read_text()
        asked = set(re.findall(r"\b(?:edgeclaw|process)_[a-z_]+", text))
        assert asked, name
        assert asked <= known, (name, asked - known)
    rules = yaml.safe_load((Path(__file__).parents[2] / "deploy/prometheus-alerts.yaml").read_text())
    assert all({"alert", "expr", "labels", "annotations"} <= rule.keys() for rule in rules["groups"][0]["rules"])
    board = json.loads((Path(__file__).parents[2] / "deploy/grafana-dashboard.json").read_text())
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)


def test_three_slots_without_a_market_are_a_complaint_until_one_has_one() -> None:
    bus, seen = LocalBus(), pulse_with()
    with watching_slots(seen, bus):
        for _ in range(2):
            bus.publish(SlotSkipped(at=START, reason="no_market"))
        bus.publish(SlotSkipped(at=START, reason="slot_missed"))
        assert not seen.remarks()
        bus.publish(SlotSkipped(at=START, reason="no_market"))
        assert "No market was open at the last 3 slots" in seen.remarks()[0]
        bus.publish(CycleStarted(at=START, markets=1, late=0.0))
        assert not seen.remarks()


def test_what_the_feed_counts_is_in_metrics_and_what_troubles_it_in_the_remarks() -> None:
    health, seen = Incidents({"refused": "Market events could not be decoded", "unanswered": "Not asked"}), pulse_with()
    seen.counters["feed"], seen.troubles["feed"] = health.counts, health.recent
    assert not seen.remarks()
    health.note("refused", "'2' is no price.")
    assert seen.remarks() == ("Market events could not be decoded (1 since the start), the last: '2' is no price.",)
    text = Metrics(seen).text().decode()
    assert 'edgeclaw_counted{source="feed",what="refused"} 1.0' in text
    assert 'edgeclaw_counted{source="feed",what="unanswered"} 0.0' in text


def test_what_observers_count_is_exported_and_a_complaint_is_an_event_when_it_begins_and_ends() -> None:
    async def scenario() -> None:
        pulse, bus, heard = pulse_with(), LocalBus(), list[tuple[str, bool]]()
        bus.counters["journal"] = lambda: {"dropped": 3}
        service = ServiceConfig(listen="127.0.0.1:0")
        with bus.subscribed(HealthChanged, lambda e: heard.append((e.complaint, e.over))):
            async with attended(service, bus, pulse, ScriptedEngine(), str, WallClock()) as port:
                _, text = await _got(port, "/metrics")
                assert 'edgeclaw_counted{source="journal",what="dropped"} 3.0' in text.splitlines()
                pulse.warn("disk", "Room on the disk is short.")
                await until(lambda: len(heard) == 1)
                pulse.warn("disk", "")
                await until(lambda: len(heard) == 2)
        assert heard == [("Room on the disk is short.", False), ("Room on the disk is short.", True)]

    asyncio.run(scenario())
