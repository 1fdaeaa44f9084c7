"""Judgement of a backtest's stored runs. Reads the store and the recording; changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from agent.evaluation.judgement import JudgedTrade, Judgement, days_of, earned, judge, market_sharpe
from backtest.columns import Recording
from market.feed import PricedFeed
from market.fees import charged, maker_rebate
from market.types import Fill, Market, Outcome, PayoutSource
from storage.records import Run
from storage.store import Store
from strategies.baselines import NO_DIFFUSION


@dataclass(frozen=True)
class Data:
    """A recording and the feed that replays it."""

    feed: PricedFeed
    recordings: Sequence[Recording]

    @cached_property
    def markets(self) -> dict[str, Market]:
        return {r.market.id: r.market for r in self.recordings}

    @property
    def days(self) -> float:
        return days_of(self.markets.values())


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage of a recording. `outcomes` counts markets by the source of their outcome; `silent` are markets without
    any book, `unresolved` those without an outcome: no profit is counted there."""

    markets: int
    books: int
    begins: str
    ends: str
    days: float
    outcomes: dict[str, int]
    silent: tuple[str, ...]
    unresolved: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A strategy's run with its judgement, or the reason why there is none."""

    name: str
    run_id: str
    orders: int
    judgement: Judgement | None
    trades: tuple[JudgedTrade, ...] = ()
    failed: str = ""


def coverage(data: Data, blind: Sequence[str] = ()) -> Coverage:
    """Coverage of the recording; `blind` are strategies that lack the reference price they need."""
    outcomes: dict[str, int] = {}
    silent, unresolved = [], []
    for one in data.recordings:
        known = one.resolution is not None and one.resolution.payout is not None
        source = one.resolution.source if known and one.resolution is not None else PayoutSource.UNRESOLVED
        outcomes[source.value] = outcomes.get(source.value, 0) + 1
        if not known:
            unresolved.append(one.market.slug)
        if not len(one):
            silent.append(one.market.slug)
    info = data.feed.info
    return Coverage(
        markets=len(data.recordings),
        books=sum(len(r) for r in data.recordings),
        begins="" if info.begins is None else info.begins.isoformat(),
        ends="" if info.ends is None else info.ends.isoformat(),
        days=round(data.days, 4),
        outcomes=dict(sorted(outcomes.items())),
        silent=tuple(silent),
        unresolved=tuple(unresolved),
        notes=(*info.notes, *rules_said(data), *(f"{name} never trades here: {NO_DIFFUSION}." for name in blind)),
    )


def rules_said(data: Data) -> tuple[str, ...]:
    """Fee rules that were charged, with their sources."""
    said: dict[str, None] = {}
    for one in data.recordings:
        fees = charged(one.market, one.market.opens_at)
        said[f"Taker fee {fees.rate} of p(1-p) a share ({one.market.category}; {fees.seen}); makers pay none."] = None
    return tuple(said)


async def trades_of(store: Store, data: Data, run: Run, *, mids: bool = False) -> tuple[JudgedTrade, ...]:
    """Fills of a run with their PnL, by time; with `mids`, also the mid at each fill."""
    ended = {r.market_id: r for r in await store.outcomes(run.id)}
    found = []
    for fill in await store.fills(run.id):
        market = data.markets.get(fill.market_id)
        if market is None:
            continue  # a run of another recording
        outcome = ended.get(fill.market_id)
        mid = await _mid(data.feed, fill) if mids else None
        rebate = maker_rebate(charged(market, fill.at), fill.price, fill.size) if fill.maker else 0
        found.append(JudgedTrade(fill, market.closes_at, earned(fill, outcome), mid, rebate))
    return tuple(sorted(found, key=lambda t: (t.fill.at, t.fill.id)))


async def _mid(feed: PricedFeed, fill: Fill) -> Decimal | None:
    """Mid of the fill's own token at the fill."""
    book = await feed.book(fill.market_id, fill.at)
    if book is None or book.mid is None:
        return None
    return book.mid if fill.outcome is Outcome.YES else 1 - book.mid


async def judged(store: Store, data: Data, name: str, run: Run) -> JudgedRun:
    """Judgement of one run, deflated by every other finished run on the same recording."""
    trades = await trades_of(store, data, run, mids=True)
    others = [
        ratio
        for other in await trials(store, run)
        if (ratio := market_sharpe(await trades_of(store, data, other))) is not None
    ]
    orders = len(await store.intents(run.id))
    return JudgedRun(
        name=name, run_id=run.id, orders=orders, judgement=judge(trades, days=data.days, others=others), trades=trades
    )


async def trials(store: Store, run: Run) -> list[Run]:
    """Other finished runs on the same data, each strategy and configuration once: the selection that the deflation
    accounts for."""
    own = _kind(run)
    found = {_kind(r): r for r in await store.runs() if r.finished and r.identity.data == run.identity.data}
    # Ablations of a run were not candidates among which the best was chosen.
    return [r for kind, r in found.items() if kind != own and not r.identity.label.startswith("arm:")]


def _kind(run: Run) -> tuple[str, str, str]:
    """Identity of a trial: the same under newer code is no other trial."""
    return run.identity.label, run.identity.config, run.identity.model
