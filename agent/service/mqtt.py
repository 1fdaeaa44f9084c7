"""Events out and commands in over MQTT 5, beside the run: nothing about money or time waits for a broker.

Events go through a queue that drops its oldest; records about money are read from the run's own log from
the last one that the broker confirmed, so that they arrive at least once whatever fails. Commands are answered
once each, however often they arrive.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiomqtt import Client, Message, MqttError, ProtocolVersion, Will
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.service.contract import VERSION, HealthTold
from agent.service.outbox import Outbox
from agent.service.pulse import Pulse
from agent.trading.bus import LocalBus
from market.clock import WallClock
from market.errors import EdgeclawError, StoreUnavailable
from market.events import Event
from storage.canonical import Json, encoded, plain

log = logging.getLogger(__name__)
_SOON, _LATE = 1.0, 60.0
"""Seconds before the first reconnect, and at most before a later one."""
_ANSWER, _LOOK, _FLUSH = 10.0, 1.0, 5.0
"""Seconds: for the broker to answer, between two reads of the log, and for publishing the rest at the end."""
_ALWAYS_DONE = frozenset({"halt", "pause"})
"""Commands that are never answered from memory."""
_REMEMBERED = 1024
_SESSION = 3600
"""Seconds for which the broker keeps commands for an agent that is away."""

Heeded = Callable[[str, bytes], Awaitable[Json]]
"""Handler of a name and a payload; a ValueError is the reply to the sender."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Address of a broker and the connection's settings. `instance` is this agent's part of every topic."""

    host: str
    port: int
    instance: str
    username: str
    password: str
    tls: ssl.SSLContext | None
    heartbeat: float
    queue: int

    def topic(self, *parts: str) -> str:
        return "/".join(("edgeclaw", self.instance, *parts))


