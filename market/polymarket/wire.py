"""A reconnecting WebSocket: sends its subscriptions on every new connection, detects silence, and reconnects after a
loss. Agnostic of messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from market.clock import monotonic
from market.tasks import end

_MOST_BYTES = 16 * 1024 * 1024
_READ_BUFFER = 256 * 1024
"""Bytes read in one go: a backlog is taken in as one burst."""
_CONNECT = 10.0
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 30.0


@dataclass(frozen=True, slots=True)
class Habits:
    """Keep-alive of a channel, in seconds of system time: the text `ping` is sent every `every` seconds, or nothing if
    empty because the server pings; a connection without a frame for `stale` is given up."""

    ping: str
    every: float = 10.0
    stale: float = 30.0


class _Connection(WSListener):
    """One connection, to its end: `over` resolves to the reason of its end, or raises the exception of `hear`."""

    def __init__(self, hear: Callable[[bytes], None], hello: Callable[[], Sequence[str]]) -> None:
        self._hear, self._hello = hear, hello
        self._parts: list[bytes] = []
        self._code = 0
        self.transport: WSTransport | None = None
        self.heard = monotonic()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        for text in self._hello():
            transport.send(WSMsgType.TEXT, text.encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.heard = monotonic()
        kind = frame.msg_type
        if kind in (WSMsgType.TEXT, WSMsgType.BINARY) and frame.fin:
            self._deliver(transport, frame.get_payload_as_bytes())
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._part(transport, frame)
        elif kind == WSMsgType.CLOSE:
            self._code = frame.get_close_code().value
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def _part(self, transport: WSTransport, frame: WSFrame) -> None:
        """Collect a message that is split into several frames."""
        self._parts.append(frame.get_payload_as_bytes())
        if sum(map(len, self._parts)) > _MOST_BYTES:
            transport.disconnect()
        elif frame.fin:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._deliver(transport, whole)

    def _deliver(self, transport: WSTransport, message: bytes) -> None:
        try:
            self._hear(message)
        except Exception as error:  # our own bug: `run` has to raise it
            if not self.over.done():
                self.over.set_exception(error)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.over.done():
            self.over.set_result(f"the connection ended (code {self._code})")


@dataclass(slots=True)
class Wire:
    """`hello` gives the first frames of a connection; `hear` gets each message; `lost` gets the reason of an ended
    connection, before the next attempt; `told` gets it too, and an empty string for each connection that stands.
    `opened` and `losses` count."""

    url: str
    habits: Habits
    hello: Callable[[], Sequence[str]]
    hear: Callable[[bytes], None]
    lost: Callable[[str], None] = lambda _: None
    told: Callable[[str], None] = lambda _: None
    opened: int = 0
    losses: int = 0
    _connection: _Connection | None = None
    _chance: random.Random = field(default_factory=random.Random)

    @property
    def open(self) -> bool:
        return self._connection is not None and not self._connection.over.done()

    def say(self, text: str) -> None:
        """Send a frame if connected; otherwise drop it, since a new connection begins with `hello`."""
        if self.open and self._connection is not None and self._connection.transport is not None:
            with suppress(ConnectionError, WSError):
                self._connection.transport.send(WSMsgType.TEXT, text.encode())

    async def run(self) -> None:
        """Connect and reconnect until cancelled. Raises the exception of `hear`."""
        tries = 0
        while True:
            try:
                why = await self._once()
                tries = 0
            except (WSError, TimeoutError, OSError) as error:
                why = str(error) or type(error).__name__
            self._connection = None
            self.losses += 1
            self.lost(why)
            self.told(why)
            # Exponential with jitter: after an outage all clients of the venue come back at once.
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(tries, 16))
            tries += 1
            await asyncio.sleep(delay * (0.5 + self._chance.random()))

    async def _once(self) -> str:
        """Run one connection to its end; return the reason of the end."""
        made = _Connection(self.hear, self.hello)
        # The listener that comes back is none where the connection is gone again already: ours knows why.
        transport, _ = await ws_connect(
            lambda: made,
            self.url,
            websocket_handshake_timeout=_CONNECT,
            max_frame_size=_MOST_BYTES,
            max_redirects=0,
            read_buffer_init_size=_READ_BUFFER,
        )
        self._connection = made
        self.opened += 1
        self.told("")
        keeper = asyncio.create_task(self._keep(transport, made))
        try:
            return await made.over
        finally:
            transport.disconnect()
            await end(keeper)

    async def _keep(self, transport: WSTransport, made: _Connection) -> None:
        """Ping at intervals, and give the connection up when nothing comes back."""
        while True:
            await asyncio.sleep(self.habits.every)
            if monotonic() - made.heard > self.habits.stale:
                transport.disconnect()
                return
            if self.habits.ping:
                self.say(self.habits.ping)
