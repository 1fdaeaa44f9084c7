"""Promotion from paper to live: enough days on the venue's real market, with a significant profit. The verdict is a
value; the composition root asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from agent.live.recovery import runs_of
from market.polymarket.hosts import Hosts
from market.types import UNIT, Fill, Micro, Settlement
from storage.log_reader import LogReader
from strategies.score import block_interval

_BLOCK = 3
"""Block length of the bootstrap in days: daily results are serially correlated."""


@dataclass(frozen=True, slots=True)
class PromotionRule:
    """Minimum number of days with a settled trade, and confidence level at which the mean daily profit must be above
    zero."""

    days: int
    level: float


@dataclass(frozen=True, slots=True)
class PromotionVerdict:
    """The verdict. `mean` and `low` are dollars a day; `low` is the interval's lower end, None without a day."""

    passed: bool
    days: int
    mean: float | None
    low: float | None
    sentence: str


async def promotion(store: LogReader, rule: PromotionRule) -> PromotionVerdict:
    """Judge every paper run on the venue's real market in this store."""
    name = f"paper at {Hosts().clob}"
    fills, settlements = list[Fill](), list[Settlement]()
    for run in await runs_of(store, name):
        fills += await store.fills(run.id)
        settlements += await store.settlements(run.id)
    return judge(daily(fills, settlements), rule)


def daily(fills: Iterable[Fill], settlements: Iterable[Settlement]) -> dict[date, Micro]:
    """Micro-dollars earned by the markets that settled on each UTC day."""
    spent: dict[str, Micro] = {}
    for fill in fills:
        spent[fill.market_id] = spent.get(fill.market_id, 0) + fill.cash
    days: dict[date, Micro] = {}
    for settlement in settlements:
        # Popped: a market's cost counts once, with its first settlement.
        earned = settlement.cash + spent.pop(settlement.market_id, 0)
        day = settlement.at.date()
        days[day] = days.get(day, 0) + earned
    return dict(sorted(days.items()))


def judge(days: Mapping[date, Micro], rule: PromotionRule) -> PromotionVerdict:
    """The verdict on daily results."""
    profits = np.array(list(days.values()), np.float64) / UNIT
    found = block_interval(profits, block=_BLOCK, level=rule.level)
    if found is None:
        return PromotionVerdict(False, 0, None, None, f"no paper day of the {rule.days} it takes is on record.")
    told = f"${found.mean:.2f} a day over {len(days)} paper days, at least ${found.low:.2f} with {rule.level:.0%}"
    if len(days) < rule.days:
        return PromotionVerdict(
            False, len(days), found.mean, found.low, f"{told}; {rule.days - len(days)} days are still missing."
        )
    if found.low <= 0:
        return PromotionVerdict(False, len(days), found.mean, found.low, f"{told}, which may be nothing.")
    return PromotionVerdict(True, len(days), found.mean, found.low, f"{told}.")
