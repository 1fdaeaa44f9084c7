"""A market-making rule: no taker fee, at the price of adverse selection. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from market.rules import on_grid
from market.types import UNIT, Micro, Outcome, Side, TimeInForce
from strategies.base import OrderIntent, View
from strategies.sizing import shares_for


@dataclass(frozen=True, slots=True)
class JoinBest:
    """Joins the best bid of the outcome it holds less of, until `stop` seconds before the close; never takes.

    A pair of both outcomes pays a dollar, so the aim is to pay less than a dollar for two. `stake` is micro-dollars of
    one bid, `most` the largest difference of shares between the outcomes.
    """

    name: str = "join_best"
    once: bool = False
    stop: int = 30
    low: Decimal = Decimal("0.05")
    high: Decimal = Decimal("0.90")
    stake: Micro = 10 * UNIT
    most: Micro = 100 * UNIT

    def decide(self, view: View) -> OrderIntent | None:
        """The one order that should rest now; None for none."""
        # The outcome held less of: a fill then completes pairs instead of adding exposure.
        outcome = Outcome.YES if view.held_yes <= view.held_no else Outcome.NO
        bid = view.book.of(outcome).best_bid
        if view.seconds_left <= self.stop or view.book.crossed or bid is None:
            return None
        if not self.low <= bid <= self.high or not on_grid(bid, view.market.tick):
            return None
        if view.held(outcome) - view.held(outcome.other) >= self.most:
            return None
        size = shares_for(min(self.stake, view.cash), bid, available=self.most)
        if size < view.market.min_size:
            return None
        ends = view.market.closes_at - timedelta(seconds=self.stop)
        return OrderIntent(
            outcome=outcome,
            side=Side.BUY,
            price=bid,
            size=size,
            why=f"joins the bid at {bid}",
            tif=TimeInForce.GTC,
            post_only=True,
            good_until=ends,
        )
