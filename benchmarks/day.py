"""A day of a live agent on a venue whose clock runs fast: 288 cycles, twenty markets, with a broker and with metrics.

    python -m benchmarks.day [--cycles 288] [--markets 20] [--speed 60]

Says whether a slot was missed, whether memory grew, and whether log, events, metrics, broker and venue tell the same.
Memory is what the process asked for itself until its last slot: pages of files come and go as the machine sees fit, and
its closing summary reads the whole log. What is remembered of finished windows, and what is learnt from them, is meant
to grow up to a bound, and its growth is told beside that of the process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import sqlite3
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import aiomqtt
import numpy as np

from agent.learning.learner import OnlineLearner
from agent.learning.warm_start import warm_start
from agent.live.keys import play_key
from agent.service.contract import MONEY
from market.clock import WallClock
from market.tasks import end
from storage.store import open_store
from tests.broker import Broker, client, serving
from tests.running import Agent, free_port, page, venue
from tests.storm import ask
from tools.polymarket.client import SigningAccount

PLAY = 1_000_000_000
"""Micro-dollars that the venue gives a new key."""
CADENCE = timedelta(minutes=5)
_EVERY = 2.0
"""Seconds between two looks at the metrics."""


@dataclass
class Told:
    """Messages that a subscriber received: events by topic, and the records about money."""

    broker: Broker
    topics: Counter[str] = field(default_factory=Counter)
    money: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    async def listen(self) -> None:
        while not self.ended.is_set():
            with suppress(aiomqtt.MqttError):
                async with client(self.broker, "day") as way:
                    await way.subscribe("edgeclaw/edgeclaw/#", qos=1)
                    taking = asyncio.create_task(self._take(way))
                    while not (self.ended.is_set() or taking.done()):
                        await asyncio.wait({taking}, timeout=0.2)
                    await end(taking)

    async def _take(self, way: aiomqtt.Client) -> None:
        async for message in way.messages:
            _, _, what, *rest = str(message.topic).split("/")
            self.topics[f"{what}/{'/'.join(rest)}"] += 1
            if what == "money":
                self.money.append(json.loads(bytes(message.payload))["id"])

    @contextmanager
    def listening(self) -> Iterator[None]:
        thread = threading.Thread(target=lambda: asyncio.run(self.listen()))
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()


def figures(port: int) -> dict[str, float]:
    """The metrics by name, labels summed."""
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? ([\d.e+-]+)$", page(port, "metrics")[1], re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def own_memory(process: int) -> float:
    """Bytes that a process holds and no file does; 0 of one that has ended."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) * 1024.0 if found else 0.0


def slope(samples: list[tuple[float, float]]) -> dict[str, float]:
    """Growth of memory over the second half, in megabytes a simulated hour, with its standard error; the residuals are
    taken by blocks, since neighbours are alike."""
    half = samples[len(samples) // 2 :]
    hours, size = np.array([h for h, _ in half]), np.array([s for _, s in half]) / 1e6
    blocks = [
        (float(h.mean()), float(s.mean())) for h, s in zip(*(np.array_split(v, 12) for v in (hours, size)), strict=True)
    ]
    x, y = np.array(blocks).T
    fit, errors = np.polyfit(x, y, 1, cov=True)
    return {"mb_per_hour": float(fit[0]), "se": float(errors[0, 0] ** 0.5), "mb": float(size.mean())}


async def remembered(agent: Agent) -> dict[str, float]:
    """Megabytes that what is known of finished windows takes in memory, and what is learnt from them."""
    path = agent.home / "edgeclaw.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        sources = database.execute("SELECT DISTINCT source, window FROM observations").fetchall()
    async with open_store(f"sqlite:///{path}", read_only=True) as store:
        after = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)
        history = [(await store.past(source, as_of=after, window=window)).nbytes for source, window in sources]
        learner, runs, now = OnlineLearner(0.5), await store.runs(), WallClock().now() + timedelta(days=20)
        tracemalloc.start()
        for source in {source for source, _ in sources}:
            await warm_start(store, source, runs, learner, now)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        learner.known.clear()
        gc.collect()
        return {"history": sum(history) / 1e6, "learnt": (before - tracemalloc.get_traced_memory()[0]) / 1e6}


