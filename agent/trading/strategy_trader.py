"""Traders of plain strategies: one that takes, one that quotes, and several as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.decision.gate import book_fault
from agent.trading.execution import Execution
from agent.trading.loop import Trader
from agent.trading.quotes import RestingQuote, same_quote, withdraw_quotes
from market.clock import from_ms
from market.errors import StrategyFailed
from market.feed import ReferencePrices, Worth
from market.types import Book, Market, Micro, OrderStatus
from strategies.base import OrderIntent, Referenced, Scanning, Strategy, View
from strategies.baselines import VOLATILITY_SPAN, p_up

if TYPE_CHECKING:
    from market.columns import Columns, Mask


_WAITING = frozenset({OrderStatus.LIVE, OrderStatus.DELAYED})


def never_old(_: Book) -> bool:
    """False: recorded books are as old as the simulated clock says."""
    return False


def answer(strategy: Strategy, view: View) -> OrderIntent | None:
    """A strategy's order intent. Raises StrategyFailed, naming the market and the instant, if it raises."""
    try:
        return strategy.decide(view)
    except Exception as error:
        raise _failed(strategy, f"raised {type(error).__name__}", view.market, view.at, str(error)) from error


def _failed(strategy: Strategy, what: str, market: Market, at: datetime, why: str) -> StrategyFailed:
    return StrategyFailed(
        f"The strategy {strategy.name} {what} on {market.slug} at {at.isoformat()}: {why}.",
        next_step="Correct it and run again; what it traded until then is in the log.",
    )


def _over(shown: dict[str, Market], markets: Sequence[Market], slot: datetime) -> list[str]:
    """Add the slot's markets to `shown`, remove those that have closed, and return their ids."""
    shown |= {m.id: m for m in markets}
    over = [m.id for m in shown.values() if m.closes_at <= slot]
    for market_id in over:
        del shown[market_id]
    return over


@dataclass(slots=True)
class StrategyTrader:
    """A baseline: one pure strategy on the book changes of every open market; one order a market at most, or one at a
    time if the strategy trades repeatedly. `old` is True for a book that may be outdated; `looked` is the time of the
    last reference-price read per market, at most one per `every` seconds. A market's state is kept until it closes,
    whether it is listed at every slot until then or not."""

    strategy: Strategy
    execution: Execution
    old: Callable[[Book], bool] = never_old
    markets: dict[str, Market] = field(default_factory=dict)
    shown: dict[str, Market] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    prices: ReferencePrices | None = None
    held: dict[str, tuple[Micro, Micro]] = field(default_factory=dict)
    looked: dict[str, datetime] = field(default_factory=dict)
    every: float | None = field(init=False)
    scans: bool = field(init=False)
    sent: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Determine the kind of strategy once: it is needed at every book."""
        self.every = self.strategy.every if isinstance(self.strategy, Referenced) else None
        self.scans = isinstance(self.strategy, Scanning)

    async def cycle(self, slot: datetime, markets: Sequence[Market], blocked: str) -> None:
        for market_id in _over(self.shown, markets, slot):
            self.used.discard(market_id)
            for kept in (self.held, self.looked, self.sent):
                kept.pop(market_id, None)
        self.markets = {} if blocked else {m.id: m for m in markets}

    def watching(self, at: datetime) -> Sequence[str]:
        return sorted(self.markets.keys() - self.used)

    @property
    def worth(self) -> Worth | None:
        return self._worth if self.scans else None

    def _worth(self, market: Market, books: Columns) -> Mask:
        """Mask of the books to deliver. While an order works every book counts: it may have ended, and the holdings
        changed."""
        if market.id in self.used:
            return np.zeros(len(books), np.bool_)
        if self._works(market):
            return np.ones(len(books), np.bool_)
        return self._scanned(market, books)

    def _scanned(self, market: Market, books: Columns) -> Mask:
        """The strategy's own mask over the books that it could be shown. Raises StrategyFailed."""
        scan: Any = self.strategy
        at = from_ms(int(books.received[0]))
        try:
            found = scan.worth(market, books, *self.held.get(market.id, (0, 0)))
        except Exception as error:
            raise _failed(self.strategy, f"raised {type(error).__name__}", market, at, str(error)) from error
        if getattr(found, "shape", None) != (len(books),) or found.dtype != np.bool_:
            raise _failed(
                self.strategy, "answered `worth` wrongly", market, at, "it wants one true or false for each book"
            )
        mask: Mask = found
        return mask

    def _works(self, market: Market) -> bool:
        working = self.execution.working
        return bool(working) and any(o.market_id == market.id for o in working.values())

    async def on_book(self, book: Book) -> None:
        market = self.markets[book.market_id]
        if (
            market.id in self.used
            or self.execution.idle(book.received_at)
            or book_fault(book)
            or self.old(book)
            or not market.opens_at <= book.received_at < market.closes_at
            or self._works(market)
            or self._too_soon(market, book.received_at)
        ):
            return
        view = await self._referenced(await self.execution.look(market, book, book.received_at))
        self.held[market.id] = view.held_yes, view.held_no
        intent = answer(self.strategy, view)
        if intent is None:
            return
        if self.strategy.once:
            self.used.add(market.id)
        when = "" if self.strategy.once else f":{view.at.isoformat()}"
        number = self.sent[market.id] = self.sent.get(market.id, -1) + 1
        await self.execution.act(intent, view, f"{self.strategy.name}:{market.id}{when}", number)

    def _too_soon(self, market: Market, at: datetime) -> bool:
        """True if the reference price was read less than `every` seconds ago: reading it costs more than deciding."""
        last = self.looked.get(market.id)
        return self.every is not None and last is not None and (at - last).total_seconds() < self.every

    async def _referenced(self, view: View) -> View:
        """The view with the reference price, if the strategy uses it."""
        if self.prices is None or self.every is None:
            return view
        self.looked[view.market.id] = view.at
        ticks = await self.prices.reference(view.market.id, view.at - VOLATILITY_SPAN, view.at)
        return replace(view, reference=p_up(view.market, ticks, view.at))


