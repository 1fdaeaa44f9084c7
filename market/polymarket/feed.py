"""Live feed of the venue: discovery of windows, order books from the market channel, resolutions.

Every book carries its local time of receipt. A book that cannot be trusted, after a lost frame or connection, is not
shown until a snapshot has come; one without updates for a while is read again by REST before it is traded on.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

import aiohttp

from market.clock import EPOCH, Clock, from_ms, monotonic, to_ms
from market.errors import DataInvalid, VenueUnavailable
from market.events import Event
from market.feed import Bar, FeedInfo, ReferenceTick, Worth
from market.incidents import Incidents
from market.polymarket.depth import Depth
from market.polymarket.frames import (
    Change,
    MarketResolved,
    Message,
    PriceChanges,
    RefusedEvent,
    Snapshot,
    TickChange,
    Unknown,
    read_frame,
)
from market.polymarket.hosts import Hosts
from market.polymarket.outages import OutageReport
from market.polymarket.prices import PriceStream, Source
from market.polymarket.rest import TIMEOUT, VenueReader
from market.polymarket.wire import Habits, Wire
from market.tasks import alongside, end
from market.types import UNIT, Book, Market, Micro, Outcome, PayoutSource, Resolution

log = logging.getLogger(__name__)
CHANNEL = "market"
"""Name of the market channel in a recording."""
QUIET = timedelta(seconds=5)
"""Longest silence of a market before its book is read by REST."""
KEPT = 1024
"""Books kept per market, for point-in-time reads of the recent past."""
DEPTH = 20
"""Levels a side of the published books."""
_LEAD_TIME = timedelta(seconds=60)
"""Lead time before a window opens at which it is looked up and subscribed."""
_STALE_AFTER = timedelta(seconds=5)
"""Oldest book that is answered without reading it again by REST."""
_POLL_INTERVAL, _EARLY_POLL_INTERVAL = timedelta(seconds=2), timedelta(minutes=1)
"""Least time between two queries about one market: after its close, and before it if it may be resolved early."""
_SKEW_MS = 2_000
"""Largest lead, in milliseconds, of a trusted stamp over our clock: one further ahead would outrank later frames."""
_DROP_SETTLED_AFTER, _DROP_UNSETTLED_AFTER = timedelta(hours=1), timedelta(days=7)
_KEEP_BOOKS_AFTER_CLOSE = timedelta(minutes=10)
"""Retention of a market's books after its close, once its resolution has been read: a busy market's take megabytes. A
trader looks at its books once more before asking for its resolution, so no fill evidence is lost."""
_MOST_DROPPED = 1_000
_PARALLEL_LOOKUPS = 8
"""Concurrent look-ups of windows."""
_QUEUE_LIMIT = 10_000
"""Seconds for which trouble of the feed is reported after its last occurrence."""
_LONGEST_WINDOW = 86_400
"""Seconds of the longest window that is resolved by a price at its close."""
_DEPTH_LEVELS = 5


@dataclass(frozen=True, slots=True)
class Watch:
    """Markets to follow: Up/Down series as (asset, seconds of a window), and single markets by slug."""

    series: tuple[tuple[str, int], ...] = ()
    slugs: tuple[str, ...] = ()

    def wanted(self, at: datetime) -> Iterable[str]:
        """Slugs of the windows open at `at` or soon after, and of the single markets."""
        yield from self.slugs
        for asset, seconds in self.series:
            for moment in (at, at + _LEAD_TIME):
                # The slug of a 5- or 15-minute window names its opening in unix seconds on the grid of UTC. Windows of
                # 4 h and a day follow US Eastern time and cannot be derived so.
                opens = EPOCH + (moment - EPOCH) // timedelta(seconds=seconds) * timedelta(seconds=seconds)
                yield f"{asset}-updown-{seconds // 60}m-{int(opens.timestamp())}"


_TROUBLE = {
    "refused": "Market events could not be decoded",
    "ahead": "Market events were stamped ahead of this clock",
    "resynced": "Order books were discarded after a lost frame",
    "dropped": "Order books were dropped before they were looked at",
    "losses": "The market channel was lost",
    "unanswered": "The venue did not answer questions about markets",
    "records": "Market records were refused",
}
"""What the feed complains of. Counted without a complaint: `frames`, events of `unknown` kinds, and snapshots that
`corrected` our book, mostly because frames were late."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A book reduced to the fields of a bar."""

    at: datetime
    bid: Micro | None
    ask: Micro | None
    bid_depth: Micro
    ask_depth: Micro


