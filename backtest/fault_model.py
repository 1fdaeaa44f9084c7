"""Fault model of a venue and the network, by rate: delayed orders, rejections, tick changes, failed settlements, late
payouts.

Pure and deterministic: the same order has the same fault.
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
"""Tick size after the price has come back from the ends of its scale."""
_LONGEST = 100.0
"""Upper bound of a delay, as a multiple of the usual one."""


@dataclass(frozen=True, slots=True)
class FaultModel:
    """Rates of faults. `spread` is the standard deviation of the logarithm of the network's delay, 0 for a constant
    one; `refuses` the share of rejected orders, `changes` the share that arrive just after the tick became coarser,
    `fails` the share of accepted ones whose trades fail to settle. Payouts come on average `late` seconds after the
    outcome is known.

    Randomness derives from the order's content and time, not from a run's name: a replay, and the same strategy with
    other settings, meet the same faults.
    """

    spread: float = 0.0
    refuses: float = 0.0
    fails: float = 0.0
    late: float = 0.0
    changes: float = 0.0

    def delay(self, order: Order, usual: timedelta) -> timedelta:
        """Network delay of an order; `usual` is the median."""
        if not self.spread or not usual:
            return usual
        times = math.exp(self.spread * _NORMAL.inv_cdf(_chance(order, "delay")))
        return usual * min(times, _LONGEST)

    def refused(self, order: Order) -> bool:
        return bool(self.refuses) and _chance(order, "refused") < self.refuses

    def off_tick(self, order: Order) -> bool:
        """True if the tick changed while the order was on its way, and its price is too fine now."""
        fine = bool(self.changes) and order.price % COARSE_TICK != 0
        return fine and _chance(order, "tick") < self.changes

    def failed(self, order: Order) -> bool:
        """True if the order's trades fail to settle: no shares, no money."""
        return bool(self.fails) and _chance(order, "failed") < self.fails

    def lateness(self, market_id: str) -> timedelta:
        """Delay of a market's payout after its outcome: exponential, and never above `_LATEST`."""
        if not self.late:
            return timedelta(0)
        return min(timedelta(seconds=-self.late * math.log(_drawn(market_id, "late"))), _LATEST)


CALM = FaultModel()


def _chance(order: Order, purpose: str) -> float:
    """Uniform number in (0, 1), derived from the order."""
    placed = order.placed_at.isoformat()
    return _drawn(order.market_id, order.outcome, order.side, order.price, order.size, placed, purpose)


def _drawn(*what: object) -> float:
    drawn = hashlib.sha256("|".join(map(str, what)).encode()).digest()
    # Half a step keeps the result off 0, where its quantile and logarithm are infinite.
    return (int.from_bytes(drawn[:7], "big") + 0.5) / 2**56
