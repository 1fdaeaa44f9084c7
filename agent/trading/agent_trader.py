"""The agent as a trader: its cycles at each slot, and the hot path between them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from agent.decision.gate import book_fault
from agent.llm.recorded import RecordingEngine
from agent.llm.together import Conversation
from agent.trading.cycle import SPAN, CommittedDecision, PendingDecision, Ports, conclude, consider, publish
from agent.trading.quotes import RestingQuote, same_quote, withdraw_quotes
from agent.trading.strategy_trader import _WAITING
from market.clock import monotonic
from market.feed import Worth
from market.types import Ack, Book, Market, OrderStatus
from strategies.base import OrderIntent
from strategies.belief import Belief
from strategies.edge import decide

_TURN = 16


@dataclass(frozen=True, slots=True)
class ActiveBelief:
    """A belief that may be traded on until its market closes, and the decision it comes from."""

    market: Market
    belief: Belief
    decision_id: str


@dataclass(slots=True)
class AgentTrader:
    """The agent as a trader: a decision cycle at each slot; between slots every book change re-decides on the active
    belief, without the model.

    At most one taking order per decision comes from the hot path. A resting order stays while the belief still asks for
    it, else it is cancelled and perhaps replaced, at most once in `pause` and `most` times a decision. `ticks` are
    milliseconds from book to signed order.
    """

    ports: Ports
    pause: timedelta = timedelta(seconds=2)
    most: int = 8
    standing: dict[str, ActiveBelief] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    quotes: dict[str, RestingQuote] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    ticks: list[float] = field(default_factory=list)

    async def cycle(self, slot: datetime, markets: Sequence[Market], blocked: str) -> None:
        await withdraw_quotes(self.ports.execution, self.quotes, list(self.quotes), slot)
        for market_id in [m for m, standing in self.standing.items() if standing.market.closes_at <= slot]:
            self._forget(market_id)
        if len(markets) > 1:
            await self.ports.memory.record_all(markets, slot, SPAN)
        made = []
        async with self.ports.execution.log.together():
            at_once = self.ports.together.at_once if self.ports.together is not None else 1
            for first in range(0, len(markets), at_once):
                group = markets[first : first + at_once]
                for market, considered in zip(group, await self._considered(group, slot, blocked), strict=True):
                    decided = await conclude(self.ports, considered)
                    self.ports.memory.learner.decided(market.id, decided.decision)
                    self._stand(market, decided)
                    made.append(decided)
                if len(made) % _TURN == 0:
                    await asyncio.sleep(0)  # a slot of many markets is long: let the event loop serve other tasks
        # Published after the block, when the whole slot has been committed to the log: observers never see a decision
        # that is not stored.
        for decided in made:
            publish(self.ports.bus, decided)

    async def _considered(self, group: Sequence[Market], slot: datetime, blocked: str) -> list[PendingDecision]:
        """A pending decision for each market; with several markets they are made concurrently."""
        together = self.ports.together
        if together is None:
            return [await consider(self.ports, market, slot, self._blocked(market, blocked)) for market in group]
        async with together.conversations(len(group)) as talks:
            made = [asyncio.create_task(self._beside(t, m, slot, blocked)) for t, m in zip(talks, group, strict=True)]
            try:
                return await asyncio.gather(*made)  # the first error as it is: a halt must be seen as one
            finally:
                for task in made:
                    task.cancel()
                await asyncio.gather(*made, return_exceptions=True)

    async def _beside(self, talk: Conversation, market: Market, slot: datetime, blocked: str) -> PendingDecision:
        try:
            ports = replace(self.ports, engine=RecordingEngine(talk))
            return await consider(ports, market, slot, self._blocked(market, blocked))
        finally:
            talk.leave()

    def _blocked(self, market: Market, blocked: str) -> str:
        """Reason not to order in a market: an old quote whose end is not known yet may still be there, and a second
        order beside it would be a second position."""
        return blocked or ("order_unaccounted" if market.id in self.quotes else "")

    def _forget(self, market_id: str) -> None:
        """Drop a market's active belief and the state of its orders."""
        if (standing := self.standing.pop(market_id, None)) is not None:
            self.used.discard(standing.decision_id)
            self.sent.pop(standing.decision_id, None)

    def _stand(self, market: Market, decided: CommittedDecision) -> None:
        self._forget(market.id)
        belief = decided.decision.belief
        if belief is None or belief.shift == 0:
            return
        self.standing[market.id] = ActiveBelief(market, belief, decided.id)
        # The venue took nothing, so the belief keeps its one order for the hot path.
        refused = decided.ack is not None and decided.ack.status is OrderStatus.REJECTED
        if decided.acted and not refused:
            self._acted(market.id, decided.id, decided.decision.intent, decided.ack, decided.decision.inputs.as_of)

    def _acted(
        self, market_id: str, decision_id: str, intent: OrderIntent | None, ack: Ack | None, at: datetime
    ) -> None:
        """Record an order of the belief. A resting order may be followed by others; any other uses its decision up, and
        so does one of unknown outcome: it may be live."""
        waits = intent is not None and intent.post_only and ack is not None and ack.status in _WAITING
        if waits and intent is not None and ack is not None:
            self.quotes[market_id] = RestingQuote(ack.order_id, intent, at)
        else:
            self.used.add(decision_id)

    def watching(self, at: datetime) -> Sequence[str]:
        return sorted(m for m, s in self.standing.items() if s.belief.alive(at) and s.decision_id not in self.used)

    @property
    def worth(self) -> Worth | None:
        return None

    async def on_book(self, book: Book) -> None:
        """Hot path: from a new book by a pure decision to an order."""
        begun = monotonic()
        standing = self.standing.get(book.market_id)
        if standing is None or standing.decision_id in self.used or book_fault(book) or self.ports.old(book):
            return
        at, execution, settings = book.received_at, self.ports.execution, self.ports.settings
        if execution.idle(at):
            return
        quote = self._standing_quote(standing)
        if standing.decision_id in self.used or (quote is not None and at - quote.since < self.pause):
            return
        view = await execution.look(standing.market, book, at)
        if quote is not None:  # as if it were not there: its own reservation must not argue against it
            promised = execution.working[quote.order_id].cost
            view = replace(view, cash=view.cash + promised, at_risk=view.at_risk - promised)
        intent, _ = decide(view, standing.belief, settings.rule, settings.sizing)
        if quote is not None:
            if same_quote(quote.intent, intent):
                return
            await withdraw_quotes(execution, self.quotes, (book.market_id,), at)
            return  # its cash is released by the next book, which decides again
        if intent is None:
            return
        number = self.sent[standing.decision_id] = self.sent.get(standing.decision_id, 0) + 1
        ack = await execution.act(intent, view, standing.decision_id, number)
        self.ticks.append((monotonic() - begun) * 1e3)
        self._acted(book.market_id, standing.decision_id, intent, ack, at)
        if number >= self.most:
            self.used.add(standing.decision_id)

    def _standing_quote(self, standing: ActiveBelief) -> RestingQuote | None:
        """The resting order of a belief, or None; one that has ended by filling has used its decision up."""
        quote = self.quotes.get(standing.market.id)
        if quote is not None and quote.order_id not in self.ports.execution.working:
            del self.quotes[standing.market.id]
            self.used.add(standing.decision_id)
        return self.quotes.get(standing.market.id)
