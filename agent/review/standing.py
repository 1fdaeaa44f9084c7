"""Status of a run: exposure, last decision and missed slots. Read from its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.live.recovery import runs_of
from market.types import OVER, Micro
from storage.records import Record, RecordKind, Run
from storage.store import Store
from tools.ledger import PositionLedger


@dataclass(frozen=True, slots=True)
class Missed:
    """Slots in a row at which nothing was decided."""

    since: datetime
    until: datetime
    slots: int
    reason: str


@dataclass(frozen=True, slots=True)
class AccountOverview:
    """`exposure` is the cost of unsettled shares in `markets` plus that of `working` orders, in
    micro-dollars: of the whole account where the run has one. `state` is finished, running, or why it stopped."""

    state: str
    newest: datetime | None
    exposure: Micro
    markets: int
    working: int
    missed: Sequence[Missed]

    @property
    def slots_missed(self) -> int:
        return sum(m.slots for m in self.missed)


async def standing(store: Store, run: Run) -> AccountOverview:
    """Of a run with at least one record."""
    account = run.about.account
    runs = await runs_of(store, account) if account else [run]
    held = await _positions(store, runs)
    working = [i for r in runs for i in await store.intents(r.id) if i.status not in OVER]
    newest = await store.decisions(run.id, limit=1)
    # A stop counts only as the last record: whatever follows it is of a process that went on.
    last = await store.records(run.id, since=run.records - 1)
    return AccountOverview(
        state=_state(run, last),
        newest=newest[0].at if newest else None,
        exposure=held.total_cost + sum(i.order.cost for i in working),
        markets=len(held.costs),
        working=len(working),
        missed=[_missed(record.body) for record in await store.records(run.id, RecordKind.GAP)],
    )


async def _positions(store: Store, runs: Sequence[Run]) -> PositionLedger:
    fills = [fill for run in runs for fill in await store.fills(run.id)]
    return PositionLedger(fills, [s for run in runs for s in await store.settlements(run.id)])


def _state(run: Run, last: Sequence[Record]) -> str:
    if run.finished:
        return "finished"
    if last and last[-1].kind is RecordKind.STOP:
        return f"stopped: {last[-1].body['reason']}"
    return "running"


def _missed(body: Any) -> Missed:
    since, until = (datetime.fromisoformat(body[name]) for name in ("since", "until"))
    return Missed(since, until, int(body["slots"]), str(body["reason"]))
