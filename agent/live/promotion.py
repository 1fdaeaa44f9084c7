"""Promotion from paper to live: enough days on the venue's real market, with a significant profit, by the same traders
and settings. A day's result is the change of the marked value: holdings count at what they could be sold for by the
last view on record, so that losses which are left open count, too. The verdict is a value; the composition root asks
for it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from agent.config.schema import Config
from agent.live.recovery import runs_of
from market.polymarket.hosts import Hosts
from market.types import UNIT, Fill, Micro, Outcome, Resolution, Settlement, redeemed
from storage.canonical import Json, digest
from storage.log_reader import LogReader
from storage.projections import RecordedOrder
from storage.records import RecordKind, Run
from strategies.base import View
from strategies.score import block_interval
from tools.ledger import PositionLedger
from tools.orders import Holdings

_VIEW: TypeAdapter[View] = TypeAdapter(View)
_DAY = timedelta(days=1)
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


@dataclass(frozen=True, slots=True)
class PromotionScope:
    """Traders and settings of a run, as far as they decide what it earns. `settings` is a digest of everything that
    identifies its configuration and its series, but of the hard limits, which may be set otherwise for real money, and
    of the cash that it began with."""

    traders: frozenset[str]
    settings: str

    @classmethod
    def of(cls, traders: Iterable[str], scope: Json) -> PromotionScope:
        """`scope` is the configuration in the manifest of a live run."""
        body: Any = scope if isinstance(scope, Mapping) else {}
        settings: Any = dict(_today(body.get("config")))
        settings.pop("risk", None)
        settings["trading"] = {k: v for k, v in dict(settings.get("trading", {})).items() if k != "cash"}
        return cls(frozenset(traders), digest([settings, sorted(body.get("series") or ())]))

    @classmethod
    def of_run(cls, run: Run) -> PromotionScope:
        named = run.identity.label.removeprefix("live:").rpartition("/")[0]
        return cls.of(named.split(","), run.about.config)


def _today(recorded: Any) -> Mapping[str, Json]:
    """A recorded configuration with today's settings: one that has come since had its default."""
    body = recorded if isinstance(recorded, Mapping) else {}
    try:
        found: Any = Config.model_validate(body).identity()
    except ValidationError:
        return body
    return dict(found)


@dataclass(frozen=True, slots=True)
class PaperDays:
    """Change of the marked value on each UTC day with a fill or settlement, in micro-dollars. `unmarked` is how many
    holdings have no price at the end, and count as nothing."""

    results: Mapping[date, Micro]
    unmarked: int = 0


async def promotion(store: LogReader, rule: PromotionRule, scope: PromotionScope, now: datetime) -> PromotionVerdict:
    """Judge the paper runs of these traders and settings on the venue's real market in this store, as of `now`."""
    runs = await runs_of(store, f"paper at {Hosts().clob}")
    fills = [f for r in runs if PromotionScope.of_run(r) == scope for f in await store.fills(r.id)]
    # Those of all runs: the account goes on under other traders, too, and one market has one outcome.
    settlements = [s for r in runs for s in await store.settlements(r.id)]
    outcomes = [o for r in runs for o in await store.outcomes(r.id)]
    traded = {f.market_id for f in fills}
    seen = [RecordedOrder.of(i) for r in runs for i in await store.records(r.id, RecordKind.INTENT)]
    sights = [Sight(o.signed.order.market_id, o.signed.order.placed_at, o.view) for o in seen]
    closes = snapshots(fills, settlements, now)
    wanted = _Marks(outcomes, [s for s in sights if s.market_id in traded])
    views = await store.objects(sorted(wanted.needed(closes)))
    wanted.views = {name: _VIEW.validate_python(json.loads(kept.text)) for name, kept in views.items()}
    return judge(daily(closes, wanted.mark), rule)


@dataclass(frozen=True, slots=True)
class Sight:
    """A market view on record: the hash of what was seen at an instant."""

    market_id: str
    at: datetime
    view: str


@dataclass(frozen=True, slots=True)
class DayClose:
    """Cash flow so far and holdings at the end of a UTC day, `at`; the last day ends now."""

    day: date
    at: datetime
    cash: Micro
    holdings: Holdings


Mark = Callable[[str, Outcome, datetime], Decimal | None]
"""Dollars that a share could be sold for, by what was known at an instant; None if nothing was."""


