"""The loopback venue, opened."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from backtest.sources import open_recorded
from market.clock import Clock, ScaledClock, WallClock
from market.errors import DataInvalid
from market.types import UNIT

if TYPE_CHECKING:
    from backtest.venue.scenarios import Series

from agent.app.live import must_trade

PLAY_MONEY = 1_000 * UNIT
_PAID_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class VenuePlan:
    """A loopback venue: on which port, how fast its clock runs, and whose books it shows.

    `books` is "synthetic", or names recorded ones; `assets`, `seconds` and `seed` are of synthetic windows.
    `auto_redeem` pays winnings out by itself, half a minute after a window is resolved.
    """

    port: int = 0
    speed: float = 1.0
    books: str = "synthetic"
    assets: tuple[str, ...] = ("btc",)
    seconds: int = 300
    seed: int = 7
    faucet: bool = True
    strict_wallets: bool = False
    auto_redeem: bool = True


@asynccontextmanager
async def open_venue(plan: VenuePlan) -> AsyncIterator[str]:
    """A loopback venue that runs until the block ends; gives its address."""
    must_trade()
    from backtest.venue.exchange import Pace
    from backtest.venue.server import VenueServer, served
    from backtest.venue.state import VenueState

    clock = ScaledClock(WallClock().now(), plan.speed)
    faucet = PLAY_MONEY if plan.faucet else None
    pace = Pace(paying=_PAID_AFTER if plan.auto_redeem else None)
    state = VenueState(clock, await asyncio.to_thread(_series, plan, clock), pace=pace, faucet=faucet)
    server = VenueServer(state, secrets.token_bytes(32), strict_wallets=plan.strict_wallets)
    async with served(server, plan.port) as base:
        yield base


def _series(plan: VenuePlan, clock: Clock) -> Sequence[Series]:
    from backtest.venue.scenarios import Recorded, Walk

    if plan.books == "synthetic":
        walks = enumerate(dict.fromkeys(plan.assets))
        return [Walk(begins=clock.now(), seed=plan.seed + n, asset=asset, seconds=plan.seconds) for n, asset in walks]
    recordings = open_recorded(plan.books).recordings
    ended = [r for r in recordings if r.resolution is not None and r.resolution.payout is not None]
    if not ended:
        raise DataInvalid(f"no window in {plan.books} has an outcome.", next_step="Choose other --books.")
    seconds = min(r.market.seconds for r in ended)
    return [Recorded([r for r in ended if r.market.seconds == seconds])]
