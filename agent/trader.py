"""Who trades in a session: the agent with its cycles and hot path, or a plain strategy that looks at every book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.cycle import Decided, Ports, run_cycle
from agent.desk import Desk
from agent.gate import book_fault
from market.clock import monotonic
from market.types import Book, Market, OrderStatus
from strategies.base import Strategy
from strategies.belief import Belief
from strategies.edge import decide


@dataclass(frozen=True, slots=True)
class Standing:
    """A belief that may be acted on until its market closes, and the decision it belongs to."""

    market: Market
    belief: Belief
    decision_id: str


@dataclass(slots=True)
class AgentTrader:
    """Cycles at each slot; between slots every book change re-decides on the standing belief, without the model.

    At most one order per decision comes from the hot path. `ticks` are its milliseconds from book to signed order.
    """

    ports: Ports
    standing: dict[str, Standing] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    ticks: list[float] = field(default_factory=list)

    async def cycle(self, slot: datetime, markets: Sequence[Market], blocked: str) -> None:
        for market in markets:
            decided = await run_cycle(self.ports, market, slot, blocked)
            self.ports.memory.experience.decided(market.id, decided.thought)
            self._stand(market, decided)

    def _stand(self, market: Market, decided: Decided) -> None:
        self.standing.pop(market.id, None)
        belief = decided.thought.belief
        if belief is None or belief.shift == 0:
            return
        self.standing[market.id] = Standing(market, belief, decided.id)
        refused = decided.ack is not None and decided.ack.status is OrderStatus.REJECTED
        if decided.acted and not refused:
            self.used.add(decided.id)  # an order of unknown outcome counts: it may be live

    def watching(self, at: datetime) -> Sequence[str]:
        return sorted(m for m, s in self.standing.items() if s.belief.alive(at) and s.decision_id not in self.used)

    async def on_book(self, book: Book) -> None:
        """The hot path: a new book, a pure decision, an order."""
        begun = monotonic()
        standing = self.standing.get(book.market_id)
        if standing is None or standing.decision_id in self.used or book_fault(book) or self.ports.old(book):
            return
        desk, settings = self.ports.desk, self.ports.settings
        view = await desk.look(standing.market, book, book.received_at)
        wish, _ = decide(view, standing.belief, settings.rule, settings.sizing)
        if wish is None:
            return
        self.used.add(standing.decision_id)
        await desk.act(wish, view, standing.decision_id, 1)
        self.ticks.append((monotonic() - begun) * 1e3)


@dataclass(slots=True)
class StrategyTrader:
    """A baseline: one pure strategy shown every book change of every open market; one order a market at most."""

    strategy: Strategy
    desk: Desk
    markets: dict[str, Market] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    async def cycle(self, slot: datetime, markets: Sequence[Market], blocked: str) -> None:
        self.markets = {m.id: m for m in markets}

    def watching(self, at: datetime) -> Sequence[str]:
        return sorted(self.markets.keys() - self.used)

    async def on_book(self, book: Book) -> None:
        market = self.markets[book.market_id]
        if market.id in self.used or book_fault(book) or not market.opens_at <= book.received_at < market.closes_at:
            return
        view = await self.desk.look(market, book, book.received_at)
        wish = self.strategy.decide(view)
        if wish is not None:
            self.used.add(market.id)
            await self.desk.act(wish, view, f"{self.strategy.name}:{market.id}", 0)
