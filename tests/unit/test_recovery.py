"""State that an earlier run leaves for the next: a strategy that trades a market once does not begin there again."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from agent.live.recovery import AccountHistory
from agent.trading.bus import LocalBus
from agent.trading.execution import Execution
from agent.trading.strategy_trader import StrategyTrader
from backtest.exchange import PaperExchange
from market.clock import ManualClock
from market.types import UNIT, Order, Outcome, Side, SignedOrder, TimeInForce
from storage.records import RunIdentity
from strategies.baselines import LateFavourite
from tests.fakes import START, after, book, levels, market, recorded, replay
from tests.stores import open_store


def order_of(strategy: str, number: int = 0) -> SignedOrder:
    order = Order(
        market(number).id, Outcome.YES, Side.BUY, Decimal("0.7"), 10 * UNIT, TimeInForce.FAK, START,
        f"{strategy}:{market(number).id}/0",
    )  # fmt: skip
    return SignedOrder(f"0x{strategy}{number}", order)


def test_markets_are_told_apart_by_who_traded_them() -> None:
    past = AccountHistory(
        UNIT,
        START,
        working=[order_of("late_favourite", 1)],
        ended=[order_of("late_favourite", 2), order_of("join_best", 3), order_of("late_favourite_too", 4)],
    )
    assert past.traded("late_favourite") == {market(1).id, market(2).id}
    assert past.traded("market_mid") == set()


def test_after_a_crash_no_second_order_follows_one_that_found_no_match(tmp_path: Path) -> None:
    """The first order of the market is over and left nothing behind that a holding would show."""
    at = after(850)
    favourite = book(at, bids=levels(("0.68", 100)), asks=levels(("0.70", 100)))

    async def sent(past: AccountHistory) -> int:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}") as store:
            run = await store.begin_run(RunIdentity(str(len(past.ended)), "c", "x", "m"), {}, START)
            venue = PaperExchange(replay(recorded(favourite)), ManualClock(at), cash=100 * UNIT, run=run.id)
            execution, rule = Execution(venue, store.log(run.id), LocalBus()), LateFavourite()
            trader = StrategyTrader(rule, execution, used=past.traded(rule.name))
            await trader.cycle(at, [market()], "")
            await trader.on_book(favourite)
            return len(await store.intents(run.id))

    assert asyncio.run(sent(AccountHistory(UNIT, START))) == 1
    assert asyncio.run(sent(AccountHistory(UNIT, START, ended=[order_of("late_favourite")]))) == 0
