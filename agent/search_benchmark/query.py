"""Table questions in words, answered by a query of four closed clauses that SQLite executes.

The checker knows the result on the table at hand. A clause is ruled out where no completion of the query can have that
result any more: the unfinished query is executed with the rest left open. Whether the query is right is decided on
another table, which the search never sees, so that a query right by accident does not count.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from random import Random

from agent.search_benchmark.task import Choice, Path
from storage.pricetable import AGGREGATES, COLUMNS, PriceTable, Query

COINS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SESSIONS = 3
_SLOTS = (AGGREGATES, COLUMNS, COINS, DAYS)

_WORDS: Mapping[str, tuple[str, ...]] = {
    "max": ("the highest", "the peak", "the largest", "the top"),
    "min": ("the lowest", "the smallest", "the least", "the bottom"),
    "avg": ("the mean", "the typical", "the usual", "the average"),
    "sum": ("the total", "the overall", "the combined", "the whole"),
    "open": ("opening price", "first price", "price at the bell"),
    "close": ("closing price", "last price", "final price"),
    "volume": ("turnover", "amount traded", "trading activity"),
    "spread": ("gap between bid and ask", "cost to cross", "bid-ask gap"),
    "trades": ("deals", "transactions", "fills"),
    "BTC": ("bitcoin",),
    "ETH": ("ether", "ethereum"),
    "SOL": ("solana",),
    "XRP": ("ripple",),
    "DOGE": ("dogecoin",),
    "ADA": ("cardano",),
    "Mon": ("on Monday", "on the first day of the week"),
    "Tue": ("on Tuesday", "on the second day of the week"),
    "Wed": ("on Wednesday", "in the middle of the week"),
    "Thu": ("on Thursday", "on the fourth day of the week"),
    "Fri": ("on Friday", "on the last working day"),
    "Sat": ("on Saturday", "on the first day of the weekend"),
    "Sun": ("on Sunday", "on the last day of the week"),
}


@dataclass(frozen=True, slots=True)
class Lookup:
    """`truth` is the query behind the words; `seen` and `unseen` are tables of two different weeks."""

    truth: Query
    words: tuple[str, ...]
    seen: PriceTable = field(compare=False, repr=False)
    unseen: PriceTable = field(compare=False, repr=False)
    depth: int = len(_SLOTS)

    @property
    def opening(self) -> str:
        return f"What was {' '.join((*self.words[:2], 'of', *self.words[2:]))}?\n"

    def choice(self, path: Path) -> Choice:
        at = len(path)
        return Choice(f"{self.words[at]} =" if at == 0 else f"\n{self.words[at]} =", tuple(f" {x}" for x in _SLOTS[at]))

    def refuted(self, path: Path) -> bool:
        if len(path) < 2:
            return False
        if len(path) == self.depth:
            return not self.accepted(self.answer(path))
        aggregate, column, *coin = (label.strip() for label in path)
        return self.seen.value(self.truth) not in self.seen.values(aggregate, column, *coin)

    def answer(self, path: Path) -> Hashable:
        return Query(*(label.strip() for label in path)) if len(path) == self.depth else None

    def accepted(self, answer: Hashable) -> bool:
        return isinstance(answer, Query) and self.seen.value(answer) == self.seen.value(self.truth)

    def correct(self, answer: Hashable) -> bool:
        return isinstance(answer, Query) and self.unseen.value(answer) == self.unseen.value(self.truth)

    def key(self, path: Path) -> Hashable:
        return None

    def solution(self) -> Path:
        q = self.truth
        return tuple(f" {x}" for x in (q.aggregate, q.column, q.coin, q.day))


def lookup(chance: Random) -> Lookup:
    """A question and its two tables."""
    picked = [chance.choice(slot) for slot in _SLOTS]
    words = tuple(chance.choice(_WORDS[x]) for x in picked)
    return Lookup(Query(*picked), words, week(chance), week(chance))


def week(chance: Random) -> PriceTable:
    """Three sessions a day of every coin, all in one price range, so that a value alone does not name its column."""
    return PriceTable(
        [
            {"coin": coin, "day": day, "session": session, **{name: chance.randint(100, 999) for name in COLUMNS}}
            for coin in COINS
            for day in DAYS
            for session in range(SESSIONS)
        ]
    )
