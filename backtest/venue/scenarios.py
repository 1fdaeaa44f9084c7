"""Scenarios of the loopback venue: terms, displayed books, prices and outcome of each window.

A series makes scenarios one after the other, from a seed or from recorded windows moved in time. Independent of orders,
sockets and the present.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from operator import attrgetter
from typing import Protocol

from backtest.columns import Bookshelf, Recording
from market.clock import EPOCH
from market.feed import ReferenceTick
from market.rules import resolution_rule
from market.types import UNIT, Book, Level, Market, Micro
from strategies.baselines import average_diffusion, diffusion

_STEP, _MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
_LAG = timedelta(milliseconds=900)
"""Delay from a tick's own time to its receipt, as recorded of the settlement stream."""
_BEFORE = timedelta(seconds=120)
"""Span of prices before a window in its scenario: an averaged opening price needs a minute of it."""
_CENT = Decimal("0.01")
_PRICES = tuple(n * _CENT for n in range(100))
_FEE = Decimal("0.07")


@dataclass(frozen=True, slots=True)
class Contested:
    """Place of a market in a negative-risk event: the event's slug and title, the id of its questions together (the
    last byte is zero), and the market's number and answer among them."""

    slug: str
    title: str
    market_id: str
    index: int
    answer: str

    @property
    def question_id(self) -> str:
        """Id of the market's own question: the event's, with the number in the last byte."""
        return f"{self.market_id[:-2]}{self.index:02x}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Scenario of a window from its listing to its end. `books` are of the YES token in order of receipt, `ticks` of
    the settlement price; `payout` is dollars per YES share; `begins` is the time of listing. `place` is of a market in
    a negative-risk event."""

    market: Market
    begins: datetime
    books: Sequence[Book]
    ticks: Sequence[ReferenceTick]
    payout: Decimal
    place: Contested | None = None


class Series(Protocol):
    """Windows of equal length on the wall clock's grid."""

    @property
    def asset(self) -> str:
        """Asset as in the slug: "btc"."""
        ...

    @property
    def seconds(self) -> int: ...

    def tape(self, opens_at: datetime) -> Scenario:
        """Scenario of the window that opens then. Called in order of opening."""
        ...


def grid(at: datetime, seconds: int) -> datetime:
    """Last instant of the grid at or before `at`."""
    return EPOCH + (at - EPOCH) // timedelta(seconds=seconds) * timedelta(seconds=seconds)


def listed(asset: str, opens_at: datetime, seconds: int, seed: str) -> Market:
    """Terms of a window, with ids of the venue's form that depend on the seed."""
    slug = f"{asset}-updown-{seconds // 60}m-{int(opens_at.timestamp())}"
    condition, yes, no = (hashlib.sha256(f"{seed}|{slug}|{what}".encode()) for what in ("condition", "up", "down"))
    closes = opens_at + timedelta(seconds=seconds)
    return Market(
        id=f"0x{condition.hexdigest()}",
        slug=slug,
        question=f"{asset.upper()} Up or Down - {opens_at:%B} {opens_at.day}, {opens_at:%H:%M}-{closes:%H:%M} UTC",
        yes_token=str(int(yes.hexdigest(), 16)),
        no_token=str(int(no.hexdigest(), 16)),
        opens_at=opens_at,
        closes_at=closes,
        fee_rate=_FEE,
    )


