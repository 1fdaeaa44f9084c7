"""Market history that the agent keeps: price bars as they arrive, and observations of each finished window.

Reads are point in time: a row is visible only to queries as of a later instant than it became known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from agent.decision.analogs import embargo_of, scaled
from agent.decision.inputs import Settings
from agent.learning.learner import OnlineLearner
from market.errors import CycleSkipped, Transient
from market.feed import Bar, Feed, ReferencePrices
from market.types import UNIT, Market, PayoutSource, Resolution
from storage.records import Observation
from storage.store import RunLog, Store
from strategies.baselines import VOLATILITY_SPAN
from strategies.features import LOOKBACK, STEP, ReferenceView, features
from strategies.reference import reference_view

RESOLUTIONS = (STEP, 60, 300)
"""Resolutions of the stored price histories, in seconds per bar."""
GRID = 30
"""Seconds between stored observations of a finished window, where the feed can be read at any instant."""
LONG, COARSE = 3600, 300
"""A market open for more than LONG seconds is observed every COARSE seconds: as often as it is decided on."""


class Outcomes(Protocol):
    """Receiver of market outcomes."""

    async def outcome(self, market: Market, resolution: Resolution, log: RunLog, at: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class NoLearning:
    """Outcomes go to the run's log alone: for strategies, which do not learn."""

    async def outcome(self, market: Market, resolution: Resolution, log: RunLog, at: datetime) -> None:
        await log.outcome(market.id, resolution, at)


@dataclass(frozen=True, slots=True)
class Memory:
    """The store, seen from one feed. `source` names the history: recordings, versions of the code and schedules never
    mix, so a run that is recomputed finds the history that it found. `kept` holds, by market, the interval whose bars
    are stored without a gap; `latest` the bars that were read at once for `recent`, with their instant."""

    store: Store
    feed: Feed
    prices: ReferencePrices
    source: str
    learner: OnlineLearner
    kept: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    latest: dict[str, tuple[datetime, Sequence[Bar]]] = field(default_factory=dict)

    async def record(self, market: Market, until: datetime, span: timedelta) -> None:
        """Store the bars of the last `span` at every resolution, those that are not stored yet."""
        await self._keep(await self._unkept(market, until, span), [market], until, span)

    async def record_all(self, markets: Sequence[Market], until: datetime, span: timedelta) -> None:
        """Store many markets' bars at once, and read back the bars for `recent`. A market that the feed fails for is
        left to `record`, which reports the failure."""
        found: dict[tuple[str, int], Sequence[Bar]] = {}
        fetched = []
        for market in markets:
            with suppress(CycleSkipped, Transient):
                found |= await self._unkept(market, until, span)
                fetched.append(market)
        await self._keep(found, fetched, until, span)
        names = [market.id for market in fetched]
        read = await self.store.bars_of(self.source, names, STEP, as_of=until, limit=LOOKBACK)
        self.latest.clear()
        self.latest.update({name: (until, bars) for name, bars in read.items()})

    async def _unkept(self, market: Market, until: datetime, span: timedelta) -> dict[tuple[str, int], Sequence[Bar]]:
        _, start = self._stretch(market.id, until - span, until)
        steps = RESOLUTIONS if start < until else ()
        return {(market.id, step): await self.feed.bars(market.id, start, until, step) for step in steps}

    async def _keep(
        self,
        bars: Mapping[tuple[str, int], Sequence[Bar]],
        markets: Sequence[Market],
        until: datetime,
        span: timedelta,
    ) -> None:
        await self.store.add_histories(self.source, bars)
        for market in markets:
            since, _ = self._stretch(market.id, until - span, until)
            self.kept[market.id] = since, until

    def _stretch(self, market_id: str, begins: datetime, until: datetime) -> tuple[datetime, datetime]:
        """Interval within `begins` to `until` whose bars are already stored without a gap; empty at `begins` if
        none."""
        since, end = self.kept.get(market_id, (until, until))
        return (since, min(end, until)) if since <= begins <= end else (begins, begins)

    async def recent(self, market: Market, as_of: datetime) -> Sequence[Bar]:
        """The bars that the features are computed from."""
        at, bars = self.latest.get(market.id, (None, ()))
        # Bars that were read as of another instant would look ahead, or miss the newest.
        return bars if at == as_of else await self.store.bars(self.source, market.id, STEP, as_of=as_of, limit=LOOKBACK)

    async def reference(self, market: Market, as_of: datetime) -> ReferenceView | None:
        """Reference price view of a window; None where the market has no reference price."""
        ticks = await self.prices.reference(market.id, as_of - VOLATILITY_SPAN, as_of)
        return reference_view(market, ticks, as_of)

    async def windows(self, market: Market, as_of: datetime, band: tuple[int, int], settings: Settings) -> int:
        """Number of finished windows of this length that may serve as analogs around this time to close."""
        wait = embargo_of(settings, market.seconds)
        past = await self.store.past(self.source, as_of=as_of, window=market.seconds, embargo=wait)
        return len(past.around(band))

    async def outcome(self, market: Market, resolution: Resolution, log: RunLog, at: datetime) -> None:
        """Write an outcome to the run's log, and the window's observations to the history."""
        await log.outcome(market.id, resolution, at)
        if resolution.payout is None:
            return
        await self.record(market, market.closes_at, market.closes_at - market.opens_at + timedelta(seconds=300))
        # A closed market is not recorded again, and a service runs for months.
        del self.kept[market.id]
        await self.store.add_resolution(self.source, resolution)
        rows = await self._observations(market, resolution)
        await self.store.add_observations(self.source, rows)
        self.learner.ended(resolution, {r.seconds_left: r.mid / UNIT for r in rows})

    async def _observations(self, market: Market, resolution: Resolution) -> list[Observation]:
        limit = LOOKBACK + market.seconds // STEP
        bars = await self.store.bars(self.source, market.id, STEP, as_of=market.closes_at, limit=limit)
        closes = [b.at for b in bars]

        def until(left: int) -> Sequence[Bar]:
            end = bisect_right(closes, market.closes_at - timedelta(seconds=left))
            return bars[max(0, end - LOOKBACK) : end]

        rows = [await self._observation(market, resolution, until(left), left) for left in self._kept(market)]
        return [r for r in rows if r is not None]

    def _kept(self, market: Market) -> list[int]:
        """Seconds to the close at which a window is observed: the instants at which decisions on similar windows are
        made."""
        if not self.feed.info.instants:
            step = GRID if market.seconds <= LONG else COARSE
            return list(range(step, market.seconds + 1, step))
        inside = [at for at in self.feed.info.instants if market.opens_at <= at < market.closes_at]
        return [int((market.closes_at - at).total_seconds()) for at in inside]

    async def _observation(
        self, market: Market, resolution: Resolution, bars: Sequence[Bar], left: int
    ) -> Observation | None:
        at = market.closes_at - timedelta(seconds=left)
        reference = await self.reference(market, at)
        seen = features(bars, left, market.seconds, reference)
        if seen is None or resolution.payout is None:
            return None
        return Observation(
            market_id=market.id,
            at=at,
            seconds_left=left,
            window=market.seconds,
            mid=seen.mid,
            buckets=seen.buckets,
            payout=int(resolution.payout * UNIT),
            known_at=resolution.known_at,
            official=resolution.source is PayoutSource.OFFICIAL,
            state=scaled(seen),
        )
