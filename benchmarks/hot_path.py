"""Tick to order: from a changed book to the venue's answer, intent on disk in between; and the share without the disk.

The belief is given, so that every tick leads to an order. No model call is on this path: the engine is never touched,
and the benchmark has none.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from datetime import timedelta
from pathlib import Path

from agent.app.settings import decision_settings
from agent.config.load import load_config
from agent.learning.learner import OnlineLearner
from agent.learning.market_history import Memory
from agent.llm.recorded import RecordingEngine
from agent.llm.scripted import ScriptedEngine
from agent.reports.funnel import latency
from agent.trading.agent_trader import ActiveBelief, AgentTrader
from agent.trading.bus import LocalBus
from agent.trading.cycle import Ports
from agent.trading.execution import Execution
from backtest.exchange import PaperExchange
from backtest.sources import open_recorded
from market.clock import ManualClock
from market.feed import PricedFeed
from market.types import UNIT, Book, Market
from storage.records import RunIdentity
from storage.store import Store, open_store
from strategies.belief import Belief
from tests.values import risk_limits
from tools.limits import RiskLimited


async def measure(url: str, name: str) -> dict[str, object]:
    """Drive the live trader's own `on_book` over recorded books."""
    feed = open_recorded("sample")
    begins = feed.info.begins
    assert begins is not None  # noqa: S101 - the sample has a beginning
    clock = ManualClock(begins)
    async with open_store(url) as store:
        trader = await _trader(store, feed, clock)
        for window in range(1, 5):
            market = (await feed.markets(begins + timedelta(minutes=5 + 15 * window)))[0]
            async for book in feed.changes([market.id], market.opens_at, market.closes_at):
                await clock.wait_until(book.received_at)
                trader.standing[market.id] = _standing(market, book)
                await trader.on_book(book)
    line = latency("tick", trader.ticks)
    return {"bench": "tick_to_order", "store": name, "n": line.n, "p50_ms": line.p50, "p99_ms": line.p99}


async def _trader(store: Store, feed: PricedFeed, clock: ManualClock) -> AgentTrader:
    identity = RunIdentity("bench", "bench", "bench", "bench", "bench")
    log = store.log((await store.begin_run(identity, {}, clock.now())).id)
    exchange = PaperExchange(feed, clock, cash=10**6 * UNIT, run=log.run_id)
    execution = Execution(
        RiskLimited(exchange, risk_limits(order=10**15, market=10**15, loss=10**15, open_orders=10**6)),
        log,
        LocalBus(),
    )
    caps = {"trading.max_order": 10, "trading.max_market": 10**6}
    settings = decision_settings(load_config(None, caps), counted_in_tokens=True)
    engine = RecordingEngine(ScriptedEngine())
    return AgentTrader(
        Ports(
            clock,
            feed,
            Memory(store, feed, feed, "bench", OnlineLearner(0.1)),
            engine,
            execution,
            execution.bus,
            settings,
        )
    )


def _standing(market: Market, book: Book) -> ActiveBelief:
    """A belief strong enough for an order at any price."""
    ends = book.received_at + timedelta(days=1)
    return ActiveBelief(
        market, Belief(market.id, market.opens_at, ends, 2.0, 0.01, 1.0, 500), f"bench-{book.received_at.isoformat()}"
    )


def main() -> None:
    """On disk with every intent synced, and in memory."""
    with tempfile.TemporaryDirectory() as folder:
        for url, name in (
            (f"sqlite:///{Path(folder) / 'bench.db'}", "disk, synchronous=FULL"),
            ("sqlite://", "memory"),
        ):
            print(json.dumps(asyncio.run(measure(url, name))))


if __name__ == "__main__":
    main()
