"""The rule in pm-hftbacktest, in an environment of its own: python hftbacktest_one.py QUOTES.npz"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import process_time

import numpy as np
from hftbacktest import (
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    LIMIT,
    LOCAL_EVENT,
    SELL_EVENT,
    BacktestAsset,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.order import IOC
from hftbacktest.types import event_dtype
from numba import njit

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.series import BEGINS_MS, HIGH, LOW, SHARES, SIZE, STEP_MS, TICK

WARM = 1000
"""Quotes of the first run, in which the rule is compiled."""


def events(bid: np.ndarray, ask: np.ndarray) -> np.ndarray:
    """Level changes: where a best price moves, its old level goes and the new one comes."""
    made = []
    for side, best in ((BUY_EVENT, bid), (SELL_EVENT, ask)):
        moved = np.flatnonzero(np.diff(best)) + 1
        rows = [(moved, best[moved - 1], 0.0, 0), (np.r_[0, moved], best[np.r_[0, moved]], float(SIZE), 1)]
        for at, price, size, turn in rows:
            one = np.zeros(len(at), event_dtype)
            one["ev"] = DEPTH_EVENT | side | EXCH_EVENT | LOCAL_EVENT
            one["exch_ts"] = one["local_ts"] = (BEGINS_MS + at.astype(np.int64) * STEP_MS) * 1_000_000
            one["px"], one["qty"], one["ival"] = np.round(price * TICK, 3), size, turn
            made.append(one)
    whole = np.concatenate(made)
    whole = whole[np.lexsort((whole["ival"], whole["exch_ts"]))]
    whole["ival"] = 0
    return whole


@njit
def play(hbt, low, high, shares):
    fills, cash, held, number, seen = 0, 0.0, False, 0, 0
    while True:
        said = hbt.wait_next_feed(True, 10_000_000_000_000)
        if said == 1:
            return fills, cash, seen
        seen += 1
        depth = hbt.depth(0)
        if held and depth.best_bid >= high - 1e-9:
            number += 1
            cash += shares * depth.best_bid
            hbt.submit_sell_order(0, number, depth.best_bid, shares, IOC, LIMIT, True)
        elif not held and depth.best_ask <= low + 1e-9:
            number += 1
            cash -= shares * depth.best_ask
            hbt.submit_buy_order(0, number, depth.best_ask, shares, IOC, LIMIT, True)
        else:
            continue
        hbt.clear_inactive_orders(0)
        had = held
        held = hbt.position(0) > 0
        fills += held != had


def run(bid: np.ndarray, ask: np.ndarray) -> tuple[int, float, int, float]:
    data = events(bid, ask)  # only pointed to by the engine
    asset = (
        BacktestAsset()
        .data(data)
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(TICK)
        .lot_size(1.0)
        .roi_lb(0.0)
        .roi_ub(1.0)
    )
    hbt = ROIVectorMarketDepthBacktest([asset])
    begun = process_time()
    fills, cash, seen = play(hbt, LOW, HIGH, float(SHARES))
    return fills, cash, seen, process_time() - begun


def main() -> None:
    kept = np.load(sys.argv[1])
    run(kept["bid"][:WARM], kept["ask"][:WARM])
    fills, cash, seen, seconds = run(kept["bid"], kept["ask"])
    count = len(kept["bid"])
    print(
        json.dumps(
            {
                "events": count,
                "feeds_seen": seen,
                "cpu_seconds": round(seconds, 3),
                "events_per_s": round(count / seconds),
                "fills": fills,
                "cash_moved": round(cash * 1e6),
            }
        )
    )


main()
