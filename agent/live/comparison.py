"""Comparison of an account at the venue with ours, at every slot: cash that moved beside trading is booked, a
difference that stays stops trading, and so does an order or a trade that is not ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from agent.live.preflight import patiently
from market.clock import Clock
from market.errors import LedgerMismatch, Refused, VenueUnavailable
from market.incidents import Incidents
from market.types import Outcome, Settlement, Transfer

BETWEEN = timedelta(seconds=10)
"""Time between two comparisons while the accounts differ."""
DIFFERS, UNTIL_PAID = 30, 120
"""Consecutive comparisons at which the accounts must differ, and those for winnings at the end of a run."""
_DOUBTED = 3
"""Consecutive comparisons that differ, after which nothing is opened until they agree."""
_AFTER_SLOT = timedelta(seconds=30)
"""Time after a slot, or half of the time to the next if that is less: its orders have met the venue by then."""
_REVIEW = "Stop it; if it was you: edgeclaw resume --reason TEXT, and it is left to you."
_BOOK = "See edgeclaw wallet status. If you know why, stop the agent, edgeclaw wallet book --help, and resume."
_TROUBLE = {
    "unread": "The account could not be compared with the venue's",
    "unwitnessed": "The chain could not be asked about late trades",
    "differed": "The account differed from the venue's for a moment",
}


class ComparedAccount(Protocol):
    """An account at the venue, as it is compared. Every request raises VenueUnavailable."""

    async def meet_others(self) -> None:
        """Look for what is not ours among open orders and recent trades."""
        ...

    def foreign(self) -> Mapping[str, str]:
        """A sentence on each order and trade of the account that is not of this log, by its id."""
        ...

    async def transfers(self) -> Sequence[Transfer]:
        """Cash that moved beside trading and is not booked."""
        ...

    def receive(self, transfer: Transfer) -> None:
        """Book a transfer."""
        ...

    async def audit(self) -> str:
        """Difference of the accounts as a sentence, or an empty string."""
        ...

    def waits(self, now: datetime) -> Sequence[str]:
        """A sentence on each order without an answer, and each closed market that is held and not decided."""
        ...

    def unpaid(self) -> Mapping[tuple[str, Outcome], Settlement]:
        """Winnings still to come."""
        ...


class LateSettlement(Protocol):
    """Another witness of trades that the venue does not call final."""

    async def settle(self) -> None:
        """End those of which it knows. Raises VenueUnavailable."""
        ...

    def remarks(self) -> Sequence[str]:
        """A sentence on each late trade."""
        ...


class AccountLog(Protocol):
    """The execution of the account, as far as a comparison needs it: `halted` says why trading has stopped."""

    halted: str

    async def receive(self, transfer: Transfer) -> None: ...


@dataclass(slots=True)
class AccountComparison:
    """Comparison of one account. `halt` stops trading until a person has looked, `doubt` inhibits it for a reason code
    until that is empty. `late` settles late trades and `close_books` what has become known, before each comparison.
    `agreed_at` is the instant of the last agreement; `differs` describes the present difference, or is empty, and
    `differing` counts the comparisons in a row that differed. `told` and `logged`: what is not ours, and transfers."""

    account: ComparedAccount
    execution: AccountLog
    clock: Clock
    halt: Callable[[str], None]
    doubt: Callable[[str], None]
    late: LateSettlement
    close_books: Callable[[datetime], Awaitable[object]]
    agreed_at: datetime | None = None
    differs: str = ""
    differing: int = 0
    told: set[str] = field(default_factory=set)
    logged: set[str] = field(default_factory=set)
    incidents: Incidents = field(default_factory=lambda: Incidents(_TROUBLE))

    async def begin(self) -> None:
        """Look for another program on the account before the first request that moves anything. Raises LedgerMismatch,
        VenueUnavailable."""
        await self.account.meet_others()
        if found := self._foreign():
            raise LedgerMismatch(found, next_step=_REVIEW)

    async def watch(self, slots: Iterable[tuple[datetime, datetime]]) -> None:
        """Compare after each slot, until cancelled; a slot comes with its end."""
        for slot, following in slots:
            if following <= self.clock.now():
                continue  # over: the machine slept, or the accounts differed for long
            await self.clock.wait_until(slot + min(_AFTER_SLOT, (following - slot) / 2))
            await self._compare_slot()

    async def _compare_slot(self) -> None:
        """Compare until the accounts agree or the difference has persisted: one comparison makes several requests, and
        trades and winnings come in between. Silence of the venue is neither: it is waited for while they differ."""
        for _ in range(DIFFERS):
            if not await self._looked():
                return
            if self.differing >= DIFFERS and not self.execution.halted:
                self.halt(f"The account differs from the venue's: {self.differs}. {_BOOK}")
                return
            await self.clock.wait_until(self.clock.now() + BETWEEN)

    async def _looked(self) -> bool:
        """Compare once; True if the accounts differ, or did when the venue last answered."""
        try:
            await self.compare()
        except VenueUnavailable as error:
            self.incidents.note("unread", error)
            return bool(self.differs)
        finally:
            self._halt_beside_others()
        self.differing = self.differing + 1 if self.differs else 0
        self.doubt("account_differs" if self.differing > _DOUBTED else "")
        return bool(self.differs)

    def _halt_beside_others(self) -> None:
        """Halt where something is not ours. While trading is halted it stays untold, and halts after the resume."""
        if not self.execution.halted and (found := self._foreign()):
            self.halt(f"{found} {_REVIEW}")

    async def conclude(self) -> str:
        """Difference once nothing is in flight any more, or an empty string. Winnings still to come are waited for.
        Raises VenueUnavailable."""
        looks, differing = 0, 0
        while looks == 0 or 0 < differing < DIFFERS or (not differing and self.account.unpaid() and looks < UNTIL_PAID):
            if looks:
                await self.clock.wait_until(self.clock.now() + BETWEEN)
            await patiently(self.compare)
            looks, differing = looks + 1, differing + 1 if self.differs else 0
        return "; ".join([said for said in (self.differs, self._foreign().rstrip(".")) if said])

    async def compare(self) -> None:
        """Compare once. Raises VenueUnavailable."""
        await self.close_books(self.clock.now())
        for transfer in await self.account.transfers():
            if transfer.id not in self.logged:  # a cancelled caller has it written all the same
                self.logged.add(transfer.id)
                await self.execution.receive(transfer)
            self.account.receive(transfer)
        try:
            await self.late.settle()
        except (VenueUnavailable, Refused) as error:
            self.incidents.note("unwitnessed", error)
        found = await self.account.audit()
        if found and not self.differs:
            self.incidents.note("differed", found)
        self.differs = found
        self.incidents.counted["compared"] += 1
        if not found:
            self.incidents.counted["agreed"] += 1
            self.agreed_at = self.clock.now()

    def _foreign(self) -> str:
        """A sentence on what is not ours and was not told before, or an empty string."""
        fresh = {name: said for name, said in self.account.foreign().items() if name not in self.told}
        self.told |= fresh.keys()
        if not fresh:
            return ""
        more = f" and {len(fresh) - 1} more" if len(fresh) > 1 else ""
        return f"Another program, or a person, trades on this account: {next(iter(fresh.values()))}{more}."

    def remarks(self) -> list[str]:
        """Sentences on what differs and what is waited for."""
        since = "" if self.agreed_at is None else f" (they agreed at {self.agreed_at:%H:%M:%S} UTC)"
        differs = [f"The account differs from the venue's{since}: {self.differs}."] if self.differs else []
        waits = (*self.account.waits(self.clock.now()), *self.late.remarks())
        return [*differs, *waits, *self.incidents.recent()]