@dataclass(slots=True)
class _Watched:
    """A market and its book. `whole`: nothing is known to be missing from it. `doubts`: how often in a row the venue's
    best prices differed from ours. `resolution_read`: the resolution has been read by a caller. `wanted_at`: time of
    the last query for it by a caller; whoever holds something keeps asking."""

    market: Market
    depth: Depth
    whole: bool = False
    doubts: int = 0
    books: deque[Book] = field(default_factory=lambda: deque(maxlen=KEPT))
    rows: list[_Row] = field(default_factory=list)
    resolution: Resolution | None = None
    resolution_read: bool = False
    asked_at: datetime = EPOCH
    refreshed_at: datetime = EPOCH
    wanted_at: datetime = EPOCH

    def standing(self, at: datetime) -> Book | None:
        return next((b for b in reversed(self.books) if b.received_at <= at), None)


@dataclass(slots=True, eq=False)
class _Listener:
    """Subscription of one caller to the books of some markets."""

    market_ids: frozenset[str]
    queue: deque[Book] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, book: Book) -> bool:
        """Queue a book; False if an older one had to be dropped."""
        # The oldest goes: a slow consumer needs the newest book, and a bounded queue cannot exhaust the memory.
        full = len(self.queue) >= _QUEUE_LIMIT
        if full:
            self.queue.popleft()
        self.queue.append(book)
        self.news.set()
        return not full


class Tap(Protocol):
    """Recorder of everything that a feed receives and derives."""

    def frame(self, channel: str, raw: bytes, at: datetime) -> None: ...

    def gap(self, channel: str, why: str, at: datetime) -> None: ...

    def book(self, book: Book) -> None: ...

    def price(self, asset: str, tick: ReferenceTick) -> None: ...

    def market(self, market: Market) -> None: ...


