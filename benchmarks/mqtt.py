"""Overhead of a broker: round trip of a command, and the slowdown of a cycle by published events.

    python -m benchmarks.mqtt [--commands 500] [--blocks 200]

A real mosquitto on the loopback. Each block has three slots of one live run in an order that is drawn: without a
broker, with one, and with one that is frozen; the ratios are of slots of the same block, so what else goes on counts
alike. Blocks whose slots had not equally many markets to think about, as near the end of a window, are had again. The
ratio is the median of all, since a stall of the disk is ten cycles long and comes in any way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.app import live
from agent.app.live_plan import LivePlan
from agent.config.load import load_config
from agent.live.keys import play_key
from agent.reports.funnel import latency
from agent.service.commands import Commands
from agent.service.mqtt_setup import link
from agent.trading.bus import LocalBus
from market.clock import monotonic
from market.events import CycleStarted, DecisionMade
from storage.store import Store
from tests.broker import Broker, client, serving
from tests.running import venue

MARKETS, SPEED, CADENCE = 5, 5.0, 5
ASSETS = tuple(f"{chr(97 + n)}{chr(97 + n)}" for n in range(MARKETS))
WAYS = ("without", "with", "frozen")
GOAL_MS, GOAL_RATIO = 5.0, 1.02


@dataclass
class Turns:
    """Arm of each slot, and the milliseconds of its cycle. `decision` counts the markets of the present cycle that a
    search was made for."""

    broker: Broker
    chance: random.Random
    blocks: int
    took: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    begun: float = 0.0
    last: float = 0.0
    decision: int = 0
    again: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def started(self, _: CycleStarted) -> None:
        self.begun, self.decision = monotonic(), 0
        self.news.set()

    def decided(self, event: DecisionMade) -> None:
        self.last = monotonic()
        self.decision += any(tokens for _, tokens in event.phase_tokens)

    async def take(self, commands: Commands, store: Store, account: str, bus: LocalBus, home: Path) -> None:
        """Between two slots have the next one in its way, until there were enough blocks."""
        await self._slot()
        while len(self.took["without"]) < self.blocks and self.again < 2 * self.blocks:
            block, decision = dict[str, float](), set[int]()
            for way in self.chance.sample(WAYS, len(WAYS)):
                async with AsyncExitStack() as stack:
                    if way != "without":
                        await stack.enter_async_context(link(commands, store, account, bus, home))
                        await asyncio.sleep(0.3)  # until it is connected and has told what it had to
                    if way == "frozen":
                        self.broker.send(signal.SIGSTOP)
                    block[way] = await self._slot()
                    decision.add(self.decision)
                    self.broker.send(signal.SIGCONT)
            alike = len(decision) == 1 and decision != {0}
            self.again += not alike
            for way, took in block.items() if alike else ():
                self.took[way].append(took)

    async def _slot(self) -> float:
        """Wait for the next cycle, and until it is over: milliseconds from its start to its last decision."""
        self.news.clear()
        await self.news.wait()
        while monotonic() - max(self.last, self.begun) < 0.3:  # noqa: ASYNC110 - a value is waited for
            await asyncio.sleep(0.02)
        return (self.last - self.begun) * 1e3


async def cycles(broker: Broker, url: str, home: Path, blocks: int) -> Mapping[str, Any]:
    """The time of cycles by way, and the ratios to those without a broker."""
    limits = dict.fromkeys(("market_exposure", "total_exposure", "loss", "daily_loss", "drawdown"), 1_000_000)
    asked = {
        **{f"risk.{name}": limit for name, limit in limits.items()}, "risk.open_orders": 100,
        "edge.runtime": "scripted", "edge.shadow_search": True, "edge.strategy": "fixed", "venue.loopback": url,
        "venue.key_file": str(home / "play.key"), "venue.series": [f"{asset}-5m" for asset in ASSETS],
        "storage.url": f"sqlite:///{home / 'e.db'}", "service.backfill": False, "trading.cadence": CADENCE,
        **{f"mqtt.{name}": value for name, value in broker.settings(home).items()},
    }  # fmt: skip
    play_key(home / "play.key")
    turns, bus = Turns(broker, random.Random(7), blocks), LocalBus()

    @asynccontextmanager
    async def toggled(
        commands: Commands, store: Store, account: str, heard: LocalBus, place: Path
    ) -> AsyncIterator[None]:
        """Instead of a link that is always there."""
        work = asyncio.create_task(turns.take(commands, store, account, heard, place))
        work.add_done_callback(lambda _: run.cancel())
        yield
        await work

    with (
        mock.patch.object(live, "link", toggled),
        bus.subscribed(CycleStarted, turns.started),
        bus.subscribed(DecisionMade, turns.decided),
    ):
        plan = LivePlan(load_config(None, asked), ("agent", "join_best"))
        run = asyncio.create_task(live.run_live(plan, bus))
        await asyncio.gather(run, return_exceptions=True)
    return {"again": turns.again, **{way: compared(turns.took["without"], turns.took[way]) for way in WAYS}}


def compared(without: list[float], those: list[float]) -> dict[str, object]:
    """Median milliseconds, and the median ratio to the same blocks without a broker, with its 95 % interval by drawing
    blocks anew."""
    if not those:
        return {"cycles": 0}
    ratios = np.array(those) / np.array(without)
    drawn = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return {
        "cycles": len(those), "p50_ms": float(np.median(those)), "ratio": float(np.median(ratios)), "low": float(low),
        "high": float(high),
    }  # fmt: skip


async def commands(broker: Broker, url: str, home: Path, count: int) -> dict[str, object]:
    """Milliseconds from publishing a command to its answer, while the run trades."""
    asked = {
        "edge.runtime": "scripted", "venue.loopback": url, "venue.key_file": str(home / "play.key"),
        "storage.url": f"sqlite:///{home / 'c.db'}", "service.backfill": False,
        **{f"mqtt.{name}": value for name, value in broker.settings(home).items()},
    }  # fmt: skip
    play_key(home / "play.key")
    stages: list[str] = []
    plan = LivePlan(load_config(None, asked), ("agent", "join_best"))
    run = asyncio.create_task(live.run_live(plan, LocalBus(), stages.append))
    while "trading" not in stages:  # noqa: ASYNC110 - what is waited for is a value
        await asyncio.sleep(0.1)
    try:
        return {name: await _asked(broker, name, count) for name in ("limits", "status")}
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def _asked(broker: Broker, name: str, count: int) -> dict[str, object]:
    reply, took = "edgeclaw/replies/bench", list[float]()
    async with client(broker, f"bench-{name}") as way:
        await way.subscribe(reply, qos=1)
        answers = aiter(way.messages)
        for number in range(count):
            how, mark = Properties(PacketTypes.PUBLISH), f"{name}{number}".encode()  # type: ignore[no-untyped-call]
            how.ResponseTopic, how.CorrelationData = reply, mark
            begun = monotonic()
            await way.publish(f"edgeclaw/edgeclaw/command/{name}", "{}", qos=1, properties=how)
            async for answer in answers:
                if answer.properties.CorrelationData == mark:
                    break
            took.append((monotonic() - begun) * 1e3)
            await asyncio.sleep(0.01)
    line = latency(name, took)
    return {"n": line.n, "p50_ms": line.p50, "p99_ms": line.p99, "of_goal": (line.p50 or 0.0) / GOAL_MS}


def main() -> None:
    """JSON lines: commands there and back, then cycles in three ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=500)
    parser.add_argument("--blocks", type=int, default=200)
    asked, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "broker") as broker:
        home = Path(folder)
        os.environ["EDGECLAW_HOME"] = folder
        if asked.commands:
            with venue(speed=10) as (url, _):
                print(json.dumps({"bench": "mqtt_command", **asyncio.run(commands(broker, url, home, asked.commands))}))
        if asked.blocks:
            more = [word for asset in ASSETS for word in ("--asset", asset)]
            with venue(*more, speed=SPEED) as (url, _):
                found = asyncio.run(cycles(broker, url, home, asked.blocks))
            print(json.dumps({"bench": "mqtt_cycle", "markets": MARKETS, "goal_ratio": GOAL_RATIO, **found}))


if __name__ == "__main__":
    main()
