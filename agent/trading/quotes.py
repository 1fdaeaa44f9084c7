"""Resting quotes: an own order in the book, and its cancellation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from agent.trading.execution import Execution
from strategies.base import OrderIntent


@dataclass(frozen=True, slots=True)
class RestingQuote:
    """An order that is meant to rest; `since` is its instant."""

    order_id: str
    intent: OrderIntent
    since: datetime


async def withdraw_quotes(
    execution: Execution, quotes: dict[str, RestingQuote], market_ids: Collection[str], at: datetime
) -> None:
    """Cancel the resting orders in markets, together. One whose end stays unknown keeps its place, so that no second
    one is placed beside it."""
    leaving = {market_id: quotes[market_id].order_id for market_id in market_ids}
    if leaving:
        await execution.withdraw(list(leaving.values()), at)
    for market_id, order_id in leaving.items():
        if order_id not in execution.working:
            del quotes[market_id]


def same_quote(a: OrderIntent, b: OrderIntent | None) -> bool:
    return b is not None and (a.outcome, a.side, a.price) == (b.outcome, b.side, b.price)
