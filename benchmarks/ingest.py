"""Market frames into books: messages a second of this feed against `websockets` + `json` + dictionaries, side by side
in one run over loopback, and a minute at 20,000 messages a second without a loss.

A second process sends frames it has made beforehand: a whole book of 50 levels a side for each of ten markets, then
changes of two tokens each, of the size and shape of the recorded ones, with the best prices named in each. Every arm
gets the same bytes, and after each frame knows the best bid and offer of what changed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import multiprocessing
import random
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import aiohttp

from agent.reports.funnel import latency
from market.clock import WallClock
from market.polymarket.feed import LiveFeed, Watch
from market.polymarket.hosts import Hosts
from market.polymarket.rest import VenueReader
from market.types import Market

MARKETS, LEVELS = 10, 50
FRAMES, ROUNDS = 60_000, 3
RATE, SECONDS = 20_000, 60.0
_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TICK = 0.02
START = datetime(2026, 11, 1, tzinfo=UTC)


def markets() -> list[Market]:
    return [
        Market(f"0x{n:064x}", f"m{n}", "?", f"{n}1" + "7" * 75, f"{n}2" + "7" * 75, START, START + timedelta(days=9))
        for n in range(1, MARKETS + 1)
    ]


class Maker:
    """Books of the YES tokens, moved at random, and the frames that tell of it."""

    def __init__(self, seed: int) -> None:
        self._chance, self._markets, self.ms = random.Random(seed), markets(), 1_790_000_000_000
        self._bids = [{500 - t: 1000 for t in range(LEVELS)} for _ in self._markets]
        self._asks = [{501 + t: 1000 for t in range(LEVELS)} for _ in self._markets]

    def whole(self) -> list[bytes]:
        return [self._whole(n) for n in range(MARKETS)]

    def _whole(self, n: int) -> bytes:
        one = self._markets[n]
        sides = {
            name: [{"price": f"{p / 1000:.3f}", "size": f"{s / 100:.2f}"} for p, s in sorted(side.items())]
            for name, side in (("bids", self._bids[n]), ("asks", self._asks[n]))
        }
        head = {"market": one.id, "asset_id": one.yes_token, "timestamp": str(self.ms), "hash": self._hash()}
        return json.dumps({**head, **sides, "event_type": "book"}, separators=(",", ":")).encode()

    def _hash(self) -> str:
        return f"{self._chance.getrandbits(160):040x}"

    def change(self) -> bytes:
        """One level of one market gets another size; now and then it goes, and comes back."""
        n = self._chance.randrange(MARKETS)
        buys = self._chance.random() < 0.5
        side = self._bids[n] if buys else self._asks[n]
        price = 500 - self._chance.randrange(LEVELS) if buys else 501 + self._chance.randrange(LEVELS)
        size = (
            0 if price in side and len(side) > 10 and self._chance.random() < 0.1 else self._chance.randrange(1, 99_999)
        )
        if size:
            side[price] = size
        else:
            side.pop(price, None)
        self.ms += 1
        bid, ask, one = max(self._bids[n]), min(self._asks[n]), self._markets[n]
        changes = [
            self._said(one.yes_token, price, size, buys, bid, ask),
            self._said(one.no_token, 1000 - price, size, not buys, 1000 - ask, 1000 - bid),
        ]
        frame = {
            "market": one.id, "price_changes": changes, "timestamp": str(self.ms), "event_type": "price_change",
        }  # fmt: skip
        return json.dumps(frame, separators=(",", ":")).encode()

    def _said(self, token: str, price: int, size: int, buys: bool, bid: int, ask: int) -> dict[str, str]:
        return {
            "asset_id": token,
            "price": f"{price / 1000:.3f}",
            "size": f"{size / 100:.2f}",
            "side": "BUY" if buys else "SELL",
            "hash": self._hash(),
            "best_bid": f"{bid / 1000:.3f}",
            "best_ask": f"{ask / 1000:.3f}",
        }


def framed(payload: bytes) -> bytes:
    """A text frame as a server sends it."""
    size = len(payload)
    head = bytes([0x81, size]) if size < 126 else bytes([0x81, 126]) + size.to_bytes(2, "big")
    return head + payload


def serve(ready: Any, count: int, rate: int, clients: int) -> None:
    """Send `count` frames to each of `clients`, one after the other: as fast as they are taken, or `rate` a second."""
    maker = Maker(7)
    frames = [framed(f) for f in maker.whole()] + [framed(maker.change()) for _ in range(count - MARKETS)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.put((server.getsockname()[1], sum(len(f) for f in frames) / count))
        for _ in range(clients):
            made, _ = server.accept()
            with made:
                _shake(made)
                _send(made, frames, rate)
                made.recv(1 << 16)  # until the client has what it wanted


def _shake(made: socket.socket) -> None:
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    said = b""
    while b"\r\n\r\n" not in said:
        said += made.recv(1 << 16)
    key = next(
        line[19:].strip() for line in said.decode().split("\r\n") if line.lower().startswith("sec-websocket-key:")
    )
    word = base64.b64encode(hashlib.sha1((key + _MAGIC).encode(), usedforsecurity=False).digest()).decode()
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {word}",
    )
    made.sendall("\r\n".join((*lines, "", "")).encode())
    made.recv(1 << 16)  # what it asks for


def _send(made: socket.socket, frames: Sequence[bytes], rate: int) -> None:
    if not rate:
        for at in range(0, len(frames), 500):
            made.sendall(b"".join(frames[at : at + 500]))
        return
    a_tick, begun = int(rate * _TICK), time.monotonic()
    for number, at in enumerate(range(0, len(frames), a_tick)):
        time.sleep(max(0.0, begun + number * _TICK - time.monotonic()))
        made.sendall(b"".join(frames[at : at + a_tick]))


async def by_websockets(port: int, count: int, best: bool) -> float:
    """The obvious way: a dictionary a side, prices as they are written."""
    from websockets.asyncio.client import connect

    books: dict[str, dict[str, dict[str, float]]] = {}
    seen, last = 0, (0.0, 0.0)
    async with connect(f"ws://127.0.0.1:{port}/ws/market", compression=None, max_size=None) as wire:
        await wire.send("{}")
        begun = time.perf_counter()
        async for raw in wire:
            event = json.loads(raw)
            if event["event_type"] == "book":
                books[event["asset_id"]] = {
                    side: {lv["price"]: float(lv["size"]) for lv in event[name]}
                    for side, name in (("BUY", "bids"), ("SELL", "asks"))
                }
            else:
                for change in event["price_changes"]:
                    book = books.get(change["asset_id"])
                    if book is None:
                        continue
                    side, size = book[change["side"]], float(change["size"])
                    if size:
                        side[change["price"]] = size
                    else:
                        side.pop(change["price"], None)
                    if best:
                        last = float(max(book["BUY"])), float(min(book["SELL"]))
            seen += 1
            if seen == count:
                break
        taken = time.perf_counter() - begun
    if best and last[0] >= last[1]:
        raise RuntimeError("the books of the dictionary arm are crossed")
    return taken


class Received:
    """A feed that follows the ten markets, and what came of it."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        hosts = Hosts.loopback(f"http://127.0.0.1:{port}")
        self.feed = LiveFeed(VenueReader(hosts, session, WallClock()), WallClock(), Watch(), None)

    async def until(self, count: int) -> float:
        for market in markets():
            self.feed.follow(market)
        begun, task = time.perf_counter(), asyncio.create_task(self.feed.wire.run())
        counted = self.feed.health.counted
        while counted["frames"] < count and not counted["losses"]:  # noqa: ASYNC110 - no hook is timed
            await asyncio.sleep(0.002)
        taken = time.perf_counter() - begun
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return taken

    def faults(self) -> str:
        counted = self.feed.health.counted
        names = ("refused", "corrected", "resynced", "losses")
        return ", ".join(f"{name} {counted[name]}" for name in names if counted[name]) or "none"


