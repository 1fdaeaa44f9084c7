"""Winnings that the venue does not pay out by itself: after a while they are asked for on the chain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

from agent.config import Config
from agent.live import Hands
from agent.wallet import opened
from market.clock import Clock
from market.errors import EdgeclawError

AFTER = timedelta(minutes=10)
"""How long the venue may take to pay by itself."""
_BETWEEN = timedelta(minutes=1)
log = logging.getLogger(__name__)


@asynccontextmanager
async def redeeming(config: Config, home: Path, hands: Hands, clock: Clock) -> AsyncIterator[None]:
    """While the block lasts, late winnings are redeemed. What fails is said in the log and tried again: nothing is
    lost by waiting."""
    job = asyncio.create_task(_run(config, home, hands, clock))
    try:
        yield
    finally:
        job.cancel()
        with suppress(asyncio.CancelledError):
            await job


async def _run(config: Config, home: Path, hands: Hands, clock: Clock) -> None:
    said = ""
    while True:
        await clock.wait_until(clock.now() + _BETWEEN)
        try:
            await look(config, home, hands, clock)
        except EdgeclawError as error:
            if said != str(error):  # once, not every minute
                said = str(error)
                log.warning("Winnings are late and cannot be asked for: %s", error.sentence())


async def look(config: Config, home: Path, hands: Hands, clock: Clock) -> int:
    """Redeem what is late; how many markets that was. Raises NotReady, VenueUnavailable."""
    if hands.unpaid():
        await hands.see_payments()
    late = {s.market_id for s in hands.unpaid().values() if clock.now() - s.at > AFTER}
    if not late:
        return 0
    async with opened(config, home) as wallet:
        there = {h.market_id for h in await wallet.redeemable()}
        calls = await wallet.redemptions(sorted(late & there))
        for done in await wallet.carry_out(calls):
            log.info("%s %s", done.says, done.receipt.status)
    await hands.see_payments()
    return len(calls)
