"""The WebSocket that keeps itself open: messages whole, losses told, silence not waited for, our own faults heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from market.polymarket.wire import Habits, Wire
from tests.servers import free_port

Talk = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with suppress(ConnectionError):
            await talk(socket, request)
        return socket

    app = web.Application()
    app.add_routes([web.get("/ws", handle)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
        yield f"ws://127.0.0.1:{port}/ws"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(wire: Wire) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(wire.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, ValueError):
            await task


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for is plain state
            await asyncio.sleep(0.01)


def test_it_says_hello_on_every_connection_and_tells_of_losses() -> None:
    hellos: list[str] = []

    async def talk(socket: web.WebSocketResponse, _: web.Request) -> None:
        hellos.append(str((await socket.receive()).data))
        await socket.send_str(f"welcome {len(hellos)}")
        await socket.close(code=1012)

    async def scenario() -> None:
        heard: list[bytes] = []
        lost: list[str] = []
        async with server(talk) as url:
            wire = Wire(url, Habits(""), lambda: ["hello"], heard.append, lost.append)
            async with running(wire):
                await until(lambda: len(heard) >= 3)
            assert heard[:3] == [b"welcome 1", b"welcome 2", b"welcome 3"]
            assert set(hellos) == {"hello"}
            assert "1012" in lost[0]
            assert wire.losses >= 2

    asyncio.run(scenario())


def test_an_outage_is_told_when_it_begins_and_when_a_connection_stands_again() -> None:
    """Also one that begins with the first attempt, at a venue that is not there yet."""
    told: list[str] = []

    async def talk(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.send_str("welcome")
        await socket.receive()

    async def scenario() -> None:
        heard: list[bytes] = []
        async with server(talk) as url:
            place = url
        wire = Wire(place, Habits(""), list, heard.append, told=told.append)
        async with running(wire):
            await until(lambda: len(told) >= 2)
            assert all(told), "nothing answers there"
        async with server(talk) as url:
            wire = Wire(url, Habits(""), list, heard.append, told=told.append)
            async with running(wire):
                await until(lambda: bool(heard))
        assert told[-1] == ""

    asyncio.run(scenario())


def test_whenever_it_is_asked_to_end_it_ends() -> None:
    """Also in the moment in which a connection is lost."""

    async def talk(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.send_str("welcome")
        await socket.close(code=1012)

    async def scenario() -> None:
        async with server(talk) as url:
            for steps in [0, 1, 2, 3, 4, 5] * 4:
                heard: list[bytes] = []
                wire = Wire(url, Habits(""), list, heard.append)
                task = asyncio.create_task(wire.run())
                while not heard or wire.open:  # noqa: ASYNC110 - one step of the loop at a time
                    await asyncio.sleep(0)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                done, _ = await asyncio.wait([task], timeout=5)
                assert done, f"it goes on when it is asked to end {steps} steps after a loss"

    asyncio.run(scenario())


def test_a_message_in_parts_is_heard_whole_and_pings_are_answered() -> None:
    async def talk(socket: web.WebSocketResponse, request: web.Request) -> None:
        assert request.transport is not None
        for first, payload in ((0x01, b"a" * 70_000), (0x00, b"b" * 3), (0x80, b"c" * 200)):
            size = len(payload)
            length = bytes([size]) if size < 126 else bytes([126]) + size.to_bytes(2, "big") if size < 65_536 else b""
            head = bytes([first]) + (length or bytes([127]) + size.to_bytes(8, "big"))
            request.transport.write(head + payload)
        await socket.ping(b"alive?")
        assert (await socket.receive()).data == "said"
        await socket.send_bytes(b"\x00binary")
        await socket.receive()

    async def scenario() -> None:
        heard: list[bytes] = []
        async with server(talk) as url:
            wire = Wire(url, Habits(""), list, heard.append)
            async with running(wire):
                await until(lambda: bool(heard))
                wire.say("said")
                await until(lambda: len(heard) == 2)
            assert heard == [b"a" * 70_000 + b"b" * 3 + b"c" * 200, b"\x00binary"]

    asyncio.run(scenario())


def test_a_silent_connection_is_given_up() -> None:
    async def talk(socket: web.WebSocketResponse, _: web.Request) -> None:
        async for message in socket:
            assert message.type is aiohttp.WSMsgType.TEXT

    async def scenario() -> None:
        async with server(talk) as url:
            wire = Wire(url, Habits("PING", every=0.05, stale=0.2), list, lambda _: None)
            async with running(wire):
                await until(lambda: wire.losses >= 2)

    asyncio.run(scenario())


def test_a_server_that_is_not_there_or_is_no_websocket_is_tried_again() -> None:
    async def scenario() -> None:
        lost: list[str] = []
        wire = Wire(f"ws://127.0.0.1:{free_port()}/ws", Habits(""), list, lambda _: None, lost.append)
        async with running(wire):
            await until(lambda: len(lost) >= 3)
            assert not wire.open
            wire.say("nobody hears this")
        async with server(lambda *_: asyncio.sleep(0)) as url:
            refused = Wire(url.replace("/ws", "/none"), Habits(""), list, lambda _: None, lost.append)
            async with running(refused):
                before = len(lost)
                await until(lambda: len(lost) >= before + 2)

    asyncio.run(scenario())


def test_a_connection_that_ends_at_once_is_only_a_loss() -> None:
    async def talk(socket: web.WebSocketResponse, request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()

    async def scenario() -> None:
        async with server(talk) as url:
            wire = Wire(url, Habits(""), lambda: ["hello"], lambda _: None)
            async with running(wire) as task:
                await until(lambda: wire.losses >= 4)
                assert not task.done()

    asyncio.run(scenario())


def test_a_fault_of_ours_ends_it_loudly() -> None:
    async def talk(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.send_str("x")
        await socket.receive()

    async def scenario() -> None:
        def hear(_: bytes) -> None:
            raise ValueError("a fault")

        async with server(talk) as url:
            with pytest.raises(ValueError, match="a fault"):
                async with asyncio.timeout(10):
                    await Wire(url, Habits(""), list, hear).run()

    asyncio.run(scenario())
