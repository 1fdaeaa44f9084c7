"""State of the loopback venue without its sockets: time, listed windows, accounts, faults, and listeners to its
events."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter

from backtest.venue.balances import CASH, Balances
from backtest.venue.contests import Contest
from backtest.venue.exchange import PACE, Exchange, Hall, Pace, VenueEvent
from backtest.venue.faults import Faults
from backtest.venue.scenarios import Scenario, Series, grid
from market.clock import Clock
from market.feed import ReferenceTick
from market.types import Book, Market, Micro, Outcome

_RETENTION = timedelta(hours=6)
"""Retention of a window's books after its close."""
_LONGEST_SLEEP = timedelta(seconds=1)
"""Longest sleep of the venue, in its own time."""


@dataclass(frozen=True, slots=True)
class Window:
    """A listed window: its number at the venue, and its asset."""

    number: int
    asset: str
    tape: Scenario

    @property
    def market(self) -> Market:
        return self.tape.market


class VenueState:
    """`ahead` windows of each series are listed before they open. `faucet` is the initial cash of a new account, with
    every approval; None gives nothing and approves nothing."""

    def __init__(
        self,
        clock: Clock,
        series: Sequence[Series | Contest],
        *,
        pace: Pace = PACE,
        faucet: Micro | None = None,
        ahead: int = 2,
    ) -> None:
        self.clock, self._series, self._ahead = clock, series, ahead
        self.faults = Faults()
        self.exchange = Exchange(self._notify, pace, self.faults)
        self.windows: dict[str, Window] = {}
        """Windows by condition id, in order of listing."""
        self.slugs: dict[str, Window] = {}
        self.tokens: dict[str, tuple[Market, Outcome]] = {}
        self.approved: set[str] = set()
        """Accounts whose dollars and shares the exchange may move."""
        self.approved_neg_risk: set[str] = set()
        """Accounts whose dollars and shares the exchange and the adapter of negative-risk markets may move."""
        self.listeners: list[Callable[[VenueEvent], None]] = []
        self._faucet = faucet
        self._events: dict[str, list[str]] = {}
        """Ids of the markets of each negative-risk event, by its slug."""
        self._listed: set[tuple[str, int, datetime]] = set()
        self._with_books: dict[str, list[str]] = {one.asset: [] for one in series}
        """Ids of windows with books, by asset, in order of listing: frequent operations must not slow down with the
        number of past windows."""

    def now(self) -> datetime:
        """The venue's time, after processing all due events."""
        self.exchange.advance(self.clock.now())
        return self.exchange.now

    async def run(self) -> None:
        """Let time pass until cancelled."""
        while True:
            await self.list_windows()
            now = self.now()
            due = self.exchange.next_due() or now + _LONGEST_SLEEP
            await self.clock.wait_until(min(due, now + _LONGEST_SLEEP))

    async def list_windows(self) -> None:
        """List the open window of each series, and every window that opens within the next `ahead`."""
        now, known = self.clock.now(), len(self.windows)
        for one in self._series:
            first = grid(now, one.seconds)
            for n in range(self._ahead + 1):
                opens_at = first + n * timedelta(seconds=one.seconds)
                if (key := (one.asset, one.seconds, opens_at)) not in self._listed:
                    self._listed.add(key)
                    # In a thread: a scenario has hundreds of books or more, and requests must not wait for them.
                    for tape in await asyncio.to_thread(_tapes, one, opens_at):
                        self._list(one.asset, tape)
        if len(self.windows) > known:
            self._drop_books(now - _RETENTION)

    def _drop_books(self, before: datetime) -> None:
        """Drop the books of windows that closed before; their outcomes stay known."""
        for ids in self._with_books.values():
            for market_id in list(ids):
                window, hall = self.windows[market_id], self.exchange.halls[market_id]
                if window.market.closes_at < before and hall.resolved:
                    self._retape(market_id, replace(window.tape, books=[], ticks=[]))
                    ids.remove(market_id)

    @property
    def assets(self) -> Set[str]:
        """Assets of the listed windows: what has a price."""
        return {one.asset for one in self._series if not isinstance(one, Contest)}

    def _list(self, asset: str, tape: Scenario) -> None:
        market = tape.market
        window = Window(len(self.windows) + 1, asset, tape)
        self.windows[market.id] = self.slugs[market.slug] = window
        self._with_books[asset].append(market.id)
        self.tokens |= {market.token(o): (market, o) for o in Outcome}
        if tape.place is not None:
            self._events.setdefault(tape.place.slug, []).append(market.id)
        self.exchange.open(tape)

    def refine(self, market_id: str, tick: Decimal) -> None:
        """Switch a market to a finer tick from now on."""
        market = replace(self.exchange.halls[market_id].market, tick=tick)
        self._retape(market_id, replace(self.exchange.halls[market_id].tape, market=market))
        self.tokens |= {market.token(o): (market, o) for o in Outcome}

    def revise(self, market_id: str, payout: Decimal) -> None:
        """Change what a YES share of a market pays, in dollars. What was paid already stays paid."""
        self._retape(market_id, replace(self.exchange.halls[market_id].tape, payout=payout))

    def _retape(self, market_id: str, tape: Scenario) -> None:
        self.exchange.halls[market_id].tape = tape
        self.windows[market_id] = self.slugs[tape.market.slug] = replace(self.windows[market_id], tape=tape)

    def hall(self, market: Market) -> Hall:
        return self.exchange.halls[market.id]

    def standing(self, market: Market, outcome: Outcome) -> Book | None:
        """Book of a token with everybody's orders; None before the first and after the market's end."""
        book = self.hall(market).standing()
        return None if book is None else book.of(outcome)

    def mid(self, market: Market) -> Decimal | None:
        book = self.hall(market).book
        return book.mid if book is not None else None

    def ticks(self, asset: str, after: datetime, until: datetime) -> Iterator[ReferenceTick]:
        """Settlement prices received in (after, until], each once."""
        # Neighbouring windows share ticks: `last` moves on, so that each is given once.
        last, received = after, attrgetter("received_at")
        for window in [self.windows[market_id] for market_id in self._with_books.get(asset, ())]:
            if window.market.closes_at >= after and window.tape.begins <= until:
                ticks = window.tape.ticks
                begins = bisect_right(ticks, last, key=received)
                for tick in ticks[begins : bisect_right(ticks, until, lo=begins, key=received)]:
                    last = tick.received_at
                    yield tick

    def purse(self, address: str) -> Balances:
        """Balances of an account; a new one is filled by the faucet, if there is one."""
        if address not in self.exchange.purses:
            self.exchange.purses[address] = Balances({CASH: self._faucet} if self._faucet else {})
            if self._faucet is not None:
                self.approved.add(address)
                self.approved_neg_risk.add(address)
        return self.exchange.purses[address]

    def may_trade(self, address: str, market: Market) -> bool:
        """True if the contracts that settle a market's trades may move an account's dollars and shares."""
        return address in (self.approved_neg_risk if market.neg_risk else self.approved)

    def event_of(self, window: Window) -> Sequence[Window]:
        """Windows of one event, in the order of its questions: a window of a series has an event of its own."""
        place = window.tape.place
        return [window] if place is None else [self.windows[market_id] for market_id in self._events[place.slug]]

    def event(self, slug: str) -> Sequence[Window]:
        """Windows of the event of that name; none if there is no such event."""
        if slug in self._events:
            return [self.windows[market_id] for market_id in self._events[slug]]
        # A window's event has the name of its market.
        alone = self.slugs.get(slug)
        return [alone] if alone is not None and alone.tape.place is None else []

    def _notify(self, event: VenueEvent) -> None:
        for listener in self.listeners:
            listener(event)


def _tapes(series: Series | Contest, opens_at: datetime) -> Sequence[Scenario]:
    return series.tapes(opens_at) if isinstance(series, Contest) else [series.tape(opens_at)]