def snapshots(fills: Iterable[Fill], settlements: Iterable[Settlement], now: datetime) -> list[DayClose]:
    """What these fills left at the end of each day on which any of them was made, or settled."""
    ledger, cash, found = PositionLedger(), 0, list[DayClose]()
    told: list[Fill | Settlement] = [*fills, *settlements]
    for day, news in groupby(sorted(told, key=lambda t: t.at), key=lambda t: t.at.date()):
        before = ledger.moves
        for one in news:
            if isinstance(one, Fill):
                ledger.fill(one)
                cash += one.cash
            elif held := max(0, ledger.held(one.market_id, one.outcome)):
                # Of what these fills hold: the account may hold more, bought by others.
                paid = replace(one, size=held)
                ledger.settle(paid)
                cash += paid.cash
        if ledger.moves != before:
            found.append(DayClose(day, datetime.combine(day + _DAY, time(), UTC), cash, ledger.holdings))
    return [*found[:-1], *(replace(last, at=now) for last in found[-1:])]


@dataclass(slots=True)
class _Marks:
    """Prices of holdings by the outcomes and views on record."""

    outcomes: Sequence[Resolution]
    sights: Sequence[Sight]
    views: Mapping[str, View] = field(default_factory=dict)
    _known: dict[str, Resolution] = field(init=False)
    _by_market: dict[str, list[Sight]] = field(init=False)

    def __post_init__(self) -> None:
        # The official one of two comes last.
        self._known = {o.market_id: o for o in self.outcomes if o.payout is not None}
        self._by_market = {}
        for sight in sorted(self.sights, key=lambda s: s.at):
            self._by_market.setdefault(sight.market_id, []).append(sight)

    def needed(self, closes: Iterable[DayClose]) -> set[str]:
        """Hashes of the views that the holdings are marked with."""
        markets = {(market_id, close.at) for close in closes for market_id, _ in close.holdings}
        return {last.view for market_id, at in markets if (last := self._last(market_id, at)) is not None}

    def mark(self, market_id: str, outcome: Outcome, at: datetime) -> Decimal | None:
        """The payout if it was known, else the best bid of the last view, as long as the market was open."""
        known = self._known.get(market_id)
        if known is not None and known.known_at <= at:
            return known.pays(outcome)
        last = self._last(market_id, at)
        view = self.views.get(last.view) if last is not None else None
        if view is None or view.market.closes_at <= at:
            return None
        bids = view.book.of(outcome).bids
        return bids[0].price if bids else Decimal(0)

    def _last(self, market_id: str, at: datetime) -> Sight | None:
        own = self._by_market.get(market_id, [])
        number = bisect_right(own, at, key=lambda s: s.at)
        return own[number - 1] if number else None


def daily(closes: Sequence[DayClose], mark: Mark) -> PaperDays:
    """Changes of the marked value from one day to the next."""
    results, before, unmarked = dict[date, Micro](), 0, 0
    for close in closes:
        marks = {key: mark(*key, close.at) for key in close.holdings}
        value = close.cash + sum(_worth(size, marks[key]) for key, size in close.holdings.items())
        results[close.day], before = value - before, value
        unmarked = sum(price is None for price in marks.values())
    return PaperDays(results, unmarked)


def _worth(size: Micro, price: Decimal | None) -> Micro:
    """Micro-dollars that a holding counts for. Shares owed, which others had bought, count at what they may cost."""
    if price is None:
        return min(0, size)
    return redeemed(price, size)


def judge(paper: PaperDays, rule: PromotionRule) -> PromotionVerdict:
    """The verdict on daily results."""
    days = paper.results
    profits = np.array(list(days.values()), np.float64) / UNIT
    found = block_interval(profits, block=_BLOCK, level=rule.level)
    if found is None:
        sentence = f"no paper day of the {rule.days} it takes is on record with these traders and settings."
        return PromotionVerdict(False, 0, None, None, sentence)
    told = f"${found.mean:.2f} a day over {len(days)} paper days, at least ${found.low:.2f} with {rule.level:.0%}"
    if paper.unmarked:
        told += f" ({paper.unmarked} holdings without a price count as nothing)"
    if len(days) < rule.days:
        return PromotionVerdict(
            False, len(days), found.mean, found.low, f"{told}; {rule.days - len(days)} days are still missing."
        )
    if found.low <= 0:
        return PromotionVerdict(False, len(days), found.mean, found.low, f"{told}, which may be nothing.")
    return PromotionVerdict(True, len(days), found.mean, found.low, f"{told}.")
