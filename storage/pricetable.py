"""A small price table in an in-memory database, for questions that are answered by executing a query.

It holds nothing of a run and touches no file. Queries are made of closed choices; an open choice filters nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, func, select
from sqlalchemy.pool import StaticPool

AGGREGATES = ("max", "min", "avg", "sum")
COLUMNS = ("open", "close", "volume", "spread", "trades")

_TABLE = Table(
    "prices",
    MetaData(),
    Column("coin", String, nullable=False),
    Column("day", String, nullable=False),
    Column("session", Integer, nullable=False),
    *(Column(name, Integer, nullable=False) for name in COLUMNS),
)


@dataclass(frozen=True, slots=True)
class Query:
    """`aggregate(column)` of one coin's rows on one day."""

    aggregate: str
    column: str
    coin: str
    day: str


class PriceTable:
    """Rows are mappings by column name, integers but for coin and day. The database lives as long as the object."""

    def __init__(self, rows: Sequence[Mapping[str, int | str]]) -> None:
        engine = create_engine("sqlite://", poolclass=StaticPool)
        self._connection = engine.connect()
        _TABLE.create(self._connection)
        self._connection.execute(_TABLE.insert(), [dict(row) for row in rows])
        self._known: dict[tuple[str, str, str | None, str | None], frozenset[Fraction]] = {}
        weakref.finalize(self, engine.dispose)

    def value(self, query: Query) -> Fraction | None:
        """The exact result; None if no row matches."""
        return next(iter(self.values(query.aggregate, query.column, query.coin, query.day)), None)

    def values(
        self, aggregate: str, column: str, coin: str | None = None, day: str | None = None
    ) -> frozenset[Fraction]:
        """All results that a query can still have: one for each coin and day that is left open and has rows."""
        key = (aggregate, column, coin, day)
        if key not in self._known:
            self._known[key] = self._executed(*key)
        return self._known[key]

    def _executed(self, aggregate: str, column: str, coin: str | None, day: str | None) -> frozenset[Fraction]:
        c = _TABLE.c[column]
        total = {"max": func.max(c), "min": func.min(c), "sum": func.sum(c), "avg": func.sum(c)}[aggregate]
        asked = select(total, func.count()).group_by(_TABLE.c.coin, _TABLE.c.day)
        for name, wanted in (("coin", coin), ("day", day)):
            if wanted is not None:
                asked = asked.where(_TABLE.c[name] == wanted)
        rows = self._connection.execute(asked)
        return frozenset(Fraction(found, count if aggregate == "avg" else 1) for found, count in rows)  # avg: exactly
