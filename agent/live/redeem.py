"""Redemption of winnings on the chain that the venue has not paid out in time."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

from agent.config.schema import Config
from agent.live.account import OpenAccount
from agent.live.wallet import open_wallet
from market.clock import Clock

AFTER = timedelta(minutes=10)
"""Time that the venue has to pay by itself."""
log = logging.getLogger(__name__)


async def look(config: Config, home: Path, account: OpenAccount, clock: Clock) -> int:
    """Redeem late winnings; returns the number of markets. Nothing is lost by waiting. Raises NotReady,
    VenueUnavailable."""
    if account.unpaid():
        await account.see_payments()
    late = {s.market_id for s in account.unpaid().values() if clock.now() - s.at > AFTER}
    if not late:
        return 0
    async with open_wallet(config, home) as wallet:
        # Redeemed by hand or paid meanwhile, a market is no longer listed, and its call would fail.
        there = {h.market_id for h in await wallet.redeemable()}
        calls = await wallet.redemptions(sorted(late & there))
        for done in await wallet.carry_out(calls):
            log.info("%s %s", done.says, done.receipt.status)
    await account.see_payments()
    return len(calls)