class LiveFeed:
    """Implements `market.feed.PricedFeed` over the venue. Open it with `open_feed`."""

    def __init__(
        self,
        reader: VenueReader,
        clock: Clock,
        watch: Watch,
        prices: PriceStream | None,
        tap: Tap | None = None,
    ) -> None:
        self._reader, self._clock, self._watch, self.prices, self._tap = reader, clock, watch, prices, tap
        self.wire = Wire(
            reader.hosts.market_stream, Habits("PING"), self._subscription, self._on_message, self._on_loss
        )
        self.outages: Callable[[str], Callable[[str], None]] = lambda _: lambda _: None
        """What hears of the outages of a channel, by its name."""
        self.health = Incidents(_TROUBLE)
        self.heard = monotonic()
        """Time of the last market data or REST answer on the monotonic clock; at first, the start of listening."""
        self._watched: dict[str, _Watched] = {}
        self._tokens: dict[str, _Watched] = {}
        self._slugs: dict[str, str] = {}
        self._dropped_markets: dict[str, Market] = {}
        self._listeners: list[_Listener] = []
        self.refusals: dict[str, None] = {}
        """Refused records of the venue with the reason, the newest last."""
        self._latest_stamp = 0
        self._unpublished: dict[str, _Watched] = {}
        self._publish_scheduled = False

    @property
    def info(self) -> FeedInfo:
        notes = [self.prices.source.note] if self.prices is not None else ["There is no reference price."]
        if self._reader.hosts.pretend:
            notes.append("A loopback venue: markets and money are simulated.")
        place, priced = self._reader.hosts.clob, self.prices is not None
        return FeedInfo(
            name=f"polymarket at {place}",
            fingerprint=f"live|{place}",
            begins=None,
            ends=None,
            has_reference=priced,
            has_trades=False,
            notes=tuple(notes),
        )

    @property
    def neg_risk(self) -> bool:
        """True if a market that is followed is part of a negative-risk event."""
        return any(watched.market.neg_risk for watched in self._watched.values())

    def market(self, market_id: str) -> Market | None:
        """A market that is or was followed."""
        watched = self._watched.get(market_id)
        return watched.market if watched is not None else self._dropped_markets.get(market_id)

    def remember(self, market: Market) -> None:
        """Follow a market of an earlier run until its resolution is known."""
        if market.id not in self._watched:
            watched = _Watched(market, Depth(market.yes_token))
            self._watched[market.id] = self._tokens[market.yes_token] = watched
            self._slugs[market.slug] = market.id

    # -- the port

    async def markets(self, at: datetime) -> Sequence[Market]:
        found = (w.market for w in self._watched.values() if w.market.opens_at <= at < w.market.closes_at)
        return sorted(found, key=lambda m: (m.opens_at, m.id))

    async def book(self, market_id: str, at: datetime) -> Book | None:
        """The book as of `at`; one without recent updates is read again by REST first."""
        watched = self._watched.get(market_id)
        if watched is None:
            return None
        now = self._clock.now()
        newest = watched.books[-1].received_at if watched.books else EPOCH
        if now - at < _STALE_AFTER and (not watched.whole or now - newest > _STALE_AFTER):
            await self._refresh_by_rest(watched)
        return watched.standing(max(at, now) if now - at < _STALE_AFTER else at) if watched.whole else None

    async def changes(
        self, market_ids: Sequence[str], after: datetime, until: datetime, worth: Worth | None = None
    ) -> AsyncIterator[Book]:
        wanted = frozenset(market_ids)
        listener = _Listener(wanted)
        # Books that came since `after` but before this subscription: without them a caller would miss what arrived
        # between its last read and now.
        known = (b for m in wanted if m in self._watched for b in self._watched[m].books)
        listener.queue.extend(sorted((b for b in known if after < b.received_at <= until), key=lambda b: b.received_at))
        self._listeners.append(listener)
        closing = asyncio.create_task(self._close_at(listener, until))
        try:
            while not closing.done() or listener.queue:
                while listener.queue and (book := listener.queue.popleft()).received_at <= until:
                    yield book
                listener.news.clear()
                if not closing.done():
                    await listener.news.wait()
                elif listener.queue and listener.queue[0].received_at > until:
                    return
        finally:
            self._listeners.remove(listener)
            await end(closing)

    async def _close_at(self, listener: _Listener, until: datetime) -> None:
        try:
            await self._clock.wait_until(until)
        finally:
            listener.news.set()

    async def bars(self, market_id: str, after: datetime, until: datetime, step: int) -> Sequence[Bar]:
        watched = self._watched.get(market_id)
        return [] if watched is None else bars_of(market_id, watched.rows, after, until, step)

    async def resolution(self, market_id: str, at: datetime) -> Resolution | None:
        """The venue's official resolution; read at most every two seconds of its time once the market has closed, and
        every minute before, if it may be resolved early."""
        watched = self._watched.get(market_id)
        if watched is None:
            return None
        now = watched.wanted_at = self._clock.now()
        if watched.resolution is None and now - watched.asked_at >= _poll_interval(watched.market, now):
            watched.asked_at = now
            with self._asking(f"outcome of {watched.market.slug}"):
                watched.resolution = await self._reader.resolution(market_id)
        known = watched.resolution
        # What was asked for just now became known while it was asked.
        watched.resolution_read = known is not None and known.known_at <= max(at, self._clock.now())
        return known if watched.resolution_read else None

    async def reference(self, market_id: str, after: datetime, until: datetime) -> Sequence[ReferenceTick]:
        watched = self._watched.get(market_id)
        if watched is None or self.prices is None:
            return []
        return list(self.prices.ticks(_asset(watched.market), after, until))

    # -- discovery

    async def discover(self) -> None:
        """Find windows as their time comes, learn their price to beat, drop those long over; until cancelled."""
        while True:
            now = self._clock.now()
            unknown = [slug for slug in dict.fromkeys(self._watch.wanted(now)) if slug not in self._slugs]
            for first in range(0, len(unknown), _PARALLEL_LOOKUPS):
                await asyncio.gather(*(self._find(slug) for slug in unknown[first : first + _PARALLEL_LOOKUPS]))
            for watched in list(self._watched.values()):
                await self._maintain(watched, now)
            await self._clock.wait_until(now + _POLL_INTERVAL)

    async def _find(self, slug: str) -> None:
        with self._asking(f"market {slug}"):
            listed = await self._reader.market(slug)
            if listed is not None and not listed.closed:
                self._slugs[slug] = listed.market.id
                self.follow(listed.market)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """A question by REST. One without an answer is counted, and asked again when its time comes; a record that is
        refused is counted and said once, with its reason. Either concerns one market alone."""
        try:
            yield
            self.heard = monotonic()
        except VenueUnavailable as error:
            self.health.note("unanswered", f"{what}: {error}")
        except DataInvalid as error:
            said = f"{what}: {error}"
            if said not in self.refusals:
                self.health.note("records", said)
                log.warning("a record of the venue is refused: %s", said)
                self.refusals[said] = None
                if len(self.refusals) > _MOST_DROPPED:
                    self.refusals.pop(next(iter(self.refusals)))

    def follow(self, market: Market) -> None:
        """Subscribe to a market's book."""
        watched = _Watched(market, Depth(market.yes_token))
        self._watched[market.id] = self._tokens[market.yes_token] = watched
        if self._tap is not None:
            self._tap.market(market)
        self.wire.say(json.dumps({"operation": "subscribe", "assets_ids": [market.yes_token]}))

    async def _maintain(self, watched: _Watched, now: datetime) -> None:
        market = watched.market
        if market.price_to_beat is None and market.opens_at <= now < market.closes_at and self._watch.series:
            await self._learn_price(watched)
        settled = watched.resolution is not None  # one whose end is not known may be held
        if watched.resolution_read and now - market.closes_at > _KEEP_BOOKS_AFTER_CLOSE:
            watched.books.clear()
        # A disputed outcome takes the oracle 4 to 6 days, hence a week for markets that no caller asks for.
        unasked = now - max(market.closes_at, watched.wanted_at)
        if (settled and now - market.closes_at > _DROP_SETTLED_AFTER) or unasked > _DROP_UNSETTLED_AFTER:
            self._dropped_markets[market.id] = self._watched.pop(market.id).market
            if len(self._dropped_markets) > _MOST_DROPPED:
                self._dropped_markets.pop(next(iter(self._dropped_markets)))
            self._tokens.pop(market.yes_token)
            self._slugs.pop(market.slug, None)
            self.wire.say(json.dumps({"operation": "unsubscribe", "assets_ids": [market.yes_token]}))

    async def _learn_price(self, watched: _Watched) -> None:
        """Learn the price to beat: from the stream of settlement averages at the instant of opening, else from
        discovery, which shows it after the window has opened."""
        market = watched.market
        beat = self.prices.average(_asset(market), market.opens_at) if self.prices is not None else None
        if beat is None:
            with self._asking(f"price to beat of {market.slug}"):
                listed = await self._reader.market(market.slug)
                beat = listed.market.price_to_beat if listed is not None else None
        if beat is not None:
            watched.market = replace(market, price_to_beat=beat)
            if self._tap is not None:
                self._tap.market(watched.market)

    # -- the market channel

    def _subscription(self) -> Sequence[str]:
        return [json.dumps({"type": "market", "assets_ids": list(self._tokens), "custom_feature_enabled": True})]

    def _on_loss(self, why: str) -> None:
        self.health.note("losses", why)
        if self._tap is not None:
            self._tap.gap(CHANNEL, why, self._clock.now())
        # The channel does not replay what was missed, and a new subscription sends a full book first.
        for watched in self._watched.values():
            watched.whole = False

    def _on_message(self, raw: bytes) -> None:
        if raw == b"PONG":  # shows that the connection stands, not that anything is published on it
            return
        self.heard = monotonic()
        self.health.counted["frames"] += 1
        if self._tap is not None:
            self._tap.frame(CHANNEL, raw, self._clock.now())
        for message in read_frame(raw, self._tokens):
            if type(message) is PriceChanges:
                self._apply_changes(message, self._unpublished)
            else:
                self._dispatch(message)
        if self._unpublished and not self._publish_scheduled:
            self._publish_scheduled = True
            # Frames that piled up in the socket are delivered in one go; `call_soon` runs after the last of them.
            asyncio.get_running_loop().call_soon(self._publish_all)

    def _dispatch(self, message: Message) -> None:
        match message:
            case Snapshot():
                self._apply_snapshot(message, self._unpublished)
            case TickChange():
                self._apply_tick_change(message)
            case MarketResolved():
                self._apply_resolution(message)
            case RefusedEvent():
                self._doubt(message)
            case Unknown():
                self.health.counted["unknown"] += 1
            case _:
                pass  # trades are not needed, and the best prices are in every change already

    def _doubt(self, refused: RefusedEvent) -> None:
        """An undecodable event may have changed a book: it is not published until the venue has sent a snapshot."""
        self.health.note("refused", refused.why)
        for watched in self._watched.values():
            market = watched.market
            if not refused.names or not refused.names.isdisjoint((market.id, market.yes_token)):
                watched.whole = False

    def _bounded(self, ms: int) -> int:
        """A stamp, or our own time if it is further ahead than clocks may differ."""
        if ms <= self._latest_stamp:
            return ms
        now = to_ms(self._clock.now())
        self._latest_stamp = now + _SKEW_MS
        if ms <= self._latest_stamp:
            return ms
        self.health.note("ahead", f"an event is stamped {(ms - now) / 1000:.1f} s ahead of our clock")
        return now

    def _publish_all(self) -> None:
        """Publish the state after a burst of frames, once: the states between frames that were read together could not
        be acted on."""
        self._publish_scheduled = False
        now, unseen = self._clock.now(), list(self._unpublished.values())
        self._unpublished.clear()
        for watched in unseen:
            self._publish(watched, now)

    def _apply_snapshot(self, snapshot: Snapshot, changed: dict[str, _Watched]) -> None:
        """Apply a snapshot, which repairs late or lost updates; a difference from our book is counted."""
        watched = self._tokens.get(snapshot.asset_id)
        if watched is None:
            return
        snapshot.ms = self._bounded(snapshot.ms)
        if not watched.whole:
            watched.depth.forget()
        elif why := watched.depth.differs(snapshot):
            self.health.note("corrected", why)
        watched.depth.apply_snapshot(snapshot)
        watched.whole, watched.doubts = True, 0
        changed[watched.market.id] = watched

    def _discard(self, watched: _Watched, snapshot: Snapshot) -> None:
        """Drop our book in favour of a snapshot, whatever the stamps of ours; a difference is counted."""
        if watched.whole and (why := watched.depth.differs(snapshot)):
            self.health.note("corrected", why)
        watched.depth.forget()

    def _apply_changes(self, message: PriceChanges, changed: dict[str, _Watched]) -> None:
        ms, last, checked = self._bounded(message.ms), None, None
        for change in message.price_changes:
            watched = self._tokens[change.asset_id]
            if not watched.whole:
                continue
            watched.depth.apply_change(change, ms)
            changed[watched.market.id] = last = watched
            checked = change
        # The best prices named are those after the whole frame, which is of one market.
        if last is not None and checked is not None and ms >= last.depth.newest:
            self._check_best_prices(last, checked)

    def _check_best_prices(self, watched: _Watched, change: Change) -> None:
        """Compare the venue's best prices with ours. One difference may be a late frame; two in a row mean a lost
        one."""
        if change.bid_ticks < 0 or change.ask_ticks < 0:
            return
        here, there = watched.depth.best_ticks, (change.bid_ticks, change.ask_ticks)
        watched.doubts = watched.doubts + 1 if here != there else 0
        if watched.doubts > 1:
            watched.whole = False
            self.health.note("resynced", f"best prices {here} here and {there} there, in ten-thousandths")

    def _apply_tick_change(self, message: TickChange) -> None:
        watched = self._tokens.get(message.asset_id)
        if watched is not None:
            watched.market = replace(watched.market, tick=message.new_tick)

    def _apply_resolution(self, message: MarketResolved) -> None:
        watched = self._watched.get(message.market)
        if watched is not None and watched.resolution is None:
            payout = Decimal(message.winning_asset_id == watched.market.yes_token)
            watched.resolution = Resolution(watched.market.id, payout, PayoutSource.OFFICIAL, self._clock.now())

    def _publish(self, watched: _Watched, now: datetime) -> None:
        if not watched.whole:
            return
        at = from_ms(watched.depth.newest)
        book = watched.depth.book(watched.market.id, at, now, Outcome.YES, DEPTH)
        watched.books.append(book)
        if self._tap is not None:
            self._tap.book(book)
        bid_depth, ask_depth = book.depth(_DEPTH_LEVELS)
        watched.rows.append(
            _Row(at=now, bid=_micro(book.best_bid), ask=_micro(book.best_ask), bid_depth=bid_depth, ask_depth=ask_depth)
        )
        for listener in self._listeners:
            if watched.market.id in listener.market_ids and not listener.put(book):
                self.health.note("dropped", f"a listener of {watched.market.slug} was too slow")

    # -- recovery by REST

    async def mend(self) -> None:
        """Read a snapshot by REST where updates do not add up, or none came for a while; until cancelled."""
        while True:
            for watched in list(self._watched.values()):
                now = self._clock.now()
                if self.wire.open and now < watched.market.closes_at and self._in_doubt(watched, now):
                    await self._refresh_by_rest(watched)
            await asyncio.sleep(0.05)

    def _in_doubt(self, watched: _Watched, now: datetime) -> bool:
        """True if a book has to be read by REST: it is incomplete, or the silence leaves open if it stands unchanged or
        the connection is dead."""
        if not watched.whole:
            return True
        last = watched.books[-1].received_at if watched.books else EPOCH
        if now - max(last, watched.refreshed_at) < QUIET:
            return False
        # Set before the answer comes, so that a venue that does not answer is asked once per QUIET and not in every
        # round.
        watched.refreshed_at = now
        return True

    async def _refresh_by_rest(self, watched: _Watched) -> None:
        """Read the book by REST: it repairs ours, and proves that ours still stands."""
        heard = watched.depth.newest
        with self._asking(f"book of {watched.market.slug}"):
            snapshot = await self._reader.book(watched.market.yes_token)
            if snapshot is not None:
                changed: dict[str, _Watched] = {}
                # Frames that came meanwhile may be newer than the answer; without any, the answer wins.
                if watched.depth.newest == heard:
                    self._discard(watched, snapshot)
                self._apply_snapshot(snapshot, changed)
                for one in changed.values():
                    self._publish(one, self._clock.now())


