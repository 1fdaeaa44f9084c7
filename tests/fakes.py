"""Small real things the tests share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from market.types import UNIT, Book, Level, Market

START = datetime(2026, 9, 28, 9, 0, tzinfo=UTC)


def market(number: int = 0, *, seconds: int = 900, category: str = "crypto") -> Market:
    """The window that opens `number` windows after START."""
    opens = START + timedelta(seconds=seconds * number)
    return Market(
        id=f"0x{number:04x}",
        slug=f"btc-updown-{seconds // 60}m-{int(opens.timestamp())}",
        question=f"Bitcoin up or down, window {number}",
        yes_token=f"{number}-yes",
        no_token=f"{number}-no",
        opens_at=opens,
        closes_at=opens + timedelta(seconds=seconds),
        category=category,
    )


def levels(*pairs: tuple[str, int]) -> tuple[Level, ...]:
    """Levels from (price, whole shares)."""
    return tuple(Level(Decimal(price), size * UNIT) for price, size in pairs)


def book(
    at: datetime = START,
    *,
    market_id: str = "0x0000",
    bids: tuple[Level, ...] = levels(("0.49", 100), ("0.48", 200)),
    asks: tuple[Level, ...] = levels(("0.51", 100), ("0.52", 200)),
) -> Book:
    return Book(market_id, at, at, bids, asks)
