"""Look-ahead test: replays that end before later data must place the same orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from agent.app.backtests import Backtested, BacktestPlan, once
from market.errors import StrategyFailed
from market.types import Order
from storage.store import Store

_CUTS = 12
"""Instants at which each strategy's replay is truncated."""


async def leaks(plan: BacktestPlan, done: Backtested, store: Store, stage: Callable[[str], None]) -> list[str]:
    """A sentence for each strategy whose orders up to some instant differ once the data end there; empty if none does.
    Each is truncated at up to a dozen of its own orders, first and last included."""
    found = []
    for name, run in done.runs.items():
        whole = sorted((i.order for i in await store.intents(run.id)), key=_turn)
        stage(f"looking for look-ahead: {name}")
        for at in _instants(whole):
            if (said := await _differs(plan, done, name, at, whole)) is not None:
                found.append(said)
                break
    return found


async def _differs(plan: BacktestPlan, done: Backtested, name: str, at: datetime, whole: Sequence[Order]) -> str | None:
    try:
        async with once(plan, name, done.feed.truncated(at)) as (store, run):
            again = [i.order for i in await store.intents(run.id)]
    except StrategyFailed as error:
        return f"{name} fails once the data end at {at.isoformat()}: {error}"
    short = sorted((o for o in again if o.placed_at <= at), key=_turn)
    known = [o for o in whole if o.placed_at <= at]
    if short == known:
        return None
    first = next((o for o, n in zip(known, short, strict=False) if o != n), (known + short)[-1])
    return (
        f"{name} looks ahead: with data up to {at.isoformat()} it places {len(short)} orders until then, with all data "
        f"{len(known)}; they differ from {first.placed_at.isoformat()} on."
    )


def _turn(order: Order) -> tuple[datetime, str]:
    return order.placed_at, order.key


def _instants(orders: Sequence[Order]) -> list[datetime]:
    """Up to `_CUTS` instants of orders, evenly spread."""
    at = sorted({o.placed_at for o in orders})
    if len(at) <= _CUTS:
        return at
    return [at[round(n * (len(at) - 1) / (_CUTS - 1))] for n in range(_CUTS)]
