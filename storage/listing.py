"""Lists of decisions: filter, order, and profit of each decision's orders. Reads only.

Every query is answered from the listing tables, so that the time for a page does not grow with the bodies of a hundred
thousand decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Subquery, and_, case, exists, func, select, true

from market.types import UNIT, Micro, Side
from storage import schema
from storage.connection import Database
from storage.records import DecisionFilter, DecisionSummary, Sorting
from storage.rows import chunks
from storage.schema import from_us, to_us


class Listing:
    """Queries over decisions. Instants are aware UTC."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def decisions(
        self, run_id: str | None = None, *, limit: int = 1000, action: str | None = None, reason: str | None = None
    ) -> list[DecisionSummary]:
        """The newest `limit` decisions that match, oldest first."""
        found = await self.listed(DecisionFilter(run_id=run_id, action=action, reason=reason), limit=limit)
        return found[::-1]

    async def listed(
        self, wanted: DecisionFilter, *, sorting: Sorting = Sorting.NEWEST, limit: int = 100, after: int = 0
    ) -> list[DecisionSummary]:
        """At most `limit` decisions in this order, after skipping `after`."""
        return await self._db.read(lambda c: _listed(c, wanted, sorting, limit, after))

    async def count(self, wanted: DecisionFilter) -> int:
        """Number of matching decisions."""
        query = select(func.count()).select_from(schema.decisions).where(*_conditions(wanted))
        return int(await self._db.read(lambda c: c.execute(query).scalar_one()))

    async def profits(self, run_id: str) -> dict[str, Micro]:
        """Micro-dollars of profit of a run's decisions by market, over orders whose market has settled."""
        d, profit = schema.decisions.c, _profit()
        of_it = and_(profit.c.run_id == d.run_id, profit.c.decision_id == d.id)
        query = select(d.market_id, func.sum(profit.c.profit).label("profit")).join(profit, of_it)
        query = query.where(d.run_id == run_id, profit.c.profit.is_not(None)).group_by(d.market_id)
        return await self._db.read(lambda c: {str(r.market_id): round(r.profit) for r in c.execute(query)})

    async def reasons_of(self, run_id: str) -> list[str]:
        """All distinct reasons of a run's decisions."""
        d = schema.decisions.c
        query = select(d.reason).distinct().where(d.run_id == run_id).order_by(d.reason)
        return await self._db.read(lambda c: [str(reason) for reason in c.scalars(query)])

    async def reasons(self, run_id: str | None = None) -> list[tuple[str, str, int]]:
        """(action, reason, count), the most frequent first."""
        d = schema.decisions.c
        count = func.count()
        query = select(d.action, d.reason, count).group_by(d.action, d.reason).order_by(count.desc(), d.reason)
        if run_id is not None:
            query = query.where(d.run_id == run_id)
        return await self._db.read(lambda c: [(r[0], r[1], int(r[2])) for r in c.execute(query)])


def _listed(
    connection: Connection, wanted: DecisionFilter, sorting: Sorting, limit: int, after: int
) -> list[DecisionSummary]:
    d = schema.decisions
    newest = (d.c.at.desc(), d.c.run_id.desc(), d.c.seq.desc())
    query: Select[Any] = select(d).where(*_conditions(wanted)).limit(limit).offset(after)
    match sorting:
        case Sorting.NEWEST:
            query = query.order_by(*newest)
        case Sorting.MOST_TOKENS:
            query = query.order_by(d.c.tokens.desc(), *newest)
        case Sorting.LEAST_VERIFIED:
            query = query.where(d.c.verified_share.is_not(None)).order_by(d.c.verified_share, *newest)
        case _:
            profit = _profit()
            earned = profit.c.profit.desc() if sorting is Sorting.EARNED_MOST else profit.c.profit
            of_it = and_(profit.c.run_id == d.c.run_id, profit.c.decision_id == d.c.id)
            query = query.join(profit, of_it).where(profit.c.profit.is_not(None)).order_by(earned, *newest)
    rows = connection.execute(query).all()
    brought = _profits(connection, [row.id for row in rows])
    return [_summary(row, brought.get((row.run_id, row.id))) for row in rows]


