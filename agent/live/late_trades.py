"""Trades that the venue calls neither final nor failed for too long: the chain is asked what became of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from market.clock import Clock
from market.types import Market, Micro, Outcome
from tools.polymarket.account import TradeStatus
from tools.polymarket.books import AccountBooks, IndexedTrade, Unmined
from tools.wallet import Receipt

_Key = tuple[str, Outcome]
LATE, ASKED, GIVEN_UP = timedelta(minutes=1), timedelta(minutes=10), timedelta(minutes=30)
"""Age of a trade from which on it is told as late, the chain is asked, and its absence there means that it has failed:
before that the venue may be slow, or be trying again."""
log = logging.getLogger(__name__)


class Chain(Protocol):
    """What is asked of a node. Raises VenueUnavailable."""

    async def receipt(self, transaction_hash: str) -> Receipt | None: ...

    async def positions(self, tokens: Sequence[str]) -> Mapping[str, Micro]: ...


@dataclass(frozen=True, slots=True)
class LateTrades:
    """Late trades of an account. `chain` opens a node, `traded` lists a market's trades by the venue's index of the
    chain, and `markets` finds a market by its id."""

    books: AccountBooks
    chain: Callable[[], AbstractAsyncContextManager[Chain]]
    traded: Callable[[str], Awaitable[Sequence[IndexedTrade]]]
    markets: Callable[[str], Market | None]
    clock: Clock

    async def settle(self) -> None:
        """End the trades of which the chain shows what became. Raises VenueUnavailable."""
        if overdue := self.books.overdue(self.clock.now() - ASKED):
            async with self.chain() as chain:
                for one in overdue:
                    await self._settle(one, chain)

    def remarks(self) -> list[str]:
        """A sentence on each late trade."""
        return [self._sentence(one) for one in self.books.overdue(self.clock.now() - LATE)]

    async def _settle(self, one: Unmined, chain: Chain) -> None:
        """End one trade, if its receipt or the shares that are there leave no doubt."""
        receipt = await chain.receipt(one.transaction) if one.transaction else None
        # A transaction that was reverted is tried again by the venue, under another hash.
        mined = True if receipt is not None and receipt.ok else await self._there(one, chain)
        if mined is None or (not mined and self.clock.now() - one.matched_at < GIVEN_UP):
            return
        status = TradeStatus.CONFIRMED if mined else TradeStatus.FAILED
        log.warning("trade %s of %s: by the chain it is %s", one.id, one.matched_at.isoformat(), status)
        self.books.conclude(one.id, status)

    async def _there(self, one: Unmined, chain: Chain) -> bool | None:
        """True if the trade was mined, False if it was not, None if it cannot be told: by the shares on the chain while
        the market is open, and by the index of its trades once they may have become dollars."""
        market = self.markets(one.market_id)
        if market is None:
            return None
        tokens = {key: market.token(key[1]) for key in one.moves}
        if self.clock.now() < market.closes_at:
            return await self._held(one, tokens, chain)
        left = list(await self.traded(one.market_id))
        # One by one, not by sums: several late trades of one market may add up to each other.
        for known in (row for row in self.books.mined(one.market_id) if not one.mined or row not in one.rows):
            _take(left, known)
        return all(_take(left, row) for row in one.rows)

    async def _held(self, one: Unmined, tokens: Mapping[_Key, str], chain: Chain) -> bool | None:
        held = await chain.positions(sorted(tokens.values()))
        # What is expected on the chain has the trade in it only where the venue calls it mined.
        without = {key: self._expected(tokens[key]) - (size if one.mined else 0) for key, size in one.moves.items()}
        return _decided(one, without, {key: held[token] for key, token in tokens.items()})

    def _expected(self, token: str) -> Micro:
        found = self.books.expected_of(token)
        return 0 if found is None else found.amount

    def _sentence(self, one: Unmined) -> str:
        market = self.markets(one.market_id)
        where = one.market_id if market is None else market.slug
        return f"A trade in {where} of {one.matched_at:%Y-%m-%d %H:%M:%S} UTC is not settled yet ({one.id})."


def _take(rows: list[IndexedTrade], wanted: IndexedTrade) -> bool:
    """Take a row like that one out; False if there is none."""
    for number, row in enumerate(rows):
        if row.same(wanted):
            del rows[number]
            return True
    return False


def _decided(one: Unmined, without: Mapping[_Key, Micro], there: Mapping[_Key, Micro]) -> bool | None:
    """True if what is there has the trade in it, False if it has all but the trade, None if it is neither."""
    if all(there[key] == without[key] + size for key, size in one.moves.items()):
        return True
    return False if all(there[key] == without[key] for key in one.moves) else None
