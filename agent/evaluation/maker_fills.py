"""What became of orders that waited in the book: how many filled, how long and behind how much they waited, and whether
the price went against them right after. A maker pays no fee and pays in adverse selection instead. Reads the log alone.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

import numpy as np
from pydantic import TypeAdapter

from market.types import Fill, Micro, Order, Side
from storage.log_reader import LogReader
from storage.projections import RecordedOrder
from storage.records import Record, RecordKind
from strategies.base import View
from strategies.score import Interval, block_interval

AFTER, AT_MOST = timedelta(seconds=10), timedelta(seconds=60)
"""How long after a fill its price is looked at again, by the next thing that was seen of the market."""
_VIEW: TypeAdapter[View] = TypeAdapter(View)


@dataclass(frozen=True, slots=True)
class Resting:
    """`waited` is the median of seconds from order to its first fill, `ahead` of the shares that stood at its price
    already. `markout` is dollars a share that the mid had gone our way 10 s after a fill (below zero: against us), over
    the `looked_at` fills whose market was seen again in time, drawn by market."""

    orders: int
    filled: int
    waited: float | None
    ahead: Micro | None
    looked_at: int
    markout: Interval | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """An order, when it was wanted, and the name of what was seen then."""

    order: Order
    order_id: str
    at: datetime
    view: str


async def resting(store: LogReader, run_id: str) -> Resting | None:
    """Of one run; None where it let no order wait."""
    intents = [_seen(r) for r in await store.records(run_id, RecordKind.INTENT)]
    waiting = {i.order_id: i for i in intents if i.order.post_only}
    if not waiting:
        return None
    fills = [f for f in await store.fills(run_id) if f.order_id in waiting and f.size > 0]
    firsts = {f.order_id: f for f in reversed(fills)}
    later = {f.id: name for f in fills if (name := _next_view(f, intents))}
    names = {waiting[i].view for i in firsts} | set(later.values())
    views = {n: _VIEW.validate_python(json.loads(o.text)) for n, o in (await store.objects(sorted(names))).items()}
    ahead = [a for i in firsts if (a := _ahead(waiting[i], views)) is not None]
    gains = [(f, g) for f in fills if f.id in later and (g := _markout(f, views.get(later[f.id]))) is not None]
    return Resting(
        orders=len(waiting),
        filled=len(firsts),
        waited=median((f.at - waiting[i].at).total_seconds() for i, f in firsts.items()) if firsts else None,
        ahead=round(median(ahead)) if ahead else None,
        looked_at=len(gains),
        markout=block_interval(np.array([g for _, g in gains]), [f.market_id for f, _ in gains]) if gains else None,
    )


def _seen(record: Record) -> _Seen:
    placed = RecordedOrder.of(record)
    order = placed.signed.order
    return _Seen(order, placed.signed.id, order.placed_at, placed.view)


def _next_view(fill: Fill, intents: Sequence[_Seen]) -> str:
    """What was seen of the market once the time after a fill was over."""
    mine = [i for i in intents if i.order.market_id == fill.market_id]
    n = bisect_left(mine, fill.at + AFTER, key=lambda i: i.at)
    return mine[n].view if n < len(mine) and mine[n].at <= fill.at + AT_MOST else ""


def _ahead(seen: _Seen, views: Mapping[str, View]) -> Micro | None:
    """Shares that stood at an order's price when it was wanted."""
    view = views.get(seen.view)
    if view is None:
        return None
    book = view.book.of(seen.order.outcome)
    side = book.bids if seen.order.side is Side.BUY else book.asks
    return sum(level.size for level in side if level.price == seen.order.price)


def _markout(fill: Fill, view: View | None) -> float | None:
    mid = None if view is None else view.book.of(fill.outcome).mid
    if mid is None:
        return None
    gain = float(mid - fill.price)
    return gain if fill.side is Side.BUY else -gain
