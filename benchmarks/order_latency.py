"""Tick to accepted order over loopback: from the frame that changed a book to the venue's answer to the order it led
to, through the live path (feed, limits, intent on disk, official client) and a venue in another process; and how much
longer the first order of a market takes than its later ones.

Every order rests (post-only, below the best offer) and is taken back before the next one; that is not timed, nor is
writing the venue's answer down. A market is left alone for its first seconds, in which the venue, in one process, makes
the books of the windows to come.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median

from agent.live.account import VenueAccount
from agent.live.keys import play_key
from agent.live.preflight import patiently, venue_clock
from agent.live.recovery import AccountHistory
from agent.reports.funnel import latency
from agent.trading.bus import LocalBus
from agent.trading.execution import Execution
from market.clock import Clock, monotonic
from market.polymarket.feed import LiveFeed, Watch, open_feed
from market.polymarket.hosts import Hosts
from market.types import UNIT, Ack, Book, Market, OrderStatus, Outcome, Side, SignedOrder, TimeInForce
from storage.records import RunIdentity
from storage.store import open_store
from strategies.base import OrderIntent
from tests.values import risk_limits
from tools.halts import KillSwitch
from tools.limits import CostLimited, RateLimited, RiskLimited, Switched
from tools.orders import Around
from tools.polymarket.client import SigningAccount

SPEED, SECONDS = 20.0, 90.0
"""The venue's clock runs fast, so that many markets open; times are of this machine."""
ASSETS = ("btc", "eth")
_FIRST_SECONDS = timedelta(seconds=1.5 * SPEED)


class Timed(Around):
    """Notes when the venue's answer to an order is there."""

    answered = 0.0

    async def send(self, signed: SignedOrder) -> Ack:
        ack = await super().send(signed)
        self.answered = monotonic()
        return ack


@dataclass(slots=True)
class Bench:
    """Orders on whatever changes. `times` are milliseconds by market, in the order of the orders."""

    execution: Execution
    tool: Timed
    feed: LiveFeed
    clock: Clock
    times: dict[str, list[float]] = field(default_factory=dict)
    refused: int = 0

    async def run(self, seconds: float) -> None:
        ends = monotonic() + seconds
        while monotonic() < ends:
            now = self.clock.now()
            open_now = {m.id: m for m in await self.feed.markets(now)}
            until = min((m.closes_at for m in open_now.values()), default=now + timedelta(seconds=5))
            if not open_now:
                await self.clock.wait_until(until)
                continue
            async for book in self.feed.changes(list(open_now), now, until):
                age = (self.clock.now() - book.received_at).total_seconds() / SPEED
                market = open_now[book.market_id]
                early = book.received_at - market.opens_at < _FIRST_SECONDS
                if age < 0.001 and book.bids and not early and monotonic() < ends:  # none that waited for a cancel
                    await self._order(market, book)

    async def _order(self, market: Market, book: Book) -> None:
        intent = OrderIntent(
            Outcome.YES, Side.BUY, book.bids[-1].price, 5 * UNIT, why="bench", tif=TimeInForce.GTC, post_only=True
        )
        seen = (self.clock.now() - book.received_at).total_seconds() / SPEED
        begun = monotonic()
        view = await self.execution.look(market, book, book.received_at)
        times = self.times.setdefault(market.id, [])
        ack = await self.execution.act(intent, view, f"{market.id}/{len(times)}/{self.refused}", 0)
        taken = (seen + self.tool.answered - begun) * 1e3
        if ack is None or ack.status is not OrderStatus.LIVE:
            self.refused += 1
            return
        times.append(taken)
        await self.execution.withdraw(ack.order_id, self.clock.now())


@contextmanager
def venue() -> Iterator[str]:
    """The address of a loopback venue in another process."""
    serve = [sys.executable, "-m", "agent", "venue", "serve", "--port", "0", "--speed", str(SPEED), "--json"]
    for asset in ASSETS:
        serve += ["--asset", asset]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        assert process.stdout is not None  # noqa: S101 - it was asked for
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


async def measure(folder: Path, url: str, seconds: float) -> dict[str, object]:
    async with open_store(f"sqlite:///{folder / 'bench.db'}") as store:
        hosts = Hosts.loopback(url)
        key, clock = play_key(folder / "play.key"), await venue_clock(hosts)
        account = VenueAccount(hosts, SigningAccount.of(key.signer()), key)
        await patiently(lambda: account.begin(clock))
        past = AccountHistory(await account.cash(clock), clock.now())
        run = await store.begin_run(RunIdentity("bench", "bench", "bench", "bench", "bench"), {}, clock.now())
        async with (
            open_feed(hosts, clock, Watch(tuple((a, 300) for a in ASSETS))) as feed,
            account.opened(feed, clock, past, feed.market) as hands,
        ):
            await patiently(lambda: hands.ready(clock))
            risk = RiskLimited(
                RateLimited(hands.orders, clock, 1e6),
                risk_limits(order=10**15, market=10**15, loss=10**15, open_orders=10**6),
            )
            tool = Timed(Switched(CostLimited(risk, UNIT, lambda: 0), KillSwitch(folder)))
            bench = Bench(Execution(tool, store.log(run.id), LocalBus()), tool, feed, clock)
            await bench.run(seconds)
    orders = [t for times in bench.times.values() for t in times]
    line = latency("order", orders)
    firsts = [times[0] for times in bench.times.values() if len(times) > 5]
    later = [t for times in bench.times.values() if len(times) > 5 for t in times[1:]]
    ratio = median(firsts) / median(later) if firsts else None
    return {
        "bench": "order_latency", "what": "tick to accepted order over loopback, intent on disk (synchronous=FULL)",
        "n": line.n, "refused": bench.refused, "p50_ms": line.p50, "p99_ms": line.p99, "goal": "p50 < 10, p99 < 50",
        "markets": len(firsts), "first_of_a_market_p50_ms": median(firsts) if firsts else None,
        "later_p50_ms": median(later) if later else None, "first_to_later": ratio, "goal_first_to_later": 2,
    }  # fmt: skip


def main(seconds: float = SECONDS) -> None:
    with tempfile.TemporaryDirectory() as folder, venue() as url:
        print(json.dumps(asyncio.run(measure(Path(folder), url, seconds))))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
