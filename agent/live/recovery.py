"""Recovery: a live account's cash, positions and orders of unknown outcome, read back from the log of its runs.

A run that was stopped for any reason continues from here: every start is a recovery. Independent of the venue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from market.clock import EPOCH
from market.types import OVER, Ack, Fill, Market, Micro, Resolution, Settlement, SignedOrder, Transfer
from storage.log_reader import LogReader
from storage.projections import RecordedOrder, ack_of, resolution_of
from storage.records import RecordKind, Run
from strategies.base import View
from tools.ledger import PositionLedger
from tools.limits import Exposure

_VIEW: TypeAdapter[View] = TypeAdapter(View)
_TAIL = timedelta(days=1)
"""Age, relative to the newest order, up to which the trades of a finished order may still change."""


@dataclass(frozen=True, slots=True)
class AccountHistory:
    """History of an account. `cash` is its balance in micro-dollars when its first run began at `since`. `markets` are
    those with orders, except markets settled long ago; `unsettled` those whose shares have not become dollars; `ended`
    are their newest finished orders, whose trades may yet become known or fail; `told` are the outcomes already logged
    by the run that continues; until `reviewed_at`, when its owner has last looked, what is not ours is the owner's."""

    cash: Micro
    since: datetime
    fills: Sequence[Fill] = ()
    settlements: Sequence[Settlement] = ()
    working: Sequence[SignedOrder] = ()
    ended: Sequence[SignedOrder] = ()
    markets: Mapping[str, Market] = field(default_factory=dict)
    told: Mapping[str, Resolution] = field(default_factory=dict)
    transfers: Sequence[Transfer] = ()
    reviewed_at: datetime = EPOCH

    @property
    def unsettled(self) -> dict[str, Market]:
        """Markets whose shares, or some of them, have not become dollars. A process that died between the settlements
        of a market's two outcomes leaves the second to the next one."""
        settled = {(s.market_id, s.outcome) for s in self.settlements}
        half = {key[0] for key in PositionLedger(self.fills).holdings if key not in settled}
        done = {s.market_id for s in self.settlements} - half
        touched = {f.market_id for f in self.fills} | {s.order.market_id for s in (*self.working, *self.ended)}
        return {m: self.markets[m] for m in sorted(touched - done) if m in self.markets}

    def traded(self, strategy: str) -> set[str]:
        """Unsettled markets in which a strategy has had an order: one that trades a market once is done there."""
        orders = (s.order for s in (*self.working, *self.ended))
        return {o.market_id for o in orders if o.key.startswith(f"{strategy}:")}

    def exposure(self) -> Exposure:
        """Starting state of the risk limits."""
        return Exposure({s.id: s.order for s in self.working}, self.fills, self.settlements)


async def runs_of(store: LogReader, account: str) -> list[Run]:
    """Runs of an account, oldest first."""
    return [r for r in await store.runs() if r.about.account == account]


async def load_account_history(store: LogReader, account: str, present: str) -> AccountHistory:
    """The account's history over all its runs; `present` is the run that continues."""
    runs = await runs_of(store, account)
    fills, settlements, orders, acks = [], [], list[RecordedOrder](), list[Ack]()
    transfers: list[Transfer] = []
    for run in runs:
        fills += await store.fills(run.id)
        settlements += await store.settlements(run.id)
        transfers += await store.transfers(run.id)
        orders += [RecordedOrder.of(r) for r in await store.records(run.id, RecordKind.INTENT)]
        acks += [ack_of(r.body) for r in await store.records(run.id, RecordKind.ACK)]
    over = {a.order_id for a in acks if a.status in OVER}
    signed = [o.signed for o in orders]
    settled = {s.market_id for s in settlements}
    seen_in = {o.signed.order.market_id: o for o in orders}
    needed = seen_in.keys() - settled
    last = max((s.at for s in settlements), default=runs[0].started_at)
    # Winnings of the last day may not have been paid yet, and a redemption needs their markets.
    perhaps_unpaid = {s.market_id for s in settlements if s.cash and s.at > last - _TAIL}
    newest = max((s.order.placed_at for s in signed), default=runs[0].started_at)
    told = await store.records(present, RecordKind.OUTCOME)
    return AccountHistory(
        cash=runs[0].about.initial_cash,
        since=runs[0].started_at,
        fills=fills,
        settlements=settlements,
        transfers=transfers,
        working=[s for s in signed if s.id not in over],
        ended=[
            s for s in signed if s.id in over and s.order.market_id in needed and s.order.placed_at > newest - _TAIL
        ],
        markets=await _markets(store, {m: i for m, i in seen_in.items() if m in needed or m in perhaps_unpaid}),
        told={(r := resolution_of(o.body)).market_id: r for o in told},
    )


async def _markets(store: LogReader, orders: Mapping[str, RecordedOrder]) -> dict[str, Market]:
    """Each market as recorded in the view of an order's intent."""
    hashes = {market_id: order.view for market_id, order in orders.items()}
    views = await store.objects(list(hashes.values()))
    found: dict[str, Market] = {}
    for market_id, name in hashes.items():
        kept: Any = views.get(name)
        if kept is not None:
            found[market_id] = _VIEW.validate_python(json.loads(kept.text)).market
    return found
