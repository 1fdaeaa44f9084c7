"""Throughput of the feed of recorded books, as Book values; knows recordings only, no trading.

Run: python -m benchmarks.book_feed [FOLDER ...]   (prints one JSON object a line)
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from backtest.replay import ReplayFeed
from backtest.sources import SAMPLE, open_recorded
from market.clock import from_ms, monotonic
from market.errors import NotReady

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data"
LOOK_UPS = 20_000


def _print(**figures: object) -> None:
    print(json.dumps(figures), flush=True)


async def _events(feed: ReplayFeed) -> int:
    ids = [r.market.id for r in feed.recordings]
    first, last = (pick(int(r.received[end]) for r in feed.recordings) for pick, end in ((min, 0), (max, -1)))
    count = 0
    async for _ in feed.changes(ids, from_ms(first - 1), from_ms(last)):
        count += 1
    return count


async def _look_ups(feed: ReplayFeed) -> float:
    """Microseconds per `book()`, each for another row of the deepest recording."""
    one = max(feed.recordings, key=len)
    rows = [int(one.received[n * 7919 % len(one)]) for n in range(LOOK_UPS)]
    instants = [from_ms(ms) for ms in rows]
    begun = monotonic()
    for at in instants:
        await feed.book(one.market.id, at)
    return (monotonic() - begun) / LOOK_UPS * 1e6


def measure(where: str) -> None:
    """Load, the first pass (levels are made), a second one (levels are there), and single look-ups."""
    begun = monotonic()
    feed = open_recorded(where)
    name = feed.info.name
    _print(bench="book_load", source=name, seconds=round(monotonic() - begun, 3), markets=len(feed.recordings))
    for run in ("cold", "warm"):
        begun = monotonic()
        events = asyncio.run(_events(feed))
        seconds = monotonic() - begun
        rate = round(events / seconds)
        _print(bench="book_events", source=name, run=run, events=events, seconds=round(seconds, 3), events_per_s=rate)
    _print(bench="book_look_up", source=name, look_ups=LOOK_UPS, microseconds=round(asyncio.run(_look_ups(feed)), 2))


def main() -> None:
    """The sample where it is installed, the recorded folder where it is there, and any folders named."""
    places = sys.argv[1:] or [SAMPLE, *([str(RECORDED)] if RECORDED.is_dir() else [])]
    for where in places:
        try:
            measure(where)
        except NotReady as missing:
            _print(bench="book_events", source=where, skipped=missing.sentence())


if __name__ == "__main__":
    main()
