"""A baseline's trader: one order a market whatever is listed when, and nothing kept of a market that is over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from agent.trading.bus import LocalBus
from agent.trading.execution import Execution
from agent.trading.strategy_trader import QuotingTrader, StrategyTrader
from backtest.exchange import PaperExchange
from market.clock import ManualClock
from market.types import UNIT, Outcome, Side
from storage.records import RunIdentity
from storage.store import Store
from strategies.base import OrderIntent, View
from strategies.quoting import JoinBest
from tests.fakes import START, after, book, market, recorded, replay
from tests.stores import open_store

EVERY = 100
SLOTS = 900 // EVERY
BOOKS = tuple(book(after(EVERY * n + 1)) for n in range(SLOTS))


@dataclass(frozen=True)
class Eager:
    """Wants the market at every look, whatever it holds, and counts the looks."""

    name: str = "eager"
    once: bool = True
    looks: list[View] = field(default_factory=list)

    def decide(self, view: View) -> OrderIntent | None:
        self.looks.append(view)
        return OrderIntent(Outcome.YES, Side.BUY, Decimal("0.51"), 5 * UNIT, "always")


async def desk_at(store: Store, clock: ManualClock) -> Execution:
    run = await store.begin_run(RunIdentity("d", "c", "x", "m"), {}, START)
    exchange = PaperExchange(replay(recorded(*BOOKS)), clock, cash=1000 * UNIT, run=run.id)
    return Execution(exchange, store.log(run.id), LocalBus())


@given(listed=st.lists(st.booleans(), min_size=SLOTS, max_size=SLOTS))
@example(listed=[True, False, True, True, False, True, True, True, True])
def test_a_market_that_is_listed_now_and_then_gets_one_order(listed: list[bool]) -> None:
    eager = Eager()

    async def scenario() -> tuple[int, int, StrategyTrader]:
        clock = ManualClock(START)
        async with open_store("sqlite://") as store:
            execution = await desk_at(store, clock)
            trader = StrategyTrader(eager, execution)
            for n, there in enumerate(listed):
                await clock.wait_until(after(EVERY * n))
                await trader.cycle(clock.now(), [market()] if there else [], "")
                await clock.wait_until(BOOKS[n].received_at)
                await execution.reconcile(clock.now())
                for _ in trader.watching(clock.now()):
                    await trader.on_book(BOOKS[n])
            await trader.cycle(market().closes_at, [], "")
            orders = sum([len(await store.intents(run.id)) for run in await store.runs()])
            return orders, sum((await execution.account()).holdings.values()), trader

    orders, held, trader = asyncio.run(scenario())
    assert len(eager.looks) == orders == any(listed) and held <= 5 * UNIT
    assert not (trader.used or trader.held or trader.sent or trader.looked or trader.shown)


def test_a_trader_that_quotes_keeps_nothing_of_a_market_that_is_over() -> None:
    async def scenario() -> None:
        clock = ManualClock(START)
        async with open_store("sqlite://") as store:
            trader = QuotingTrader(JoinBest(), await desk_at(store, clock))
            await trader.cycle(START, [market()], "")
            await clock.wait_until(BOOKS[0].received_at)
            await trader.on_book(BOOKS[0])
            assert trader.sent
            await trader.cycle(after(EVERY), [], "")
            assert trader.sent, "the market is open, and may be listed again"
            await trader.cycle(market().closes_at, [], "")
            assert not (trader.sent or trader.shown or trader.quotes)

    asyncio.run(scenario())