@asynccontextmanager
async def open_feed(
    hosts: Hosts,
    clock: Clock,
    watch: Watch,
    source: Source | None = None,
    tap: Tap | None = None,
    publish: Callable[[Event], None] = lambda _: None,
) -> AsyncIterator[LiveFeed]:
    """A feed that runs until the block ends; the first windows have been looked up when it begins. `publish` gets the
    outages of its channels."""
    assets = dict.fromkeys(asset for asset, _ in watch.series)
    prices = PriceStream(source, assets, clock, tap) if source is not None and assets else None
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        feed = LiveFeed(VenueReader(hosts, session, clock), clock, watch, prices, tap)
        feed.outages = lambda channel: OutageReport(channel, clock, publish)
        feed.wire.told = feed.outages(CHANNEL)
        if prices is not None:
            prices.wire.told = feed.outages("prices")
        running = [feed.discover(), feed.mend(), feed.wire.run()]
        running += [prices.wire.run()] if prices is not None else []
        # After a failure of one no book can be trusted: it ends the block.
        async with alongside(*running):
            yield feed


def bars_of(market_id: str, rows: Sequence[_Row], after: datetime, until: datetime, step: int) -> list[Bar]:
    """Bars of `step` seconds on its grid that close in (after, until]; none before the first book."""
    width = step * 1000
    first, last = to_ms(after) // width + 1, to_ms(until) // width
    bars, n = [], 0
    for number in range(first, last + 1):
        closes = EPOCH + timedelta(milliseconds=number * width)
        begins = closes - timedelta(seconds=step)
        while n < len(rows) and rows[n].at < closes:
            n += 1
        if n == 0:
            continue
        row = rows[n - 1]
        updates = _since(rows, n, begins)
        bars.append(
            Bar(
                market_id=market_id,
                at=closes,
                bid=row.bid,
                ask=row.ask,
                bid_depth=row.bid_depth,
                ask_depth=row.ask_depth,
                updates=updates,
            )
        )
    return bars


def _since(rows: Sequence[_Row], end: int, begins: datetime) -> int:
    """Count rows before `end` that were received at `begins` or later."""
    count = 0
    while count < end and rows[end - 1 - count].at >= begins:
        count += 1
    return count


def _poll_interval(market: Market, now: datetime) -> timedelta:
    """Least time between two questions for an outcome. A window is decided at its close and not before; a market that
    people decide may end long before the close it was listed with."""
    if now >= market.closes_at:
        return _POLL_INTERVAL
    return _EARLY_POLL_INTERVAL if market.seconds > _LONGEST_WINDOW else timedelta.max


def _asset(market: Market) -> str:
    return market.slug.split("-", 1)[0]


def _micro(price: Decimal | None) -> Micro | None:
    return None if price is None else int(price * UNIT)
