"""Trades that the venue calls neither final nor failed for too long: the chain is asked what became of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from market.clock import Clock
from market.errors import VenueUnavailable
from market.types import Market, Micro, Outcome
from tools.polymarket.account import TradeStatus
from tools.polymarket.books import AccountBooks, Unmined
from tools.wallet import Receipt

LATE, ASKED = timedelta(minutes=1), timedelta(minutes=10)
"""Age of a trade from which on it is told as late, and from which on the chain decides."""
log = logging.getLogger(__name__)


class Chain(Protocol):
    """What is asked of a node. Raises VenueUnavailable."""

    async def receipt(self, transaction_hash: str) -> Receipt | None: ...

    async def positions(self, tokens: Sequence[str]) -> Mapping[str, Micro]: ...


@dataclass(frozen=True, slots=True)
class LateTrades:
    """Late trades of an account. `chain` opens a node, `markets` finds a market by its id."""

    books: AccountBooks
    chain: Callable[[], AbstractAsyncContextManager[Chain]]
    markets: Callable[[str], Market | None]
    clock: Clock

    async def settle(self) -> list[str]:
        """End the trades of which the chain shows what became; return a sentence on each other late one."""
        now = self.clock.now()
        if overdue := self.books.overdue(now - ASKED):
            try:
                async with self.chain() as chain:
                    for one in overdue:
                        await self._settle(one, chain)
            except VenueUnavailable as error:
                return [f"{len(overdue)} late trades could not be looked up on the chain: {error}"]
        return [self._sentence(one) for one in self.books.overdue(now - LATE)]

    async def _settle(self, one: Unmined, chain: Chain) -> None:
        """End one trade, if its receipt or the shares that are there leave no doubt."""
        receipt = await chain.receipt(one.transaction) if one.transaction else None
        mined = receipt.ok if receipt is not None else await self._there(one, chain)
        if mined is None:
            return
        status = TradeStatus.CONFIRMED if mined else TradeStatus.FAILED
        log.warning("trade %s of %s: by the chain it is %s", one.id, one.matched_at.isoformat(), status)
        self.books.conclude(one.id, status)

    async def _there(self, one: Unmined, chain: Chain) -> bool | None:
        """True if the chain has the trade's shares, False if it has all but them, None if it cannot be told: other
        trades may be on their way too."""
        market = self.markets(one.market_id)
        if market is None:
            return None
        tokens = {key: market.token(key[1]) for key in one.moves}
        held = await chain.positions(sorted(tokens.values()))
        found = {self._fits(held[token], one, key, token) for key, token in tokens.items()}
        return found.pop() if len(found) == 1 else None

    def _fits(self, held: Micro, one: Unmined, key: tuple[str, Outcome], token: str) -> bool | None:
        found = self.books.expected_of(token)
        expected = 0 if found is None else found.amount
        # What is expected on the chain has the trade in it only where the venue calls it mined.
        without, with_it = (expected - one.moves[key], expected) if one.mined else (expected, expected + one.moves[key])
        return True if held == with_it else False if held == without else None

    def _sentence(self, one: Unmined) -> str:
        market = self.markets(one.market_id)
        where = one.market_id if market is None else market.slug
        return f"A trade in {where} of {one.matched_at:%Y-%m-%d %H:%M:%S} UTC is not settled yet ({one.id})."
