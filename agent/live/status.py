"""Status of the accounts by their log: halted or not, cash, positions, orders of unknown outcome.

Read from the store alone: it works while the agent runs, and while nothing is reachable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agent.live.recovery import AccountHistory, load_account_history
from market.types import Micro, micro
from storage.log_reader import LogReader
from storage.records import Run
from tools.halts import Halted, KillSwitch
from tools.ledger import Ledger
from tools.limits import LossLimits, RiskLimits

_NEVER = 2**63
_UNKNOWN = RiskLimits(order=0, market=0, loss=_NEVER, open_orders=0, together=0, day=_NEVER, drawdown=_NEVER)


@dataclass(frozen=True, slots=True)
class Position:
    """A position; `size` in micro-shares, `market` the slug where it is known."""

    market: str
    outcome: str
    size: Micro


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """Status of an account, in micro-dollars. `earned` are the realised results since the loss limits were last reset,
    `today` those of the last day with one; `at_risk` is the cost of holdings and working orders. `breach` is the loss
    limit that is reached, or empty; `active` says whether the account is, or was last, traded on."""

    account: str
    run: str
    running: bool
    began: datetime
    cash: Micro
    at_risk: Micro
    earned: Micro
    today: Micro
    fills: int
    settled_markets: int
    working: int
    positions: tuple[Position, ...]
    breach: str = ""
    active: bool = True


@dataclass(frozen=True, slots=True)
class TradingStatus:
    halted: Halted | None
    accounts: tuple[AccountStatus, ...]


async def status(store: LogReader, switch: KillSwitch, now: datetime) -> TradingStatus:
    """Accounts that a run has traded on, newest first. Loss limits are those that an account's newest run was
    configured with."""
    newest: dict[str, Run] = {}
    for run in await store.runs():
        if name := run.about.account:
            newest.pop(name, None)
            newest[name] = run
    found = []
    for number, (name, run) in enumerate(reversed(newest.items())):
        past = await load_account_history(store, name, run.id)
        losses = LossLimits(_limits(run), past.exposure().positions(), switch.resumes())
        found.append(_account(name, run, past, losses, now, active=number == 0 or not run.finished))
    return TradingStatus(switch.read(), tuple(found))


def _limits(run: Run) -> RiskLimits:
    """Loss limits by the run's manifest; none are known of a run that does not say."""
    scope: Any = run.about.config
    try:
        risk = scope["config"]["risk"]
        # Under another name in 0.1.0.
        day = risk["daily_loss"] if "daily_loss" in risk else risk["day"]
        return replace(_UNKNOWN, loss=micro(risk["loss"]), day=micro(day), drawdown=micro(risk["drawdown"]))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return _UNKNOWN


def _account(
    name: str, run: Run, past: AccountHistory, losses: LossLimits, now: datetime, *, active: bool
) -> AccountStatus:
    ledger, results = Ledger(past.cash, past.fills, past.settlements, past.transfers), losses.results()
    slugs: Mapping[str, str] = {m: market.slug for m, market in past.markets.items()}
    held = [Position(slugs.get(m, m), outcome.value, size) for (m, outcome), size in sorted(ledger.holdings.items())]
    return AccountStatus(
        account=name,
        run=run.id,
        running=not run.finished,
        began=past.since,
        cash=ledger.cash,
        at_risk=past.exposure().positions().total_cost + sum(s.order.cost for s in past.working),
        earned=results.total,
        today=results.today,
        fills=len(past.fills),
        settled_markets=len({s.market_id for s in past.settlements}),
        working=len(past.working),
        positions=tuple(held),
        breach=losses.breach(now.date()),
        active=active,
    )
