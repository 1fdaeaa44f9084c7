"""The documented MQTT messages are those that are sent, and incoming ones are read strictly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent.config.schema import Config
from agent.service.commands import Commands
from agent.service.contract import COMMANDS, MONEY, schemas, told_events
from agent.trading.bus import LocalBus
from agent.trading.inhibit import Inhibitor
from market.clock import ManualClock
from market.events import SignalHeard
from market.types import UNIT
from tests.fakes import START
from tests.values import pulse
from tools.halts import KillSwitch


def topics() -> dict[str, Any]:
    found: Any = schemas()["topics"]
    return dict(found)


def described() -> list[tuple[str, dict[str, Any]]]:
    return [(topic, how["payload"]) for topic, how in topics().items()]


@pytest.mark.parametrize(("topic", "payload"), described())
def test_each_topic_has_a_valid_schema_with_a_version(topic: str, payload: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(payload)
    assert "v" in payload["properties"], topic
    assert not Draft202012Validator(payload).is_valid({"v": 2})


def test_every_event_every_record_about_money_and_every_command_is_described() -> None:
    known = topics()
    assert {f"event/{e.topic}" for e in told_events()} <= known.keys()
    assert {f"money/{kind.value}" for kind in MONEY} <= known.keys()
    assert {f"command/{name}" for name in COMMANDS} <= known.keys()
    assert all(known[t]["qos"] == 1 for t in known if t.startswith(("money/", "command/", "signal/")))


@asynccontextmanager
async def commanded(home: Path) -> AsyncIterator[tuple[Commands, LocalBus]]:
    bus = LocalBus()
    yield Commands(Config(), KillSwitch(home), pulse(), ManualClock(START), Inhibitor(), bus), bus


@pytest.mark.parametrize(
    ("name", "payload", "says"),
    [
        ("sell", b"{}", "There is no command sell: use one of halt, pause"),
        ("halt", b"[]", "A command is a JSON object."),
        ("halt", b"{", "A command is a JSON object."),
        ("halt", b'{"reason": 5}', "reason is wrong"),
        ("halt", b'{"raeson": "x"}', "raeson is wrong"),
        ("halt", b'{"v": 2}', "v is wrong"),
        ("resume", b"{}", "reason is wrong"),
        ("resume", b'{"reason": " "}', "resume needs a reason"),
        ("status", b'{"expires": "2026-01-01T00:00:00"}', "expires is wrong"),
        ("status", b'{"expires": "2020-01-01T00:00:00Z"}', "expired at"),
    ],
)
def test_what_is_no_command_is_refused_in_one_sentence(tmp_path: Path, name: str, payload: bytes, says: str) -> None:
    async def scope() -> None:
        async with commanded(tmp_path) as (commands, _):
            with pytest.raises(ValueError) as refused:  # noqa: PT011 - the sentence is looked at
                await commands.handle_command(name, payload)
            assert says in str(refused.value) and "\n" not in str(refused.value)
            assert commands.switch.read() is None

    asyncio.run(scope())


def test_every_command_answers_what_can_be_written_as_json(tmp_path: Path) -> None:
    async def scope() -> None:
        async with commanded(tmp_path) as (commands, _):
            for name in ("status", "limits", "config", "pause"):
                json.dumps(await commands.handle_command(name, b""))
            standing = commands.switch.read()
            assert standing is not None and standing.reason == "paused over MQTT"
            asked = json.dumps({"reason": "looked", "halt": standing.at}).encode()
            json.dumps(await commands.handle_command("resume", asked))
            assert commands.switch.read() is None

    asyncio.run(scope())


def test_a_signal_is_told_heeded_and_passes(tmp_path: Path) -> None:
    async def scope() -> None:
        async with commanded(tmp_path) as (commands, bus):
            heard: list[SignalHeard] = []
            later = START + timedelta(minutes=5)
            with bus.subscribed(SignalHeard, heard.append):
                await commands.handle_signal(
                    "news", json.dumps({"until": later.isoformat(), "why": "a speech"}).encode()
                )
            assert [(h.name, h.until, h.why) for h in heard] == [("news", later, "a speech")]
            assert commands.inhibitor.reason(START) == "signal_news" and not commands.inhibitor.reason(later)
            for name, payload in (
                ("News", b"{}"),
                ("news", b"{}"),
                ("news", b'{"until": "tomorrow"}'),
                ("a" * 33, b""),
            ):
                with pytest.raises(ValueError):  # noqa: PT011 - any sentence will do
                    await commands.handle_signal(name, payload)

    asyncio.run(scope())


@pytest.mark.parametrize("more", [{"margin": 25}, {"margin": "12.5"}, {"reset_limits": True}])
def test_where_a_limit_is_reached_a_resume_states_a_margin(tmp_path: Path, more: dict[str, Any]) -> None:
    async def scope() -> None:
        async with commanded(tmp_path) as (commands, _):
            commands.pulse.breach = lambda: "realised loss of $60.000000 reached the limit of $50.000000"
            halted = commands.switch.throw("lost", "a limit", START)
            asked = {"reason": "looked", "halt": halted.at}
            with pytest.raises(ValueError, match=r'loss of \$60\.0+ reached the limit of \$50\.0+\. .*"margin": 25'):
                await commands.handle_command("resume", json.dumps(asked).encode())
            for wrong in ({"margin": 0}, {"margin": -5}, {"margin": "much"}, {"margin": 1e-7}):
                with pytest.raises(ValueError, match="margin is wrong"):
                    await commands.handle_command("resume", json.dumps(asked | wrong).encode())
            assert commands.switch.read() == halted and not commands.switch.resumes()
            await commands.handle_command("resume", json.dumps(asked | more).encode())
            (resumed,) = commands.switch.resumes()
            margin = more.get("margin")
            assert resumed.margin == (None if margin is None else round(float(margin) * UNIT))
            assert resumed.reset == ("reset_limits" in more) and commands.switch.read() is None

    asyncio.run(scope())
