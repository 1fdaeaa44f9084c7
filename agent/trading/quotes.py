"""An order of ours that rests in the book, and how it is taken back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.trading.execution import Execution
from strategies.base import OrderIntent


@dataclass(frozen=True, slots=True)
class RestingQuote:
    """An order that is meant to rest."""

    order_id: str
    intent: OrderIntent
    since: datetime


async def withdraw_quote(execution: Execution, quotes: dict[str, RestingQuote], market_id: str, at: datetime) -> None:
    """Take back the order that rests in a market. One whose end stays unknown keeps its place, so that no second one is
    put beside it."""
    quote = quotes[market_id]
    await execution.withdraw(quote.order_id, at)
    if quote.order_id not in execution.working:
        del quotes[market_id]


def same_quote(a: OrderIntent, b: OrderIntent | None) -> bool:
    return b is not None and (a.outcome, a.side, a.price) == (b.outcome, b.side, b.price)
