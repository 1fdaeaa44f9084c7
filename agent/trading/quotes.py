"""Resting quotes: an own order in the book, and its cancellation."""

from __future__ import annotations

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


async def withdraw_quote(execution: Execution, quotes: dict[str, RestingQuote], market_id: str, at: datetime) -> None:
    """Cancel the resting order in a market. One whose end stays unknown keeps its place, so that no second one is
    placed beside it."""
    quote = quotes[market_id]
    await execution.withdraw(quote.order_id, at)
    if quote.order_id not in execution.working:
        del quotes[market_id]


def same_quote(a: OrderIntent, b: OrderIntent | None) -> bool:
    return b is not None and (a.outcome, a.side, a.price) == (b.outcome, b.side, b.price)
