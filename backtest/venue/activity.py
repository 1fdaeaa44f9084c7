"""Activity of the loopback venue's accounts: every movement of money or shares that the chain knows of, in order.

The data service lists what has been mined, and nothing else: a trade appears once its transaction is in a block, one
that fails or is never mined does not appear. Pure; see `payloads` for the wire form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from market.types import Market, Micro, Outcome, Side

REDEEM_PER_TOKEN_FROM = datetime(2026, 8, 10, tzinfo=UTC)
"""From here on a redemption has a row for each outcome token, the losing one with zero; before, one for the market."""


class LoopbackActivityKind(StrEnum):
    """Kinds of rows, in the data service's words."""

    TRADE = "TRADE"
    SPLIT = "SPLIT"
    MERGE = "MERGE"
    REDEEM = "REDEEM"
    CONVERSION = "CONVERSION"
    MIGRATION = "MIGRATION"
    TIP = "TIP"
    DEPOSIT = "DEPOSIT"
    WITHDRAWAL = "WITHDRAWAL"
    MAKER_REBATE = "MAKER_REBATE"
    TAKER_REBATE = "TAKER_REBATE"
    REWARD = "REWARD"
    YIELD = "YIELD"
    REFERRAL_REWARD = "REFERRAL_REWARD"


_KIND = LoopbackActivityKind
TRANSFERS = frozenset({_KIND.DEPOSIT, _KIND.WITHDRAWAL})
"""Kinds that the data service leaves out unless they are asked for."""
PAYMENTS = TRANSFERS | {_KIND.MAKER_REBATE, _KIND.TAKER_REBATE, _KIND.REWARD, _KIND.YIELD, _KIND.REFERRAL_REWARD}
"""Kinds that move dollars beside trading."""


@dataclass(frozen=True, slots=True)
class LoopbackActivity:
    """A row. `dollars` are what moved, never negative and without the fee of a trade; `price` is dollars per share. A
    payment has no market; a redemption before August 2026 has no outcome."""

    kind: LoopbackActivityKind
    address: str
    at: datetime
    transaction: str
    dollars: Micro
    market: Market | None = None
    outcome: Outcome | None = None
    side: Side | None = None
    size: Micro = 0
    price: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class ActivityQuery:
    """Filter of rows: times are inclusive, empty sets match everything. `after` is the number of the last row seen."""

    kinds: frozenset[LoopbackActivityKind] = frozenset(_KIND)
    conditions: frozenset[str] = frozenset()
    side: Side | None = None
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = True
    after: int | None = None

    def matches(self, row: LoopbackActivity) -> bool:
        return (
            row.kind in self.kinds
            and (not self.conditions or (row.market is not None and row.market.id in self.conditions))
            and self.side in (None, row.side)
            and (self.since is None or row.at >= self.since)
            and (self.until is None or row.at <= self.until)
        )


@dataclass(slots=True)
class ActivityLog:
    """Rows of all accounts, oldest first. A row is only ever appended, so that its number stays its own."""

    rows: list[LoopbackActivity] = field(default_factory=list)

    def append(self, rows: Iterable[LoopbackActivity]) -> None:
        self.rows.extend(rows)

    def page(self, address: str, query: ActivityQuery, limit: int) -> tuple[Sequence[LoopbackActivity], int | None]:
        """Rows of an account, and the number to continue after; None on the last page."""
        found: list[tuple[int, LoopbackActivity]] = []
        for number in self._numbers(query):
            row = self.rows[number]
            if row.address == address and query.matches(row):
                if len(found) == limit:
                    return [r for _, r in found], found[-1][0]
                found.append((number, row))
        return [r for _, r in found], None

    def _numbers(self, query: ActivityQuery) -> Iterable[int]:
        last = len(self.rows)
        if query.newest_first:
            return range((last if query.after is None else min(query.after, last)) - 1, -1, -1)
        return range(0 if query.after is None else query.after + 1, last)


def transaction_of(what: str) -> str:
    """Transaction hash for something that the venue's own operators send; the same for the same text."""
    return "0x" + hashlib.sha256(what.encode()).hexdigest()
