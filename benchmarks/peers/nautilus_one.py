"""The rule in nautilus_trader 1.x, in an environment of its own: python nautilus_one.py QUOTES.npz"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from time import process_time

import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.currencies import USDC
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AccountType, AssetClass, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import BinaryOption
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.series import BEGINS_MS, HIGH, LOW, SHARES, SIZE, STEP_MS

WHERE = InstrumentId.from_str("BENCH.PM")
DAY_NS = 86_400_000_000_000


def instrument(begins: int) -> BinaryOption:
    return BinaryOption(
        WHERE, Symbol("BENCH"), AssetClass.CRYPTOCURRENCY, USDC, 3, 0, Price.from_str("0.001"), Quantity.from_int(1),
        begins, begins + 3650 * DAY_NS, begins, begins, maker_fee=Decimal(0), taker_fee=Decimal(0),
    )  # fmt: skip


class Threshold(Strategy):
    def __init__(self) -> None:
        super().__init__()
        self.held, self.low, self.high = False, Price(LOW, 3), Price(HIGH, 3)
        self.size, self.fills, self.cash = Quantity.from_int(SHARES), 0, 0.0

    def on_start(self) -> None:
        self.subscribe_quote_ticks(WHERE)

    def on_quote_tick(self, tick) -> None:
        if self.held:
            if tick.bid_price >= self.high:
                self.held = False
                self.submit_order(self.order_factory.market(WHERE, OrderSide.SELL, self.size))
        elif tick.ask_price <= self.low:
            self.held = True
            self.submit_order(self.order_factory.market(WHERE, OrderSide.BUY, self.size))

    def on_order_filled(self, event) -> None:
        self.fills += 1
        sign = -1 if event.order_side == OrderSide.BUY else 1
        self.cash += sign * float(event.last_px) * float(event.last_qty)


def main() -> None:
    kept = np.load(sys.argv[1])
    begins = BEGINS_MS * 1_000_000
    size = Quantity.from_int(SIZE)
    prices = {n: Price(n / 1000, 3) for n in range(1001)}
    stamps = range(begins, begins + len(kept["bid"]) * STEP_MS * 1_000_000, STEP_MS * 1_000_000)
    quotes = [
        QuoteTick(WHERE, prices[b], prices[a], size, size, at, at)
        for b, a, at in zip(kept["bid"].tolist(), kept["ask"].tolist(), stamps, strict=True)
    ]
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(Venue("PM"), OmsType.NETTING, AccountType.CASH, [Money(1_000_000, USDC)], base_currency=USDC)
    engine.add_instrument(instrument(begins))
    engine.add_data(quotes)
    rule = Threshold()
    engine.add_strategy(rule)
    begun = process_time()
    engine.run()
    seconds = process_time() - begun
    print(
        json.dumps(
            {
                "events": len(quotes),
                "cpu_seconds": round(seconds, 3),
                "events_per_s": round(len(quotes) / seconds),
                "fills": rule.fills,
                "cash_moved": round(rule.cash * 1e6),
            }
        )
    )


main()
