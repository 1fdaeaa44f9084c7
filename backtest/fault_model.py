"""What goes wrong at a venue and on the way to it, by rate: late orders, refused ones, ticks that change, trades that
fail, late payouts.

Pure: the same order, the same luck.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from statistics import NormalDist

from market.types import Order

REFUSED = "the venue was busy (a refusal by rate)"
_NORMAL = NormalDist()
FAILED = "its trade failed on the chain (a failure by rate)"
_LATEST = timedelta(minutes=30)
COARSE_TICK = Decimal("0.01")
"""What the tick is again once the price has come back from the ends of its scale."""
_LONGEST = 100.0
"""No delay is more than so many times the usual one."""


@dataclass(frozen=True, slots=True)
class FaultModel:
    """`spread` is the standard deviation of the logarithm of the network's delay, 0 for a constant one; `refuses` the
    share of orders that the venue does not take, `changes` the share that come upon a tick which has just become
    coarser, `fails` the share of those taken whose trades the chain does not settle. Payouts come `late` seconds after
    the outcome is known, on the average.

    Luck comes from what is ordered and when, not from a run's name: a replay, and the same strategy with other
    settings, meet the same weather.
    """

    spread: float = 0.0
    refuses: float = 0.0
    fails: float = 0.0
    late: float = 0.0
    changes: float = 0.0

    def delay(self, order: Order, usual: timedelta) -> timedelta:
        """How long the network takes with an order, where it usually takes `usual`: the median."""
        if not self.spread or not usual:
            return usual
        times = math.exp(self.spread * _NORMAL.inv_cdf(_chance(order, "delay")))
        return usual * min(times, _LONGEST)

    def refused(self, order: Order) -> bool:
        return bool(self.refuses) and _chance(order, "refused") < self.refuses

    def off_tick(self, order: Order) -> bool:
        """Whether the tick changed while the order was on its way, and its price is too fine now."""
        fine = bool(self.changes) and order.price % COARSE_TICK != 0
        return fine and _chance(order, "tick") < self.changes

    def failed(self, order: Order) -> bool:
        """Whether what the order trades comes to nothing: no shares, no money."""
        return bool(self.fails) and _chance(order, "failed") < self.fails

    def lateness(self, market_id: str) -> timedelta:
        """How long after its outcome a market pays: exponential, and never above `_LATEST`."""
        if not self.late:
            return timedelta(0)
        return min(timedelta(seconds=-self.late * math.log(_drawn(market_id, "late"))), _LATEST)


CALM = FaultModel()


def _chance(order: Order, purpose: str) -> float:
    """The order's own luck, in (0, 1)."""
    placed = order.placed_at.isoformat()
    return _drawn(order.market_id, order.outcome, order.side, order.price, order.size, placed, purpose)


def _drawn(*what: object) -> float:
    drawn = hashlib.sha256("|".join(map(str, what)).encode()).digest()
    return (int.from_bytes(drawn[:7], "big") + 0.5) / 2**56