@dataclass(slots=True)
class Link:
    """The connection to one broker. `dropped` counts events that the queue had no room for."""

    broker: Broker
    pulse: Pulse
    outbox: Outbox
    handle_command: Heeded
    handle_signal: Heeded
    dropped: int = 0
    waiting: deque[Event] = field(init=False)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    answered: OrderedDict[tuple[Hashable, ...], str] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.waiting = deque(maxlen=self.broker.queue)

    def heard(self, event: Event) -> None:
        """Queue an event from the bus. Never waits."""
        # A full deque drops its oldest element on append.
        self.dropped += len(self.waiting) == self.waiting.maxlen
        self.waiting.append(event)
        self.news.set()

    async def run(self) -> None:
        """Connect, and reconnect after errors, until cancelled; once `ending` is set, until all records about money are
        published."""
        pause = _SOON
        while True:
            try:
                async with self._client() as client:
                    pause = _SOON
                    await self._talk(client)
                    return
            except (MqttError, OSError, TimeoutError, StoreUnavailable) as error:
                log.warning("MQTT broker %s unreachable (%s); retrying", self.broker.host, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LATE)

    def _client(self) -> Client:
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = _SESSION
        return Client(
            self.broker.host,
            self.broker.port,
            username=self.broker.username or None,
            password=self.broker.password or None,
            identifier=f"edgeclaw-{self.broker.instance}",
            protocol=ProtocolVersion.V5,
            # Published by the broker if the connection ends without a DISCONNECT.
            will=Will(self.broker.topic("status"), _payload({"online": False}), 1, True),
            # A persistent session: the broker queues commands while the agent reconnects.
            clean_start=False,
            properties=kept,
            keepalive=max(5, round(2 * self.broker.heartbeat)),
            timeout=_ANSWER,
            tls_context=self.broker.tls,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    async def _talk(self, client: Client) -> None:
        """Serve one connection, until it breaks or nothing is left to publish."""
        # Subscribed before "online" is published: who sees it may send a command at once.
        await client.subscribe([(self.broker.topic(what, "+"), 1) for what in ("command", "signal")])
        await client.publish(self.broker.topic("status"), _payload({"online": True}), qos=1, retain=True)
        account = asyncio.create_task(self._publish_money(client))
        others = [
            asyncio.create_task(w)
            for w in (self._publish_events(client), self._beat(client), self._take_commands(client))
        ]
        work = [account, *others]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await client.publish(self.broker.topic("status"), _payload({"online": False}), qos=1, retain=True)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _publish_events(self, client: Client) -> None:
        """Publish events as they come, at most once each."""
        while True:
            await self.news.wait()
            self.news.clear()
            while self.waiting:
                event = self.waiting.popleft()
                await client.publish(self.broker.topic("event", event.topic), _payload(_fields(event)), qos=0)

    async def _publish_money(self, client: Client) -> None:
        """Publish records about money, each until the broker has confirmed it."""
        while True:
            for record in await self.outbox.next():
                said: dict[str, Json] = {
                    "id": record.hash,
                    "run": record.run_id,
                    "seq": record.seq,
                    "at": record.at.isoformat(),
                    "body": record.body,
                }
                await client.publish(self.broker.topic("money", record.kind.value), _payload(said), qos=1)
                # After the broker's acknowledgement (QoS 1): a crash before this line publishes the record again.
                await self.outbox.confirmed(record)
            if self.ending.is_set() and not await self.outbox.next():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ending.wait(), _LOOK)

    async def _beat(self, client: Client) -> None:
        while True:
            pulse = self.pulse
            remarks = pulse.remarks()
            health = HealthTold(
                at=WallClock().now().isoformat(),
                well=not remarks,
                complaints=remarks,
                stage=pulse.stage,
                trading=pulse.trading,
                lag=round(pulse.lag, 3),
                silence=round(pulse.silence, 3),
                dropped=self.dropped,
                waiting=len(self.waiting),
            )
            await client.publish(self.broker.topic("health"), _payload(_fields(health)), qos=0)
            await asyncio.sleep(self.broker.heartbeat)

    async def _take_commands(self, client: Client) -> None:
        async for message in client.messages:
            answer = await self._answer(message)
            asked = message.properties
            where = getattr(asked, "ResponseTopic", None)
            if where is None or answer is None:
                continue
            reply = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if (mark := getattr(asked, "CorrelationData", None)) is not None:
                reply.CorrelationData = mark
            await client.publish(where, answer, qos=1, properties=reply)

    async def _answer(self, message: Message) -> str | None:
        """Reply to a command or a signal; to a repeated one, equal in every byte and its reply topic, the same
        reply. Only a halt is carried out each time: it does no harm twice, and must never be taken for done. A retained
        command is ignored, because it was meant for another time; a signal carries its own expiry."""
        *_, what, name = str(message.topic).split("/")
        if message.retain and what == "command":
            return None
        payload = bytes(message.payload or b"")
        mark = getattr(message.properties, "CorrelationData", None)
        asked = (mark, what, name, payload, getattr(message.properties, "ResponseTopic", None))
        cached = mark is not None and name not in _ALWAYS_DONE
        if cached and asked in self.answered:
            return self.answered[asked]
        work = self.handle_command if what == "command" else self.handle_signal
        answer = _payload(await _done(work, name, payload))
        if cached:
            self.answered[asked] = answer
            if len(self.answered) > _REMEMBERED:
                self.answered.popitem(last=False)
        return answer


async def _done(work: Heeded, name: str, payload: bytes) -> dict[str, Json]:
    try:
        return {"ok": True, "result": await work(name, payload)}
    except (ValueError, EdgeclawError) as error:
        return {"ok": False, "error": str(error)}
    except Exception as error:  # whoever asks must never be able to cut the line
        log.exception("MQTT command %s failed", name)
        return {"ok": False, "error": f"It failed ({type(error).__name__}); the log says more."}


def _fields(value: object) -> dict[str, Json]:
    body = plain(value)
    return dict(body) if isinstance(body, Mapping) else {}


def _payload(said: Mapping[str, Json]) -> str:
    return encoded({"v": VERSION, **said})


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("MQTT publishing has stopped: %s", error, exc_info=error)


@asynccontextmanager
async def linked(link: Link, bus: LocalBus) -> AsyncIterator[None]:
    """Keep the link up while the block lasts. An unreachable broker changes nothing."""
    await link.outbox.begin()
    link.pulse.queues |= {"mqtt": lambda: len(link.waiting), "mqtt_dropped": lambda: link.dropped}
    with bus.subscribed(Event, link.heard):
        task = asyncio.create_task(link.run())
        task.add_done_callback(_log_failure)
        try:
            yield
        finally:
            link.ending.set()
            await asyncio.wait({task}, timeout=_FLUSH)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