async def by_feed(port: int, count: int) -> tuple[float, str]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        received = Received(port, session)
        return await received.until(count), received.faults()


async def at_rate(port: int, count: int) -> dict[str, object]:
    """A minute at the rate, with somebody who watches every book."""
    async with aiohttp.ClientSession(trust_env=False) as session:
        received, shown, lags = Received(port, session), 0, list[float]()
        clock, feed = WallClock(), received.feed

        async def watch() -> None:
            nonlocal shown
            now = clock.now()
            async for book in feed.changes([m.id for m in markets()], now, now + timedelta(hours=1)):
                shown += 1
                lags.append((clock.now() - book.received_at).total_seconds() * 1e3)

        watching = asyncio.create_task(watch())
        cpu, taken = time.process_time(), await received.until(count)
        cpu = time.process_time() - cpu
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    line, counted = latency("frame to watcher", lags), feed.health.counted
    return {
        "bench": "ingest_at_rate", "frames": count, "received": counted["frames"], "seconds": round(taken, 1),
        "frames_per_second": round(counted["frames"] / taken), "lost": count - counted["frames"],
        "states_dropped": counted["dropped"], "faults": received.faults(), "share_of_a_core": round(cpu / taken, 3),
        "states_shown": shown, "frame_to_watcher_p50_ms": line.p50, "frame_to_watcher_p99_ms": line.p99,
    }  # fmt: skip


def _serving(count: int, rate: int, clients: int) -> tuple[Any, int, float]:
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    process = context.Process(target=serve, args=(ready, count, rate, clients), daemon=True)
    process.start()
    port, size = ready.get(timeout=120)
    return process, port, size


async def side_by_side(count: int, rounds: int) -> dict[str, object]:
    process, port, size = _serving(count, 0, 3 * rounds)
    times: dict[str, list[float]] = {"dict": [], "dict_best": [], "feed": []}
    faults = ""
    for _ in range(rounds):
        times["dict"].append(await by_websockets(port, count, best=False))
        times["dict_best"].append(await by_websockets(port, count, best=True))
        taken, faults = await by_feed(port, count)
        times["feed"].append(taken)
    process.join(10)
    speed = {name: count / median(t) for name, t in times.items()}
    return {
        "bench": "ingest", "frames": count, "bytes_a_frame": round(size), "rounds": rounds,
        "websockets_json_dict_per_s": round(speed["dict"]),
        "the_same_with_best_prices_per_s": round(speed["dict_best"]),
        "feed_per_s": round(speed["feed"]), "ratio": round(speed["feed"] / speed["dict"], 2),
        "ratio_with_best_prices": round(speed["feed"] / speed["dict_best"], 2), "goal": 2.5, "faults": faults,
    }  # fmt: skip


async def measure(count: int, rounds: int, seconds: float) -> None:
    print(json.dumps(await side_by_side(count, rounds)))
    count = int(RATE * seconds)
    process, port, _ = _serving(count, RATE, 1)
    print(json.dumps(await at_rate(port, count)))
    process.join(10)


def main() -> None:
    asyncio.run(measure(FRAMES, ROUNDS, SECONDS))


if __name__ == "__main__":
    main()