def average(ticks: Sequence[ReferenceTick], until: datetime, seconds: int) -> Decimal:
    """Time-weighted price of the `seconds` up to `until`, each tick standing until the next; for 0 the price at
    `until`. To 1e-8 dollars, so that two ends compare exactly. `ticks` are in order of their own time."""
    own = attrgetter("at")
    ends_at = bisect_right(ticks, until, key=own)
    if not seconds:
        return ticks[ends_at - 1].price
    since = until - timedelta(seconds=seconds)
    begins_at = bisect_right(ticks, since, hi=ends_at, key=own)
    inside = ticks[begins_at:ends_at]
    standing = ticks[begins_at - 1] if begins_at else inside[0]
    ends = [since, *(t.at for t in inside), until]
    spans = [(b - a) // _MILLISECOND for a, b in pairwise(ends)]
    total = sum((t.price * span for t, span in zip((standing, *inside), spans, strict=True)), Decimal(0))
    return (total / (seconds * 1000)).quantize(Decimal("1e-8"))


@dataclass(slots=True)
class Walk:
    """A random walk from a seed, quoted by a market maker who knows the diffusion and nothing more.

    The price is one walk over all windows, so that a window ends at the price with which the next one begins. `sigma`
    is per square-root second; `half_spread` in dollars.
    """

    begins: datetime
    seed: int
    asset: str = "btc"
    seconds: int = 300
    price: float = 100_000.0
    sigma: float = 4e-5
    half_spread: Decimal = Decimal("0.01")
    _ticks: list[ReferenceTick] = field(default_factory=list)
    _log: float = 0.0

    def tape(self, opens_at: datetime) -> Scenario:
        market = listed(self.asset, opens_at, self.seconds, str(self.seed))
        begins = opens_at - timedelta(seconds=self.seconds)
        rule = resolution_rule(opens_at, self.seconds)
        ticks = self._walked(begins - _BEFORE, market.closes_at)
        beat = average(ticks, opens_at, rule.average_seconds)
        last = average(ticks, market.closes_at, rule.average_seconds)
        chance = random.Random(f"{self.seed}|{market.slug}|quotes")  # noqa: S311 - a simulation, not a secret
        books = [self._quoted(market, t, ticks[:n], beat, chance) for n, t in enumerate(ticks, 1) if t.at >= begins]
        market = replace(market, price_to_beat=beat)
        # A tie resolves Up.
        return Scenario(market, begins, books, ticks, Decimal(1) if last >= beat else Decimal(0))

    def _walked(self, since: datetime, until: datetime) -> list[ReferenceTick]:
        """Ticks of the walk in [since, until]; it is continued as far as needed, and dropped behind."""
        if not self._ticks:
            start = min(self.begins, since)
            self._ticks.append(ReferenceTick(start, start + _LAG, Decimal(f"{self.price:.8f}")))
        while (last := self._ticks[-1].at) < until:
            at = last + _STEP
            # A generator per second: each step of the walk is the same wherever the walk was begun.
            chance = random.Random(f"{self.seed}|{int(at.timestamp())}")  # noqa: S311 - a simulation, not a secret
            self._log += self.sigma * chance.gauss(0.0, 1.0)
            self._ticks.append(ReferenceTick(at, at + _LAG, Decimal(f"{self.price * math.exp(self._log):.8f}")))
        self._ticks = [t for t in self._ticks if t.at >= since]
        return [t for t in self._ticks if t.at <= until]

    def _quoted(
        self, market: Market, tick: ReferenceTick, past: Sequence[ReferenceTick], beat: Decimal, chance: random.Random
    ) -> Book:
        """Five levels a side around the odds, which before the window opens are even."""
        fair = Decimal(f"{self._odds(market, tick, past, beat):.4f}") if tick.at >= market.opens_at else Decimal("0.5")
        bids = self._side(fair - self.half_spread, -1, chance)
        asks = self._side(fair + self.half_spread, 1, chance)
        return Book(market.id, tick.at, tick.at, bids, asks)

    def _odds(self, market: Market, tick: ReferenceTick, past: Sequence[ReferenceTick], beat: Decimal) -> float:
        left = (market.closes_at - tick.at).total_seconds()
        window = resolution_rule(market.opens_at, market.seconds).average_seconds
        if not window:
            return diffusion(float(tick.price), float(beat), self.sigma, left)
        elapsed = int(window - left)
        so_far = float(average(past[-elapsed - 2 :], tick.at, elapsed)) if elapsed > 0 else None
        return average_diffusion(float(tick.price), float(beat), self.sigma, left, window, so_far)

    @staticmethod
    def _side(best: Decimal, direction: int, chance: random.Random) -> tuple[Level, ...]:
        """Levels a cent apart, from the first cent not inside the spread; none beyond the ends of the scale."""
        first = int((best / _CENT).to_integral_value("ROUND_FLOOR" if direction < 0 else "ROUND_CEILING"))
        cents = range(first, first + 5 * direction, direction)
        return tuple(Level(_PRICES[n], shares(chance)) for n in cents if 1 <= n <= 99)


def shares(chance: random.Random) -> Micro:
    """Micro-shares of a displayed level, in whole hundredths."""
    return round(chance.lognormvariate(4.0, 1.0) * 100) * (UNIT // 100) + 5 * UNIT


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorded windows in a cycle, each moved to the venue's present, under names of its own.

    `recordings` all have one length; one without an official outcome is not used.
    """

    recordings: Sequence[Recording]
    asset: str = "btc"

    def __post_init__(self) -> None:
        if not self.recordings:
            raise ValueError("no recorded windows to replay")

    @property
    def seconds(self) -> int:
        return self.recordings[0].market.seconds

    def tape(self, opens_at: datetime) -> Scenario:
        number = int((opens_at - EPOCH).total_seconds()) // self.seconds
        recording = self.recordings[number % len(self.recordings)]
        old, moved = recording.market, opens_at - recording.market.opens_at
        named = listed(self.asset, opens_at, self.seconds, "recorded")
        market = replace(named, tick=old.tick, min_size=old.min_size, price_to_beat=old.price_to_beat)
        books = [
            replace(b, market_id=market.id, at=b.at + moved, received_at=b.received_at + moved)
            for b in Bookshelf(recording).books(0, len(recording))
        ]
        begins = min([opens_at, *(b.received_at for b in books[:1])])
        ticks = recording.reference.between(0, 2**62) if recording.reference is not None else []
        shifted = [ReferenceTick(t.at + moved, t.received_at + moved, t.price) for t in ticks]
        payout = recording.resolution.payout if recording.resolution is not None else None
        if payout is None:
            raise ValueError(f"{old.slug} has no outcome")
        return Scenario(market, begins, books, shifted, payout)
