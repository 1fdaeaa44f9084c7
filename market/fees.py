"""Taker fees and maker rebates of the venue, by date.

fee = shares * rate * (p * (1 - p)) ** exponent, taker only, rounded to five decimals of a dollar with a minimum of
0.00001 (docs.polymarket.com/trading/fees and the `feeSchedule` of a market's own record). The rate in a market's record
always wins; the tables below serve recordings without one, and records that name a `feeType` alone. Before 2026-03-30
crypto windows were charged by a formula that is only partly documented, so the table does not reach back further.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

from market.errors import DataInvalid
from market.types import Market, Micro

_STEP: Micro = 10
"""Rounding step of fees: 0.00001 dollars."""


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """Taker fee of one market on one date."""

    rate: Decimal
    exponent: int = 1
    since: datetime = datetime(2026, 3, 30, tzinfo=UTC)
    seen: str = ""

    def taker(self, price: Decimal, size: Micro) -> Micro:
        """Micro-dollars a taker pays for `size` micro-shares at `price`; makers pay nothing."""
        if size <= 0 or not self.rate:
            return 0
        exact = self.rate * (price * (1 - price)) ** self.exponent * size
        if not exact:
            return 0
        # The venue's minimum charge is one step of 0.00001 dollars: a fee that is not zero never rounds down to zero.
        return max(_STEP, int((exact / _STEP).to_integral_value(ROUND_HALF_UP)) * _STEP)

    def per_share(self, price: Decimal) -> Decimal:
        """Dollars of fee per share, unrounded: for comparing an edge with its cost."""
        return self.rate * (price * (1 - price)) ** self.exponent


REBATE = Decimal("0.2")
"""Share of a market's taker fees that goes back to the makers (`rebateRate` of market records, June 2026)."""


def maker_rebate(fees: FeeSchedule, price: Decimal, size: Micro) -> Micro:
    """Micro-dollars of the daily rebate earned by a fill of a resting order. Makers share it in proportion to the taker
    fees of their fills, so each gets its part of those (docs.polymarket.com, maker rebates)."""
    return int(fees.taker(price, size) * REBATE)


# Ascending by `since`: `schedule` takes the last line in force. A market keeps the schedule of its deployment, so the
# tables are a fallback and never override a market's own record.
_CRYPTO = (
    FeeSchedule(Decimal("0.072"), since=datetime(2026, 3, 30, tzinfo=UTC), seen="venue documentation, spring 2026"),
    FeeSchedule(Decimal("0.07"), since=datetime(2026, 6, 1, tzinfo=UTC), seen="market records, June 2026"),
)
FEE_TYPES: dict[str, Decimal] = {
    "crypto_fees_v2": Decimal("0.07"),
    "sports_fees_v2": Decimal("0.03"),
    "sports_fees_v3": Decimal("0.05"),
    "politics_fees": Decimal("0.04"),
    "finance_prices_fees": Decimal("0.04"),
    "economics_fees": Decimal("0.05"),
    "culture_fees": Decimal("0.05"),
    "weather_fees": Decimal("0.05"),
    "tech_fees": Decimal("0.04"),
    "mentions_fees": Decimal("0.04"),
    "general_fees": Decimal("0.05"),
    "zero_fees": Decimal(0),
}
"""Taker rate of each `feeType` that market records carry, counted over the live markets of 2026-09-26. A market keeps
the type of the day it was deployed: `sports_fees_v3` came on 2026-07-10, and older sports markets stay with v2."""


def schedule(category: str, at: datetime) -> FeeSchedule:
    """Fee schedule in force at `at` for a recording without rates of its own. `category` is `crypto`, whose dated table
    applies, or a `feeType` by its name. Raises DataInvalid for any other: a rate is never guessed from a subject."""
    if category in FEE_TYPES:
        return FeeSchedule(FEE_TYPES[category], seen=f"{category}, market records of 2026-09-26")
    known = [s for s in _CRYPTO if s.since <= at] if category == "crypto" else []
    if not known:
        raise DataInvalid(
            f"no fee schedule is known for {category!r} markets on {at:%Y-%m-%d}.",
            next_step="Add a dated line to market/fees.py with its source.",
        )
    return known[-1]


def charged(market: Market, at: datetime) -> FeeSchedule:
    """Fee schedule of a market at `at`: its own rate where its record has one, else the dated table's."""
    if market.fee_rate is not None:
        return FeeSchedule(market.fee_rate, seen="the market's own record")
    return schedule(market.category, at)
