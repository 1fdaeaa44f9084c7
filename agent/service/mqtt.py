"""Events out and commands in over MQTT 5, beside the run: nothing about money or time waits for a broker.

Events go through a queue that drops its oldest; records about money are read from the run's own log from
the last one that the broker confirmed, so that they arrive at least once whatever fails. Commands are answered
once each, however often they arrive.

A broker knows an instance by its client id, and gives it to whoever came last. An agent that has lost its connection
looks under an id of its own who has the name. If another has, it stands aside: it hears halts, and publishes nothing
but its health until the other has gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiomqtt import Client, Message, MqttError, ProtocolVersion, Will
from paho.mqtt.client import DisconnectFlags
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.service.contract import VERSION, HealthTold
from agent.service.outbox import Outbox
from agent.service.pulse import Pulse
from agent.trading.bus import LocalBus
from market.clock import WallClock, monotonic
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
_TAKEN_OVER = 0x8E
"""MQTT 5 reason code of a connection that ended because another one began under the same client id."""
_SILENT, _GONE = 3, 2
"""Heartbeats without a sign of the other agent after which the name is free, and after it was said to be offline."""
_UNTOLD = 60.0
"""Heartbeat of another agent in seconds, as long as it has told none."""
_LOST, _SHORT = 3, 60.0
"""Connections lost in a row, none of them older than so many seconds, after which another agent is taken to have the
name where the broker does not say."""
_REMEMBERED = 1024
_SESSION = 3600
"""Seconds for which the broker keeps commands for an agent that is away."""

Heeded = Callable[[str, bytes], Awaitable[Json]]
"""Handler of a name and a payload; a ValueError is the reply to the sender."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Address of a broker and the connection's settings. `instance` is this agent's part of every topic; `agent` tells
    it apart from others of that instance, and stays the same over restarts."""

    host: str
    port: int
    instance: str
    agent: str
    username: str
    password: str
    tls: ssl.SSLContext | None
    heartbeat: float
    queue: int

    def topic(self, *parts: str) -> str:
        return "/".join(("edgeclaw", self.instance, *parts))


class _Client(Client):
    """A client that keeps the reason code with which the broker ended its connection."""

    reason = 0

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: DisconnectFlags, reason_code: ReasonCode, properties: Any = None
    ) -> None:
        self.reason = reason_code.value
        super()._on_disconnect(client, userdata, flags, reason_code, properties)


@dataclass(slots=True)
class _Rival:
    """What is heard of an agent that may have our name; `sure` once it is known to have it. `own` and `heartbeat` are
    seconds between our and its words on health. `quiet` counts ours since its last sign of life: we hear ourselves only
    if the broker lets us read, without which its silence means nothing."""

    agent: str
    own: float
    sure: bool = False
    heartbeat: float = _UNTOLD
    offline: bool = False
    quiet: int = 0

    def health(self, said: Mapping[str, Any]) -> None:
        if said.get("agent") == self.agent:
            self.quiet += 1
        elif said.get("aside") is not True:
            self.sure, self.quiet, self.offline = True, 0, False
            told = said.get("heartbeat")
            self.heartbeat = float(told) if isinstance(told, int | float) and told > 0 else _UNTOLD

    def status(self, said: Mapping[str, Any]) -> None:
        self.offline = said.get("online") is not True
        if not self.offline and said.get("agent") != self.agent:
            self.sure, self.quiet = True, 0

    @property
    def gone(self) -> bool:
        # Not at its first word: where a name changes hands, a last will may say "offline", too.
        if self.offline and self.quiet >= _GONE:
            return True
        return self.quiet * self.own >= _SILENT * max(self.own, self.heartbeat)


@dataclass(slots=True)
class Link:
    """The connection to one broker. `dropped` counts events that the queue had no room for; `rival` is who may have our
    name, None while we have it; `lost` counts connections under it that were lost in a row."""

    broker: Broker
    pulse: Pulse
    outbox: Outbox
    handle_command: Heeded
    handle_signal: Heeded
    dropped: int = 0
    rival: _Rival | None = None
    lost: int = 0
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

    @property
    def aside(self) -> bool:
        """True while another agent is known to have our name."""
        return self.rival is not None and self.rival.sure

    async def run(self) -> None:
        """Connect, and reconnect after errors, until cancelled; once `ending` is set, until all records about money are
        published."""
        pause, again = _SOON, False
        while True:
            client, rival, began = self._stand_in(again=again) if self.rival else self._client(), self.rival, None
            try:
                async with client:
                    pause, again, began = _SOON, rival is not None, monotonic()
                    await (self._talk(client) if rival is None else self._stand_aside(client, rival))
                if rival is None or self.ending.is_set():
                    return
                self.rival = None
                continue
            except (MqttError, OSError, TimeoutError, StoreUnavailable) as error:
                log.warning("MQTT broker %s unreachable (%s); retrying", self.broker.host, error)
                if rival is None and began is not None:
                    self._look(taken=client.reason == _TAKEN_OVER, lived=monotonic() - began)
                    continue  # at once: a halt in between would not be heard
            self.lost = 0
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LATE)

    def _look(self, *, taken: bool, lived: float) -> None:
        """Look who has the name, after a connection under it was lost. Not every broker says that another one has."""
        self.lost = self.lost + 1 if lived < _SHORT else 1
        self.rival = _Rival(self.broker.agent, self.broker.heartbeat)
        if taken:
            self._yield_name(self.rival)

    def _yield_name(self, rival: _Rival) -> None:
        """Leave the name to the agent that has it, and say so."""
        rival.sure = True
        sentence = (
            f"Another agent uses mqtt.instance {self.broker.instance} at {self.broker.host}: this one hears halts and "
            "publishes nothing else until it has gone; give one of them another mqtt.instance."
        )
        log.warning(sentence)
        self.pulse.warn("mqtt", sentence)

    def _client(self) -> _Client:
        # Published by the broker if the connection ends without a DISCONNECT.
        will = Will(self.broker.topic("status"), self._online(False), 1, True)
        # A persistent session: the broker queues commands while the agent reconnects.
        return self._connection(f"edgeclaw-{self.broker.instance}", will, clean=False)

    def _stand_in(self, *, again: bool) -> _Client:
        """The connection under an id of our own. Its session begins anew each time that the name is lost, or halts from
        before would come back; `again` continues it."""
        return self._connection(f"edgeclaw-{self.broker.instance}-{self.broker.agent}", None, clean=not again)

    def _connection(self, identifier: str, will: Will | None, *, clean: bool) -> _Client:
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = _SESSION
        return _Client(
            self.broker.host,
            self.broker.port,
            username=self.broker.username or None,
            password=self.broker.password or None,
            identifier=identifier,
            protocol=ProtocolVersion.V5,
            will=will,
            clean_start=clean,
            properties=kept,
            keepalive=max(5, round(2 * self.broker.heartbeat)),
            timeout=_ANSWER,
            tls_context=self.broker.tls,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    def _online(self, online: bool) -> str:
        return _payload({"online": online, "agent": self.broker.agent})

    async def _talk(self, client: Client) -> None:
        """Serve one connection, until it breaks or nothing is left to publish."""
        # Subscribed before "online" is published: who sees it may send a command at once.
        await client.subscribe([(self.broker.topic(what, "+"), 1) for what in ("command", "signal")])
        await client.publish(self.broker.topic("status"), self._online(True), qos=1, retain=True)
        self.pulse.warn("mqtt", "")
        await _first_of(
            self._publish_money(client), self._publish_events(client), self._beat(client), self._take_commands(client)
        )
        await client.publish(self.broker.topic("status"), self._online(False), qos=1, retain=True)

    async def _stand_aside(self, client: Client, rival: _Rival) -> None:
        """Hear halts and signals while another agent may have our name, until it has not, or the run ends."""
        await client.subscribe([(self.broker.topic(what, "+"), 1) for what in ("command", "signal")])
        # Where the broker lets us read them, they show who has the name.
        await client.subscribe([(self.broker.topic(what), 0) for what in ("health", "status")])
        await _first_of(self._hear(client, rival), self._settle(rival), self._beat(client), self.ending.wait())

    async def _hear(self, client: Client, rival: _Rival) -> None:
        async for message in client.messages:
            known = rival.sure
            match str(message.topic).split("/")[2:]:
                case ["health"]:
                    rival.health(_object(message))
                case ["status"]:
                    rival.status(_object(message))
                case ["signal", _]:
                    await self._answer(message)
                case ["command", name] if name in _ALWAYS_DONE:
                    # Not answered: whoever asks is answered by the agent that has the name.
                    await self._answer(message)
            if rival.sure and not known:
                self._yield_name(rival)
            if rival.sure and rival.gone:
                return

    async def _settle(self, rival: _Rival) -> None:
        """Return where nobody is found to have the name. A broker that lets us read nothing shows nobody: there it goes
        by how often the name was lost."""
        await asyncio.sleep(_SOON)
        if not rival.sure and not rival.quiet and self.lost >= _LOST:
            self._yield_name(rival)
        if rival.sure:
            await self.ending.wait()

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
                agent=self.broker.agent,
                aside=self.aside,
                heartbeat=self.broker.heartbeat,
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


async def _first_of(*work: Coroutine[Any, Any, object]) -> None:
    """Run concurrently until the first one ends, then cancel the others. Raises what it raised."""
    tasks = [asyncio.create_task(w) for w in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _object(message: Message) -> Mapping[str, Any]:
    """A JSON object; empty for anything else, which others may have published."""
    try:
        found = json.loads(bytes(message.payload or b""))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


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
