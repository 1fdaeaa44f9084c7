"""A live run and a real mosquitto: what is told, what is commanded, and that nothing about money is lost when the
broker is frozen or killed. The agent and the venue are processes of their own."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")
pytest.importorskip("aiomqtt", reason="the extra `service` is not installed")

import aiomqtt
from jsonschema import Draft202012Validator
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.service.contract import schemas
from tests.broker import MOSQUITTO, PASSWORDS, Broker, client, serving
from tests.running import Agent, venue

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (Debian package mosquitto)")
MONEY = ("intent", "ack", "fill", "settlement")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with serving(tmp_path / "broker") as made:
        yield made


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with venue() as (url, _):
        yield url


@contextmanager
def agent(url: str, home: Path, broker: Broker, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    home.mkdir(exist_ok=True)
    config = {"mqtt": broker.settings(home) | {"heartbeat": 0.5}}
    with Agent(url, home, ("join_best", "late_favourite", "agent"), config).running(*more) as process:
        yield process


@dataclass
class Heard:
    """Messages received by a subscriber with a session of its own, across connections."""

    broker: Broker
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [said for where, said in self.messages if where.startswith(f"edgeclaw/edgeclaw/{topic}")]

    def must_be_as_described(self) -> None:
        """Every payload is what its schema says."""
        described: Any = schemas()["topics"]
        for where, said in self.messages:
            topic = where.removeprefix("edgeclaw/edgeclaw/")
            if topic.startswith(("event/", "money/", "status", "health")):
                Draft202012Validator(described[topic]["payload"]).validate(said)

    async def listen(self) -> None:
        """Listen, and again when the broker comes back, until cancelled."""
        while True:
            with suppress(aiomqtt.MqttError):
                async with client(self.broker, "listener") as way:
                    await way.subscribe("edgeclaw/edgeclaw/#", qos=1)
                    async for message in way.messages:
                        self.messages.append((str(message.topic), json.loads(bytes(message.payload))))
            await asyncio.sleep(0.2)

    async def until(self, what: str, holds: Any, seconds: float = 120) -> None:
        ends = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends, f"it never came to that {what}"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[Heard]:
    heard = Heard(broker)
    task = asyncio.create_task(heard.listen())
    try:
        yield heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ask(
    broker: Broker, command: str, said: dict[str, Any], mark: bytes, times: int = 1, what: str = "command"
) -> list[dict[str, Any]]:
    """Command it, so many times alike; the answers."""
    async with client(broker, f"asker-{mark.hex()}") as way:
        await way.subscribe("edgeclaw/replies/owner", qos=1)
        asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        asked.ResponseTopic, asked.CorrelationData, asked.MessageExpiryInterval = "edgeclaw/replies/owner", mark, 30
        for _ in range(times):
            await way.publish(f"edgeclaw/edgeclaw/{what}/{command}", json.dumps(said), qos=1, properties=asked)
        answers = []
        async with asyncio.timeout(20):
            async for message in way.messages:
                if message.properties.CorrelationData == mark:
                    answers.append(json.loads(bytes(message.payload)))
                if len(answers) == times:
                    return answers
    raise AssertionError("unreachable")


def _reasons(heard: Heard) -> list[str]:
    return [said["reason"] for said in heard.of("event/decision/made")]


def written(home: Path) -> set[str]:
    """Hashes of all records about money in the log."""
    with closing(sqlite3.connect(f"file:{home / 'edgeclaw.db'}?mode=ro", uri=True)) as database:
        return {str(digest) for digest, kind in database.execute("SELECT hash, kind FROM records") if kind in MONEY}


def test_what_happens_is_told_and_what_is_commanded_is_done_once(address: str, broker: Broker, tmp_path: Path) -> None:
    home = tmp_path / "home"

    async def scenario() -> None:
        async with listening(broker) as heard:
            with agent(address, home, broker) as process:
                await heard.until("it is online", lambda: any(s["online"] for s in heard.of("status")))
                await heard.until("it trades", lambda: any(h["trading"] for h in heard.of("health")))
                await heard.until("an order is told", lambda: heard.of("money/intent"))
                await heard.until("a cycle is told", lambda: heard.of("event/cycle/started"))
                (told,) = await ask(broker, "status", {}, b"1")
                assert told["ok"] and told["result"]["stage"] == "trading"
                assert told["result"]["account"]["cash"] > 0 and told["result"]["halted"] is None
                (limits,) = await ask(broker, "limits", {}, b"2")
                assert limits["result"]["limits"]["order"] == "50"
                (unknown,) = await ask(broker, "sell_all", {}, b"3")
                assert not unknown["ok"] and "halt" in unknown["error"]
                (refused,) = await ask(broker, "resume", {}, b"4")
                assert not refused["ok"] and "reason" in refused["error"]
                (config,) = await ask(broker, "config", {}, b"5")
                assert PASSWORDS["edgeclaw"] not in json.dumps(config)
                (late,) = await ask(broker, "halt", {"expires": "2026-01-01T00:00:00Z"}, b"late")
                assert not late["ok"] and "expired at" in late["error"] and not (home / "halted").exists()
                soon = {"until": "2100-01-01T00:00:00Z", "why": "a speech"}
                (heeded,) = await ask(broker, "speech", soon, b"s1", what="signal")
                assert heeded["result"]["standing"][0]["name"] == "speech"
                await heard.until("nothing is opened", lambda: _reasons(heard)[-1:] == ["signal_speech"])
                (over,) = await ask(broker, "speech", soon | {"until": "2026-01-01T00:00:00Z"}, b"s2", what="signal")
                assert over["result"]["standing"] == []
                (unsaid,) = await ask(broker, "No!", soon, b"s3", what="signal")
                assert not unsaid["ok"]
                first, again = await ask(broker, "halt", {"reason": "a look"}, b"6", times=2)
                assert first == again and first["ok"], "a command that comes twice is done once"
                await heard.until("the halt is told", lambda: heard.of("event/halt/raised"))
                assert (home / "halted").exists()
                halts = (home / "halts.jsonl").read_text().count("a look")
                assert halts == 1
                for stale in ({}, {"halt": "2026-01-01T00:00:00+00:00"}):
                    (late,) = await ask(broker, "resume", {"reason": "looked", **stale}, b"7" + str(stale).encode())
                    assert not late["ok"] and "a look" in late["error"] and (home / "halted").exists()
                named = {"reason": "looked", "halt": first["result"]["at"]}
                (resumed,) = await ask(broker, "resume", named, b"8")
                assert resumed["ok"] and not (home / "halted").exists()
                process.kill()
                await heard.until("its last will is told", lambda: heard.of("status")[-1]["online"] is False)
            secret = PASSWORDS["edgeclaw"]
            assert not any(secret in json.dumps(said) for _, said in heard.messages)
            heard.must_be_as_described()

    asyncio.run(scenario())


def test_no_record_about_money_is_lost_when_the_broker_freezes_and_dies(
    address: str, broker: Broker, tmp_path: Path
) -> None:
    home = tmp_path / "home"

    async def scenario() -> None:
        async with listening(broker) as heard:
            with agent(address, home, broker, "--cycles", "6") as process:
                await heard.until("an order is told", lambda: heard.of("money/intent"))
                broker.send(signal.SIGSTOP)
                await asyncio.sleep(4)
                broker.send(signal.SIGCONT)
                await asyncio.sleep(2)
                broker.kill()
                await asyncio.sleep(3)
                broker.start()
                before = len(heard.of("money/"))
                await heard.until("more is told", lambda: len(heard.of("money/")) > before)
                broker.kill()
                await asyncio.to_thread(process.wait, 120)
                assert process.returncode == 0, home.with_name("home.out").read_text()[-1500:]
                assert written(home) - {said["id"] for said in heard.of("money/")}, "some were still to be told"
                broker.start()
            with agent(address, home, broker, "--cycles", "1") as process:  # the next run tells the rest
                await asyncio.to_thread(process.wait, 120)
                assert process.returncode == 0, home.with_name("home.out").read_text()[-1500:]
            await heard.until(
                "everything is told", lambda: written(home) <= {said["id"] for said in heard.of("money/")}
            )
            heard.must_be_as_described()
            await heard.until("it says that it ends", lambda: heard.of("status")[-1]["online"] is False)

    asyncio.run(scenario())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("known", [True, False])
def test_over_tls_the_brokers_certificate_is_checked(address: str, tmp_path: Path, known: bool) -> None:
    """One that is not known is told nothing, and the agent trades all the same."""
    (tmp_path / "broker").mkdir()
    broker, home = Broker(tmp_path / "broker"), tmp_path / "home"
    port, certificate = broker.secured()
    broker.start()
    home.mkdir()
    secure = {"port": port, "tls": True, "ca_file": str(certificate) if known else ""}
    trader = Agent(address, home, config={"mqtt": broker.settings(home) | secure})

    async def scenario() -> None:
        async with listening(broker) as heard:
            with trader.running():
                await heard.until("it trades", lambda: trader.happened("order/placed"))
                if known:
                    await heard.until("it is heard of", lambda: heard.of("status"))
                else:
                    await asyncio.sleep(3)
                    assert not heard.messages and "certificate" in trader.said()

    try:
        asyncio.run(scenario())
    finally:
        broker.kill()
