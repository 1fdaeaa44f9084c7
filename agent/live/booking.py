"""Booking by hand: cash that moved beside trading and that the venue's activity does not explain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.live.recovery import runs_of
from market.errors import Misconfigured, NotReady
from market.types import Micro, Transfer, TransferKind
from storage.records import Run
from storage.store import Store

_PAPER = "paper at "


@dataclass(frozen=True, slots=True)
class BookedTransfer:
    """A transfer that was written to the log of an account's run."""

    account: str
    run: str
    transfer: Transfer


async def book_transfer(store: Store, account: str, amount: Micro, reason: str, at: datetime) -> BookedTransfer:
    """Write cash that came, or went if negative, to the log of an account; of the only one where none is named. Raises
    Misconfigured, and NotReady while an agent trades the account or where no run of it goes on."""
    named = account or await _only_account(store)
    async with store.leased(named, at) as lease:
        run = await _unfinished(store, named)
        log = store.log(run.id, lease)
        await log.go_on()
        made = Transfer(id=f"booked/{log.length}", kind=TransferKind.BOOKED, amount=amount, at=at, why=reason)
        await log.transfer(made)
        return BookedTransfer(named, run.id, made)


async def _only_account(store: Store) -> str:
    names = sorted({r.about.account for r in await store.runs()} - {""})
    found = [name for name in names if not name.startswith(_PAPER)]
    if not found:
        raise NotReady("No account has traded at the venue yet.", next_step="See: edgeclaw status")
    if len(found) > 1:
        raise Misconfigured(f"There are several accounts: {', '.join(found)}.", next_step="Name one with --account.")
    return found[0]


async def _unfinished(store: Store, account: str) -> Run:
    runs = [r for r in await runs_of(store, account) if not r.finished]
    if not runs:
        raise NotReady(
            f"No run of {account} goes on that this could be written to.",
            next_step="Start the agent; where its account differs it says so, and stops.",
        )
    return runs[-1]
