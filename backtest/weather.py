"""What goes wrong on the way to a venue, by rate: late orders and refused ones. Pure: the same order, the same luck."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta
from statistics import NormalDist

from market.types import Order

REFUSED = "the venue was busy (a refusal by rate)"
_NORMAL = NormalDist()
_LONGEST = 100.0
"""No delay is more than so many times the usual one."""


@dataclass(frozen=True, slots=True)
class Weather:
    """`spread` is the standard deviation of the logarithm of the network's delay, 0 for a constant one; `refuses` the
    share of orders that the venue does not take.

    Luck comes from what is ordered and when, not from a run's name: a replay, and the same strategy with other
    settings, meet the same weather.
    """

    spread: float = 0.0
    refuses: float = 0.0

    def delay(self, order: Order, usual: timedelta) -> timedelta:
        """How long the network takes with an order, where it usually takes `usual`: the median."""
        if not self.spread or not usual:
            return usual
        times = math.exp(self.spread * _NORMAL.inv_cdf(_chance(order, "delay")))
        return usual * min(times, _LONGEST)

    def refused(self, order: Order) -> bool:
        return bool(self.refuses) and _chance(order, "refused") < self.refuses


CALM = Weather()


def _chance(order: Order, purpose: str) -> float:
    """A number in (0, 1)."""
    what = (order.market_id, order.outcome, order.side, order.price, order.size, order.placed_at.isoformat(), purpose)
    drawn = hashlib.sha256("|".join(map(str, what)).encode()).digest()
    return (int.from_bytes(drawn[:7], "big") + 0.5) / 2**56