def _conditions(wanted: DecisionFilter) -> Iterable[ColumnElement[bool]]:
    d = schema.decisions.c
    for column, value in ((d.run_id, wanted.run_id), (d.action, wanted.action), (d.reason, wanted.reason)):
        if value is not None:
            yield column == value
    if wanted.slug is not None:
        yield d.slug.contains(wanted.slug, autoescape=True)
    if wanted.since is not None:
        yield d.at >= to_us(wanted.since)
    if wanted.until is not None:
        yield d.at < to_us(wanted.until)
    if wanted.below is not None:
        yield d.verified_share < wanted.below
    if wanted.searched is not None:
        yield d.verified_share.is_not(None) if wanted.searched else d.verified_share.is_(None)
    if wanted.corrected is not None:
        yield d.corrected.is_(wanted.corrected)
    if wanted.traded is not None:
        i = schema.intents.c
        ordered = exists().where(i.run_id == d.run_id, i.decision_id == d.id)
        yield ordered if wanted.traded else ~ordered


def _profit(ids: Sequence[str] | None = None) -> Subquery:
    """Profit of each decision's fills in micro-dollars, of those decisions alone if `ids` are given; null while shares
    of any of their positions are held.

    A share is worth what it was settled at, or, where all of a position's shares were sold, their average proceeds.
    """
    i, f, s = schema.intents.c, schema.fills.c, schema.settlements
    shares = case((f.side == Side.BUY.value, f.size), else_=-f.size)
    # Times 1.0 first: a product of two numbers in millionths can exceed 64 bits, and integers would be divided without
    # a remainder.
    cash = -shares * 1.0 * f.price_micro / UNIT - f.fee
    # By market over all runs: the payout of a market is one fact, whichever run recorded its settlement.
    paid = select(s.c.market_id, s.c.outcome, func.max(s.c.payout_micro).label("payout"))
    payouts = paid.group_by(s.c.market_id, s.c.outcome).subquery()
    settled = and_(payouts.c.market_id == f.market_id, payouts.c.outcome == f.outcome)
    wanted = true() if ids is None else i.decision_id.in_(ids)
    sold = _sold(true() if ids is None else f.market_id.in_(select(i.market_id).where(wanted)))
    by_sale = and_(sold.c.run_id == f.run_id, sold.c.market_id == f.market_id, sold.c.outcome == f.outcome)
    each = func.coalesce(payouts.c.payout, sold.c.each)
    worth = func.sum(cash + shares * 1.0 * each / UNIT)
    # A count of a column skips nulls, so the counts differ if a fill's shares have no worth yet.
    profit = case((func.count() == func.count(each), worth), else_=None)
    return (
        select(i.run_id, i.decision_id, profit.label("profit"))
        .join(schema.fills, f.order_id == i.order_id)
        .outerjoin(payouts, settled)
        .outerjoin(sold, by_sale)
        .where(wanted)
        .group_by(i.run_id, i.decision_id)
        .subquery()
    )


def _sold(wanted: ColumnElement[bool]) -> Subquery:
    """Average proceeds of a share after fees, in micro-dollars, of the wanted fills' positions that a run has sold to
    the last share."""
    f = schema.fills.c
    sale = f.side == Side.SELL.value
    left = func.sum(case((sale, -f.size), else_=f.size))
    size = func.sum(case((sale, f.size), else_=0))
    proceeds = func.sum(case((sale, f.size * 1.0 * f.price_micro / UNIT - f.fee), else_=0))
    query = select(f.run_id, f.market_id, f.outcome, (proceeds * 1.0 * UNIT / size).label("each"))
    return query.where(wanted).group_by(f.run_id, f.market_id, f.outcome).having(left == 0, size > 0).subquery()


def _profits(connection: Connection, ids: Sequence[str]) -> dict[tuple[str, str], Micro]:
    found: dict[tuple[str, str], Micro] = {}
    for some in chunks(ids):
        for row in connection.execute(select(_profit(some))):
            if row.profit is not None:
                found[row.run_id, row.decision_id] = round(row.profit)
    return found


def _summary(row: Row[Any], profit: Micro | None) -> DecisionSummary:
    return DecisionSummary(
        run_id=row.run_id,
        seq=row.seq,
        id=row.id,
        market_id=row.market_id,
        slug=row.slug,
        at=from_us(row.at),
        action=row.action,
        reason=row.reason,
        tokens=int(row.tokens or 0),
        mid=row.mid,
        probability=row.probability,
        verified_share=row.verified_share,
        corrected=bool(row.corrected),
        profit=profit,
    )
