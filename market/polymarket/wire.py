"""One WebSocket that keeps itself open: says what it wants on every new connection, answers for silence, and comes back
after a loss. Knows no message."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from market.clock import monotonic

_MOST_BYTES = 16 * 1024 * 1024
_CONNECT = 10.0
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 30.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How a channel is kept alive, in seconds of the machine's time: `ping` is what is said every `every` seconds, or
    empty where the server asks, and a connection that has said nothing for `stale` is given up."""

    ping: str
    every: float = 10.0
    stale: float = 30.0


@dataclass(slots=True)
class Wire:
    """`hello` gives the first frames of a connection; `hear` gets each text frame; `lost` is told why a connection
    ended, before the next one is tried. `opened` and `losses` count."""

    url: str
    habits: Habits
    hello: Callable[[], Sequence[str]]
    hear: Callable[[bytes], None]
    lost: Callable[[str], None] = lambda _: None
    opened: int = 0
    losses: int = 0
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _heard: float = 0.0
    _chance: random.Random = field(default_factory=random.Random)

    @property
    def open(self) -> bool:
        return self._socket is not None and not self._socket.closed

    async def say(self, text: str) -> None:
        """Send a frame if there is a connection; a new one begins with `hello`, so nothing needs to be kept."""
        if self._socket is not None:
            with suppress(ConnectionError, aiohttp.ClientError):
                await self._socket.send_str(text)

    async def hang_up(self) -> None:
        """End the present connection, so that a new one begins."""
        if self._socket is not None:
            await self._socket.close()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Until cancelled."""
        tries = 0
        while True:
            try:
                why = await self._once(session)
                tries = 0
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = str(error) or type(error).__name__
            self._socket = None
            self.losses += 1
            self.lost(why)
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(tries, 16))
            tries += 1
            await asyncio.sleep(delay * (0.5 + self._chance.random()))

    async def _once(self, session: aiohttp.ClientSession) -> str:
        """One connection, to its end; says why it ended."""
        timeout = aiohttp.ClientWSTimeout(ws_close=1.0)
        connecting = session.ws_connect(self.url, timeout=timeout, max_msg_size=_MOST_BYTES, autoping=True)
        async with asyncio.timeout(_CONNECT):
            socket = await connecting
        async with socket:
            self._socket, self._heard = socket, monotonic()
            self.opened += 1
            for text in self.hello():
                await socket.send_str(text)
            keeper = asyncio.create_task(self._keep(socket))
            try:
                return await self._listen(socket)
            finally:
                keeper.cancel()
                with suppress(asyncio.CancelledError):
                    await keeper

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        async for message in socket:
            self._heard = monotonic()
            if message.type is aiohttp.WSMsgType.TEXT:
                self.hear(message.data.encode())
            elif message.type is aiohttp.WSMsgType.BINARY:
                self.hear(message.data)
            else:
                break
        return f"the connection ended (code {socket.close_code})"

    async def _keep(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Ping at intervals, and give the connection up when nothing comes back."""
        while True:
            await asyncio.sleep(self.habits.every)
            if monotonic() - self._heard > self.habits.stale:
                await socket.close()
                return
            if self.habits.ping:
                with suppress(ConnectionError):
                    await socket.send_str(self.habits.ping)