def log_of(agent: Agent) -> dict[str, list[str]]:
    """Hashes of the log's records by kind."""
    found: dict[str, list[str]] = {}
    with closing(sqlite3.connect(f"file:{agent.home / 'edgeclaw.db'}?mode=ro", uri=True)) as database:
        for kind, digest in database.execute("SELECT kind, hash FROM records ORDER BY run_id, seq"):
            found.setdefault(str(kind), []).append(str(digest))
    return found


def measure(cycles: int, markets: int, speed: float) -> dict[str, object]:
    assets = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(markets)]
    more = [word for asset in assets for word in ("--asset", asset)]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "broker") as broker,
        venue(*more, speed=speed) as (url, _),
    ):
        home, port, told = Path(folder) / "home", free_port(), Told(broker)
        home.mkdir()
        no_limits = dict.fromkeys(("market_exposure", "total_exposure", "loss", "daily_loss", "drawdown"), 1_000_000)
        config = {
            "venue": {"series": [f"{asset}-5m" for asset in assets], "orders_per_second": 40},
            "edge": {"shadow_search": True, "strategy": "fixed"},
            "risk": {**no_limits, "open_orders": 100},
            "service": {"listen": f"127.0.0.1:{port}"},
            "mqtt": broker.settings(home),
        }
        agent, memory, last = Agent(url, home, ("agent", "late_favourite"), config), list[tuple[float, float]](), {}
        begun, hours = time.monotonic(), cycles * CADENCE / timedelta(hours=1)
        with told.listening(), agent.running("--cycles", str(cycles)) as process:
            while process.poll() is None:
                time.sleep(_EVERY)
                if now := figures(port):
                    last = now
                own, at = own_memory(process.pid), (time.monotonic() - begun) * speed / 3600
                if own and at < hours:
                    memory.append((at, own))
            took = time.monotonic() - begun
            time.sleep(3)
        wallet = SigningAccount.of(play_key(home / "play.key").signer()).wallet
        ledger = ask(f"{url}/venue/ledger/{wallet}")
        return {
            "bench": "day", "cycles": cycles, "markets": markets, "speed": speed, "seconds": round(took, 1),
            "exit": process.returncode, **_sums(agent, told, last, ledger), "memory": slope(memory),
            "of_which": {what: mb / hours for what, mb in asyncio.run(remembered(agent)).items()},
            "memory_first_mb": memory[0][1] / 1e6, "memory_last_mb": memory[-1][1] / 1e6,
            "cpu_seconds": last.get("process_cpu_seconds_total"),
        }  # fmt: skip


def _sums(agent: Agent, told: Told, last: dict[str, float], ledger: dict[str, dict[str, int]]) -> dict[str, object]:
    """The same things as log, events, metrics, broker and venue have them."""
    log, started = log_of(agent), agent.happened("cycle/started")
    slots = [datetime.fromisoformat(event["at"]) for event in started]
    money = [digest for kind in MONEY for digest in log.get(kind.value, [])]
    said = agent.said()
    begins = said.find("{\n")
    summary, warnings = json.loads(said[max(begins, 0) :] or "{}"), said[: max(begins, 0)].splitlines()
    return {
        "slots": len(slots),
        "gaps": sum(b - a != CADENCE for a, b in pairwise(slots)),
        "skipped": len(agent.happened("cycle/skipped")),
        "late_p99_ms": float(np.quantile([e["late"] for e in started], 0.99) * 1e3),
        "decisions": {
            "log": len(log["decision"]),
            "expected": sum(e["markets"] for e in started),
            "events": len(agent.happened("decision/made")),
            "metrics": int(last["edgeclaw_decisions_total"]),
            "mqtt": told.topics["event/decision/made"],
        },
        "orders": {
            "log": len(log.get("intent", [])),
            "metrics": int(last.get("edgeclaw_orders_total", 0)),
            "mqtt": told.topics["money/intent"],
        },
        "fills": {"log": len(log.get("fill", [])), "mqtt": told.topics["money/fill"]},
        "money": {"log": len(money), "lost": len(set(money) - set(told.money)), "twice": len(told.money) - len(money)},
        "warnings": {"count": len(warnings), "first": warnings[:3]},
        "cash": {"here": PLAY + sum(t["pnl"] for t in summary["traders"]), "venue": ledger["held"].get("cash", 0)},
    }


def main() -> None:
    """One JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=288)
    parser.add_argument("--markets", type=int, default=20)
    parser.add_argument("--speed", type=float, default=60.0)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.cycles, asked.markets, asked.speed)))


if __name__ == "__main__":
    main()
