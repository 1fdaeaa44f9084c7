"""Redemption of winnings on the chain that the venue has not paid out in time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from agent.live.wallet import OpenWallet
from market.clock import Clock
from market.events import Event, WinningsRedeemed
from market.types import units
from tools.polymarket.orders import PolymarketOrders

AFTER = timedelta(minutes=10)
"""Time that the venue has to pay by itself."""
_AGAIN = timedelta(minutes=10)
"""Time between two attempts at one market: each costs gas, or one of the relayer's calls of a day."""


@dataclass(slots=True)
class WinningsRedeemer:
    """Redeems late winnings of an open account by its wallet, which `wallet` opens. `tried`: last attempt by market."""

    account: PolymarketOrders
    wallet: Callable[[], AbstractAsyncContextManager[OpenWallet]]
    clock: Clock
    publish: Callable[[Event], None]
    tried: dict[str, datetime] = field(default_factory=dict)

    async def redeem_late(self) -> str:
        """Redeem what is late; returns what came of it, or an empty string. Nothing is lost by waiting. Raises
        NotReady, VenueUnavailable."""
        if self.account.unpaid():
            await self.account.see_payments()
        now, late = self.clock.now(), self._late()
        due = {m for m in late if now - self.tried.get(m, datetime.min.replace(tzinfo=now.tzinfo)) >= _AGAIN}
        self.tried = {m: at for m, at in self.tried.items() if m in late} | dict.fromkeys(due, now)
        if not due:
            return ""
        async with self.wallet() as wallet:
            # Redeemed by hand or paid meanwhile, a market is no longer listed, and its call would fail.
            there = {h.market_id for h in await wallet.redeemable()}
            done = await wallet.carry_out(await wallet.redemptions(sorted(due & there), approving=False))
        await self.account.see_payments()
        for market_id, one in zip(sorted(due & there), done, strict=True):
            receipt = one.receipt
            event = WinningsRedeemed(
                at=self.clock.now(), market_ids=(market_id,), transaction=receipt.transaction, ok=receipt.ok
            )
            self.publish(event)
        failed = [f"{d.receipt.transaction} {d.receipt.status}" for d in done if not d.receipt.ok]
        said = [f"{len(done) - len(failed)} markets were redeemed."] if len(done) > len(failed) else []
        return " ".join([*said, *(f"A redemption failed: {one}." for one in failed)])

    def overdue(self) -> str:
        """A sentence on winnings that are late, or an empty string."""
        late, unpaid = self._late(), self.account.unpaid().values()
        if not late:
            return ""
        worth = sum(s.cash for s in unpaid if s.market_id in late)
        since = min(s.at for s in unpaid if s.market_id in late)
        return (
            f"Winnings of ${units(worth)} in {len(late)} markets have not been paid since {since:%Y-%m-%d %H:%M} UTC."
        )

    def _late(self) -> set[str]:
        now = self.clock.now()
        return {s.market_id for s in self.account.unpaid().values() if now - s.at > AFTER}
