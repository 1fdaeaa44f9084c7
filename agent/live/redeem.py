"""Winnings that the venue does not pay out by itself: after a while they are asked for on the chain."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

from agent.config.schema import Config
from agent.live.account import OpenAccount
from agent.live.wallet import open_wallet
from market.clock import Clock

AFTER = timedelta(minutes=10)
"""How long the venue may take to pay by itself."""
log = logging.getLogger(__name__)


async def look(config: Config, home: Path, hands: OpenAccount, clock: Clock) -> int:
    """Redeem what is late; how many markets that was. Nothing is lost by waiting. Raises NotReady, VenueUnavailable."""
    if hands.unpaid():
        await hands.see_payments()
    late = {s.market_id for s in hands.unpaid().values() if clock.now() - s.at > AFTER}
    if not late:
        return 0
    async with open_wallet(config, home) as wallet:
        there = {h.market_id for h in await wallet.redeemable()}
        calls = await wallet.redemptions(sorted(late & there))
        for done in await wallet.carry_out(calls):
            log.info("%s %s", done.says, done.receipt.status)
    await hands.see_payments()
    return len(calls)
