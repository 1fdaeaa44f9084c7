"""Maker fills: of orders that rested in the book, the fill rate, time to fill, queue ahead, and adverse selection after
the fill. A maker pays no fee and pays in adverse selection instead. Reads the log alone."""

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
"""Window after a fill in which the next recorded view of the market gives the mark-out."""
_VIEW: TypeAdapter[View] = TypeAdapter(View)


@dataclass(frozen=True, slots=True)
class Resting:
    """Statistics of resting orders. `waited`: median seconds from order to first fill. `ahead`: median shares already
    at its price. `markout`: dollars a share by which the mid had moved our way 10 s after a fill (below zero: against
    us), over the `looked_at` fills with a later view in time, resampled by market."""

    orders: int
    filled: int
    waited: float | None
    ahead: Micro | None
    looked_at: int
    markout: Interval | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """An order, the time of its intent, and the name of the view that it was decided on."""

    order: Order
    order_id: str
    at: datetime
    view: str


async def resting(store: LogReader, run_id: str) -> Resting | None:
    """Statistics of one run; None if it placed no resting order."""
    intents = [_seen(r) for r in await store.records(run_id, RecordKind.INTENT)]
    waiting = {i.order_id: i for i in intents if i.order.post_only}
    if not waiting:
        return None
    fills = [f for f in await store.fills(run_id) if f.order_id in waiting and f.size > 0]
    # Reversed, so that the earliest fill of an order is the one that stays.
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
    """Name of the first view of the market after the mark-out delay; empty if there is none in time."""
    mine = [i for i in intents if i.order.market_id == fill.market_id]
    n = bisect_left(mine, fill.at + AFTER, key=lambda i: i.at)
    return mine[n].view if n < len(mine) and mine[n].at <= fill.at + AT_MOST else ""


def _ahead(seen: _Seen, views: Mapping[str, View]) -> Micro | None:
    """Shares at the order's price when it was decided on; None without the view."""
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
