"""Status of the accounts by their log: halted or not, cash, positions, orders of unknown outcome.

Read from the store alone: it works while the agent runs, and while nothing is reachable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.live.recovery import AccountHistory, load_account_history
from market.types import Micro
from storage.log_reader import LogReader
from tools.halts import Halted
from tools.ledger import Ledger
from tools.limits import Results


@dataclass(frozen=True, slots=True)
class Position:
    """A position; `size` in micro-shares, `market` the slug where it is known."""

    market: str
    outcome: str
    size: Micro


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """Status of an account, in micro-dollars. `earned` are the settled results since the last review by a person,
    `today` those of the last day with one; `at_risk` is the cost of holdings and working orders."""

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


@dataclass(frozen=True, slots=True)
class TradingStatus:
    halted: Halted | None
    accounts: tuple[AccountStatus, ...]


async def status(store: LogReader, halted: Halted | None, looked_at: datetime) -> TradingStatus:
    """Accounts that a run has traded on, newest first."""
    newest: dict[str, tuple[str, bool]] = {}
    for run in await store.runs():
        if name := run.about.account:
            newest.pop(name, None)
            newest[name] = (run.id, not run.finished)
    found = []
    for name, (run_id, open_) in reversed(newest.items()):
        found.append(_account(name, run_id, open_, await load_account_history(store, name, run_id), looked_at))
    return TradingStatus(halted, tuple(found))


def _account(name: str, run_id: str, running: bool, past: AccountHistory, looked_at: datetime) -> AccountStatus:
    ledger = Ledger(past.cash, past.fills, past.settlements, past.transfers)
    before, results = past.exposure(looked_at), Results()
    for at, earned in before.earned:
        results.add(at, earned)
    slugs: Mapping[str, str] = {m: market.slug for m, market in past.markets.items()}
    held = [Position(slugs.get(m, m), outcome.value, size) for (m, outcome), size in sorted(ledger.holdings.items())]
    return AccountStatus(
        account=name,
        run=run_id,
        running=running,
        began=past.since,
        cash=ledger.cash,
        at_risk=sum(before.paid.values()) + sum(s.order.cost for s in past.working),
        earned=results.total,
        today=results.today,
        fills=len(past.fills),
        settled_markets=len({s.market_id for s in past.settlements}),
        working=len(past.working),
        positions=tuple(held),
    )
