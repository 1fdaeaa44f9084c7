"""Speed of a strategy's replay over one market's quotes: the live strategy object, session, execution and exchange.

The same rule over the same quotes, all book values made or only those that the strategy says are worth a look, and the
same in other engines, each in an environment of its own (`--peers`, which downloads them). CPU seconds of the replay
alone: neither loading nor imports count.

Run: python -m benchmarks.replay [--events N] [--peers] [--linear STEM]   (prints one JSON object a line; the last also
draws how cost and memory grow from one to ten million quotes)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from shutil import which
from time import process_time

import numpy as np

from agent.learning.market_history import NoLearning
from agent.reports.plots import BLUE, bare, house_style, saved
from agent.trading.bus import LocalBus
from agent.trading.execution import Execution
from agent.trading.loop import Schedule, TradingLoop
from agent.trading.strategy_trader import StrategyTrader
from backtest.columns import Recording
from backtest.exchange import PaperExchange
from backtest.replay import ReplayFeed
from benchmarks import series
from market.clock import ManualClock, from_ms
from market.columns import Ladder
from market.types import UNIT, Fill, Market, PayoutSource, Resolution
from storage.memory_log import InMemoryRunLog
from strategies.base import OrderIntent, Strategy, View
from strategies.baselines import Threshold

PEERS = Path(__file__).parent / "peers"
LENGTHS = (1_000_000, 2_000_000, 5_000_000, 10_000_000)


@dataclass(frozen=True)
class Peer:
    """Another engine: the script that drives it, the interpreter it wants, and what to install."""

    name: str
    script: str
    python: str
    packages: tuple[str, ...]


OTHERS = (
    Peer("nautilus_trader 1.231.0", "nautilus_one.py", "python3.12", ("nautilus_trader==1.231.0",)),
    Peer("nautilus_trader 2.0.0rc6", "nautilus_two.py", "python3.12", ("nautilus_trader==2.0.0rc6", "numpy")),
    Peer("pm-hftbacktest 1.0.11", "hftbacktest_one.py", "python3.11", ("pm-hftbacktest==1.0.11", "numpy<2.3")),
)


@dataclass(frozen=True)
class ShownAll:
    """The same rule, that does not say what it need not see."""

    inner: Threshold
    name: str = "threshold"
    once: bool = False

    def decide(self, view: View) -> OrderIntent | None:
        return self.inner.decide(view)


def recording(count: int) -> Recording:
    """One market that stays open for all its quotes; free of fees, as the peers are."""
    bid, ask = series.quotes(count)
    received = series.BEGINS_MS + np.arange(count, dtype=np.int64) * series.STEP_MS
    opens, closes = from_ms(series.BEGINS_MS), from_ms(int(received[-1]) + 1000)
    market = Market("0xbench", "bench", "", "yes", "no", opens, closes, tick=Decimal("0.001"), fee_rate=Decimal(0))
    one = np.ones(count, np.int32)
    size = np.full((count, 1), series.SIZE * UNIT, np.int64)
    bids, asks = (Ladder((side * 1000).astype(np.int32)[:, None], size, one) for side in (bid, ask))
    ended = Resolution(market.id, Decimal(1), PayoutSource.INFERRED, closes + timedelta(minutes=2))
    return Recording(market, received, received, bids, asks, ended)


async def replayed(feed: ReplayFeed, strategy: Strategy) -> tuple[list[Fill], float]:
    """Fills, and CPU seconds from the first slot to the last."""
    log, begins = InMemoryRunLog(), feed.recordings[0].market.opens_at
    clock = ManualClock(begins)
    none = timedelta(0)
    exchange = PaperExchange(feed, clock, cash=10**12, run="bench", venue_delay=none, network_delay=none)
    execution = Execution(exchange, log, LocalBus())
    session = TradingLoop(
        clock, feed, StrategyTrader(strategy, execution), execution, NoLearning(), Schedule(begins, feed.info.ends)
    )
    begun = process_time()
    await session.run()
    return log.fills, process_time() - begun


def columnar(count: int) -> tuple[ReplayFeed, Threshold, list[Fill], float]:
    """Only the books that are worth a look."""
    feed = ReplayFeed("bench", [recording(count)])
    rule = Threshold(low=Decimal(str(series.LOW)), high=Decimal(str(series.HIGH)), size=series.SHARES * UNIT)
    fills, seconds = asyncio.run(replayed(feed, rule))
    _said("edgeclaw, columnar", count, seconds, len(fills), cash=sum(f.cash for f in fills))
    return feed, rule, fills, seconds


def ours(count: int) -> tuple[float, int]:
    """Both ways, compared; events a second of the faster one, and its fills."""
    feed, rule, quick, seconds = columnar(count)
    every, slowly = asyncio.run(replayed(feed, ShownAll(rule)))
    _said("edgeclaw, every book", count, slowly, len(every), cash=sum(f.cash for f in every))
    plain = [[replace(f, id="", order_id="") for f in fills] for fills in (quick, every)]
    print(json.dumps({"bench": "replay_ways", "equal": plain[0] == plain[1], "ratio": round(slowly / seconds, 1)}))
    return count / seconds, len(quick)


def _said(engine: str, events: int, seconds: float, fills: int, *, cash: float) -> None:
    figures = {
        "bench": "replay",
        "engine": engine,
        "events": events,
        "cpu_seconds": round(seconds, 3),
        "events_per_s": round(events / seconds),
        "fills": fills,
        "cash_moved": cash,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(figures), flush=True)


def peers(count: int, rate: float, folder: Path) -> None:
    """The other engines on the same quotes, and how many times as fast we are."""
    quotes = series.written(count, folder)
    for peer in OTHERS:
        if not _runs(peer.python):
            print(json.dumps({"bench": "replay", "engine": peer.name, "skipped": f"no {peer.python} runs here"}))
            continue
        place = folder / peer.script.removesuffix(".py")
        subprocess.run([peer.python, "-m", "venv", str(place)], check=True)  # noqa: S603
        python = place / "bin" / "python"
        quiet = ("--quiet", "--disable-pip-version-check", "--pre")
        subprocess.run([python, "-m", "pip", "install", *quiet, *peer.packages], check=True)  # noqa: S603
        done = subprocess.run(  # noqa: S603
            [python, PEERS / peer.script, quotes], check=True, capture_output=True, text=True
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
        found["times_as_fast"] = round(rate / found["events_per_s"], 2)
        print(json.dumps({"bench": "replay", "engine": peer.name, **found}), flush=True)


def _runs(python: str) -> bool:
    """True where an interpreter exists and starts; a name on the path is not enough."""
    found = which(python)
    return found is not None and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0  # noqa: S603


def linear(stem: Path) -> None:
    """Each length in a process of its own, so that its peak of memory is its own; drawn as STEM.png and STEM.svg."""
    lines = []
    for count in LENGTHS:
        asked = [sys.executable, "-m", "benchmarks.replay", "--events", str(count), "--once"]
        done = subprocess.run(asked, check=True, capture_output=True, text=True)  # noqa: S603
        print(done.stdout.strip(), flush=True)
        lines.append(json.loads(done.stdout))
    seconds = [line["cpu_seconds"] for line in lines]
    slope = np.polyfit(np.log(LENGTHS), np.log(seconds), 1)[0]
    print(json.dumps({"bench": "replay_linear", "exponent": round(float(slope), 3)}))
    _drawn(seconds, [line["peak_mb"] for line in lines], stem)


def _drawn(seconds: Sequence[float], peaks: Sequence[float], stem: Path) -> None:
    from matplotlib import pyplot as plt

    millions = np.array(LENGTHS) / 1e6
    with house_style():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
        for axis, values, said in zip(axes, (seconds, peaks), ("CPU seconds", "peak memory, MB"), strict=True):
            bare(axis)
            axis.plot(millions, values, "o-", color=BLUE)
            axis.set_ylim(0)
            axis.set_xlabel("million quotes")
            axis.set_ylabel(said)
        figure.suptitle("One rule, the live session and exchange", x=0.01, ha="left", fontsize=13)
        saved(figure, stem)


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay one rule over one market's quotes.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--peers", action="store_true", help="also other engines, each in an environment of its own")
    parser.add_argument("--linear", type=Path, metavar="STEM", help="only ours, from one to ten million, drawn")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(sys.argv[1:] if __name__ == "__main__" else [])
    if asked.linear:
        linear(asked.linear)
        return
    if asked.once:
        columnar(asked.events)
        return
    with tempfile.TemporaryDirectory() as temporary:
        rate, _ = ours(asked.events)
        if asked.peers:
            peers(asked.events, rate, Path(temporary))


if __name__ == "__main__":
    main()
