"""Two agents with one instance at a real mosquitto: one has the name, the other says so, and a halt reaches both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiomqtt", reason="the extra `service` is not installed")

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.config.schema import Config
from agent.service import mqtt
from agent.service.commands import Commands
from agent.service.mqtt import Link
from agent.service.outbox import Outbox
from agent.service.pulse import Pulse
from agent.trading.bus import LocalBus
from agent.trading.inhibit import Inhibitor
from market.clock import WallClock
from storage.store import Store
from tests.broker import MOSQUITTO, PASSWORDS, Broker, client, serving
from tests.stores import open_store
from tests.values import pulse
from tools.halts import KillSwitch

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (Debian package mosquitto)")
BEAT = 0.2


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with serving(tmp_path / "broker") as made:
        yield made


@dataclass
class Agent:
    """An agent's side of the link: a home with a kill switch, a pulse, and the link as a task."""

    home: Path
    link: Link
    pulse: Pulse
    switch: KillSwitch
    task: asyncio.Task[None]

    @property
    def complains(self) -> bool:
        return any("another mqtt.instance" in remark for remark in self.pulse.remarks())

    async def kill(self) -> None:
        """End without a word, as by SIGKILL: the broker finds a connection that is closed."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def agent(broker: Broker, store: Store, home: Path) -> Agent:
    seen, switch, clock, inhibitor = pulse(), KillSwitch(home), WallClock(), Inhibitor()
    commands = Commands(
        config=Config(), switch=switch, pulse=seen, clock=clock, inhibitor=inhibitor, bus=LocalBus()
    )  # fmt: skip
    place = mqtt.Broker(
        host="127.0.0.1", port=broker.port, instance="edgeclaw", agent=home.name, username="edgeclaw",
        password=PASSWORDS["edgeclaw"], tls=None, heartbeat=BEAT, queue=10,
    )  # fmt: skip
    await asyncio.to_thread(home.mkdir)
    outbox = Outbox(store, "paper", home / "mqtt.json")
    await outbox.begin()
    link = Link(place, seen, outbox, commands.handle_command, commands.handle_signal)
    return Agent(home, link, seen, switch, asyncio.create_task(link.run()))


@dataclass
class Owner:
    """Hears everything, and commands."""

    way: Any
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def listen(self) -> None:
        async for message in self.way.messages:
            self.messages.append((str(message.topic), json.loads(bytes(message.payload))))

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [said for where, said in self.messages if where == topic]

    def beats(self, name: str) -> list[dict[str, Any]]:
        return [said for said in self.of("edgeclaw/edgeclaw/health") if said["agent"] == name]

    async def send(self, command: str, said: dict[str, Any]) -> None:
        asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        asked.ResponseTopic, asked.CorrelationData = "edgeclaw/replies/owner", command.encode()
        await self.way.publish(f"edgeclaw/edgeclaw/command/{command}", json.dumps(said), qos=1, properties=asked)


async def until(what: str, holds: Callable[[], object]) -> None:
    for _ in range(300):
        if holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"it never came to that {what}")


@dataclass
class Scene:
    broker: Broker
    owner: Owner
    store: Store
    place: Path
    agents: list[Agent] = field(default_factory=list)

    async def join(self, name: str) -> Agent:
        made = await agent(self.broker, self.store, self.place / name)
        self.agents.append(made)
        return made

    async def two(self) -> tuple[Agent, Agent]:
        """The first has lost its name to the second."""
        first = await self.join("first")
        await until("the first beats", lambda: self.owner.beats("first"))
        second = await self.join("second")
        await until("the first complains", lambda: first.complains)
        await until("both beat", lambda: self.owner.beats("second") and not self.owner.beats("first")[-1]["well"])
        return first, second


@asynccontextmanager
async def scene(broker: Broker, place: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store("sqlite://"))
        way = await stack.enter_async_context(client(broker, "owner"))
        await way.subscribe("edgeclaw/#", qos=1)
        owner = Owner(way)
        listening = asyncio.create_task(owner.listen())
        made = Scene(broker, owner, store, place)
        try:
            yield made
        finally:
            for one in made.agents:
                await one.kill()
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening


def test_the_second_agent_is_heard_of_in_one_sentence_and_nobody_fights(broker: Broker, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(broker, tmp_path) as on:
            first, second = await on.two()
            (sentence,) = first.pulse.remarks()
            assert (
                "mqtt.instance edgeclaw at 127.0.0.1" in sentence
                and sentence in on.owner.beats("first")[-1]["complaints"]
            )
            said = len(on.owner.of("edgeclaw/edgeclaw/status"))
            beats = {name: len(on.owner.beats(name)) for name in ("first", "second")}
            await until("both go on", lambda: all(len(on.owner.beats(n)) > beats[n] + 12 for n in beats))
            assert len(on.owner.of("edgeclaw/edgeclaw/status")) == said, "the name does not change hands"
            assert on.owner.of("edgeclaw/edgeclaw/status")[-1]["online"]
            assert first.complains and not second.complains

    asyncio.run(scenario())


def test_a_halt_reaches_both_and_is_answered_once(broker: Broker, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(broker, tmp_path) as on:
            first, second = await on.two()
            await on.owner.send("halt", {"reason": "a look"})
            for one in (first, second):
                await until("it is halted", one.switch.read)
                halted = one.switch.read()
                assert halted is not None and halted.reason == "a look"
            await on.owner.send("status", {})
            await until("it answers", lambda: len(on.owner.of("edgeclaw/replies/owner")) >= 2)
            at = [halted.at for one in (first, second) if (halted := one.switch.read())]
            await on.owner.send("resume", {"reason": "looked", "halt": at[1]})
            await until("the second goes on", lambda: second.switch.read() is None)
            beats = len(on.owner.beats("first"))
            await until("the first beats on", lambda: len(on.owner.beats("first")) > beats + 2)
            assert first.switch.read() is not None, "the other's halt was resumed, and no more"
            assert len(on.owner.of("edgeclaw/replies/owner")) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("said", [True, False], ids=["it says that it ends", "it dies"])
def test_the_name_comes_back_once_the_other_has_gone(broker: Broker, tmp_path: Path, said: bool) -> None:
    async def scenario() -> None:
        async with scene(broker, tmp_path) as on:
            first, second = await on.two()
            if said:
                second.link.ending.set()
                await second.task
            else:
                await second.kill()
            await until("the first has its name", lambda: not first.complains and not first.link.aside)
            await on.owner.send("status", {})
            await until("it answers by its name", lambda: on.owner.of("edgeclaw/replies/owner"))
            (answer,) = on.owner.of("edgeclaw/replies/owner")
            assert answer["result"]["health"]["well"] and on.owner.of("edgeclaw/edgeclaw/status")[-1]["online"]

    asyncio.run(scenario())


def test_a_halt_from_before_is_not_heard_again_when_the_name_is_lost_again(broker: Broker, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(broker, tmp_path) as on:
            first, second = await on.two()
            second.link.ending.set()
            await second.task
            await until("the first has its name", lambda: not first.link.aside)
            await on.owner.send("halt", {"reason": "long ago"})
            await until("it is halted", first.switch.read)
            first.switch.release("looked", "a person", WallClock().now())
            await on.join("third")
            await until("the first has lost it again", lambda: first.link.aside)
            beats = len(on.owner.beats("first"))
            await until("it listens", lambda: len(on.owner.beats("first")) > beats + 3)
            assert first.switch.read() is None

    asyncio.run(scenario())


def test_where_the_broker_shows_no_health_the_name_is_left_alone(broker: Broker, tmp_path: Path) -> None:
    """A broker as it was configured before: silence there is no sign that anybody has gone."""
    broker.kill()
    acl = broker.place / "acl"
    acl.write_text(
        "".join(x for x in acl.read_text().splitlines(keepends=True) if not x.endswith(("health\n", "/status\n")))
    )
    broker.start()

    async def scenario() -> None:
        async with scene(broker, tmp_path) as on:
            first, _ = await on.two()
            beats = len(on.owner.beats("first"))
            await until("the first beats on", lambda: len(on.owner.beats("first")) > beats + 12)
            assert first.link.aside and first.complains
            await on.owner.send("halt", {"reason": "a look"})
            await until("it is halted all the same", first.switch.read)

    asyncio.run(scenario())
