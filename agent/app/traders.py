"""Traders by name: the agent, and the strategies that trade beside it."""

from __future__ import annotations

from agent.live.recovery import AccountHistory
from agent.trading.cycle import Ports
from agent.trading.loop import Trader
from agent.trading.strategy_trader import QuotingTrader, StrategyTrader
from strategies.base import Strategy
from strategies.baselines import LateFavourite, MarketMid
from strategies.quoting import JoinBest

BASELINES: tuple[Strategy, ...] = (MarketMid(), LateFavourite())
QUOTERS: tuple[Strategy, ...] = (JoinBest(),)
TRADERS = ("agent", *(s.name for s in (*BASELINES, *QUOTERS)))


def strategy_trader(name: str, ports: Ports, past: AccountHistory) -> Trader:
    """Trader of a strategy on a live account; one that trades a market once has done so where it had an order."""
    quoting = {s.name: s for s in QUOTERS}
    if name in quoting:
        return QuotingTrader(quoting[name], ports.execution, ports.old)
    strategy = {s.name: s for s in BASELINES}[name]
    used = past.traded(name) if strategy.once else set()
    return StrategyTrader(strategy, ports.execution, ports.old, used=used, prices=ports.memory.prices)