@dataclass(slots=True)
class QuotingTrader:
    """A baseline that keeps one order resting in each open market: cancelled and replaced on the strategy's intent, at
    most once in `pause`."""

    strategy: Strategy
    execution: Execution
    old: Callable[[Book], bool] = never_old
    pause: timedelta = timedelta(seconds=2)
    markets: dict[str, Market] = field(default_factory=dict)
    shown: dict[str, Market] = field(default_factory=dict)
    quotes: dict[str, RestingQuote] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)

    async def cycle(self, slot: datetime, markets: Sequence[Market], blocked: str) -> None:
        for market_id in _over(self.shown, markets, slot):
            self.sent.pop(market_id, None)
        self.markets = {} if blocked else {m.id: m for m in markets}
        await withdraw_quotes(self.execution, self.quotes, sorted(self.quotes.keys() - self.markets.keys()), slot)

    def watching(self, at: datetime) -> Sequence[str]:
        return sorted(self.markets)

    @property
    def worth(self) -> Worth | None:
        return None

    async def on_book(self, book: Book) -> None:
        market, at = self.markets.get(book.market_id), book.received_at
        if market is None or self.old(book) or self.execution.idle(at):
            return
        quote = self.quotes.get(market.id)
        if quote is not None and quote.order_id not in self.execution.working:
            quote = self.quotes.pop(market.id) and None
        view = await self.execution.look(market, book, at)
        intent = None if book_fault(book) else answer(self.strategy, view)
        if quote is not None:
            if same_quote(quote.intent, intent) or at - quote.since < self.pause:
                return
            await withdraw_quotes(self.execution, self.quotes, (market.id,), at)
        if intent is not None and market.id not in self.quotes:
            await self._post(intent, view)

    async def _post(self, intent: OrderIntent, view: View) -> None:
        market_id = view.market.id
        number = self.sent[market_id] = self.sent.get(market_id, -1) + 1
        # Compared by id instead of by the answer: an order whose answer never came is working, too, and must have a
        # quote.
        before = set(self.execution.working)
        await self.execution.act(intent, view, f"{self.strategy.name}:{market_id}:{view.at.isoformat()}", number)
        for order_id in self.execution.working.keys() - before:
            self.quotes[market_id] = RestingQuote(order_id, intent, view.at)


@dataclass(slots=True)
class Several:
    """Several traders on one execution, called in order."""

    traders: Sequence[Trader]

    async def cycle(self, slot: datetime, markets: Sequence[Market], blocked: str) -> None:
        for trader in self.traders:
            await trader.cycle(slot, markets, blocked)

    @property
    def worth(self) -> Worth | None:
        return None

    def watching(self, at: datetime) -> Sequence[str]:
        return sorted({m for trader in self.traders for m in trader.watching(at)})

    async def on_book(self, book: Book) -> None:
        for trader in self.traders:
            if book.market_id in trader.watching(book.received_at):
                await trader.on_book(book)
