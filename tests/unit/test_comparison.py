"""Agreement of the venue's account with ours: a difference that passes is none, and one that stays is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from agent.live.comparison import BETWEEN, DIFFERS, UNTIL_PAID, AccountComparison
from agent.trading.inhibit import Inhibitor
from market.clock import ManualClock
from market.errors import LedgerMismatch, VenueUnavailable
from market.types import UNIT, Outcome, PayoutSource, Settlement, Transfer, TransferKind
from tests.fakes import START

OWED = {("m", Outcome.YES): Settlement("m", Outcome.YES, UNIT, Decimal(1), PayoutSource.OFFICIAL, START)}
GAP = "dollars: the venue holds 23 where the records say 0"
STRANGE = "the order 0xabc of this account is not of this log"


@dataclass
class Venue:
    """An account that answers what it is told to; the last of what it `says` is said from then on. None is silence."""

    says: Sequence[str | None]
    paid_after: int = 0
    strange_from: int = 10**6
    moved: list[Transfer] = field(default_factory=list)
    booked: list[Transfer] = field(default_factory=list)
    looks: int = 0

    async def meet_others(self) -> None: ...

    def foreign(self) -> Mapping[str, str]:
        return {"0xabc": STRANGE} if self.looks >= self.strange_from else {}

    async def transfers(self) -> Sequence[Transfer]:
        return [t for t in self.moved if t not in self.booked]

    def receive(self, transfer: Transfer) -> None:
        self.booked.append(transfer)

    async def audit(self) -> str:
        self.looks += 1
        said = self.says[min(self.looks, len(self.says)) - 1]
        if said is None:
            raise VenueUnavailable("no answer")
        return said

    def waits(self, now: datetime) -> Sequence[str]:
        return ()

    def unpaid(self) -> Mapping[tuple[str, Outcome], Settlement]:
        return OWED if self.looks < self.paid_after else {}


@dataclass
class Desk:
    """What the comparison needs of an execution."""

    inhibitor: Inhibitor = field(default_factory=Inhibitor)
    halted: str = ""
    received: list[Transfer] = field(default_factory=list)

    async def reconcile(self, at: datetime) -> None: ...

    async def receive(self, transfer: Transfer) -> None:
        self.received.append(transfer)

    def halt(self, reason: str) -> None:
        self.halted = reason

    def doubt(self, reason: str) -> None:
        self.inhibitor.account = reason


class NothingLate:
    async def settle(self) -> None: ...

    def remarks(self) -> Sequence[str]:
        return ()


def comparison(venue: Venue, desk: Desk | None = None, clock: ManualClock | None = None) -> AccountComparison:
    desk = desk or Desk()
    clock = clock or ManualClock(START)
    return AccountComparison(
        account=venue,
        execution=desk,
        clock=clock,
        halt=desk.halt,
        doubt=desk.doubt,
        late=NothingLate(),
        close_books=desk.reconcile,
    )


def looked(says: Sequence[str], paid_after: int = 0) -> tuple[str, int, timedelta]:
    """The result at the end of a run, the number of looks and the time they took."""
    clock, venue = ManualClock(START), Venue(says, paid_after)
    return asyncio.run(comparison(venue, clock=clock).conclude()), venue.looks, clock.now() - START


def watched(venue: Venue, slots: int = 1) -> tuple[AccountComparison, Desk, ManualClock]:
    """The comparison after some slots of five minutes."""
    desk, clock = Desk(), ManualClock(START)
    made = comparison(venue, desk, clock)
    every = timedelta(minutes=5)
    asyncio.run(made.watch([(START + n * every, START + (n + 1) * every) for n in range(slots)]))
    return made, desk, clock


def test_accounts_that_agree_are_looked_at_once() -> None:
    assert looked([""]) == ("", 1, timedelta(0))


def test_a_difference_that_stays_is_told() -> None:
    assert looked([GAP]) == (GAP, DIFFERS, (DIFFERS - 1) * BETWEEN)


def test_winnings_that_come_in_the_middle_of_a_late_look_are_no_difference() -> None:
    """As the venue pays between the question for the shares and the one for the dollars, ten minutes on."""
    assert looked([*[""] * 60, GAP, ""], paid_after=62) == ("", 62, 61 * BETWEEN)


def test_winnings_that_never_come_are_waited_for_so_long() -> None:
    assert looked([""], paid_after=10_000)[:2] == ("", UNTIL_PAID)


def test_a_difference_that_stays_halts_within_five_minutes_of_the_slot_and_opens_nothing_before() -> None:
    made, desk, clock = watched(Venue([GAP]))
    assert GAP in desk.halted and "edgeclaw wallet book" in desk.halted
    assert clock.now() - START <= timedelta(seconds=30) + DIFFERS * BETWEEN
    assert desk.inhibitor.reason(clock.now()) == "account_differs"
    assert any(GAP in said for said in made.remarks())


def test_a_difference_that_passes_is_counted_and_inhibits_no_longer() -> None:
    made, desk, clock = watched(Venue([*[GAP] * 6, ""]))
    assert not desk.halted and not desk.inhibitor.reason(clock.now())
    assert made.incidents.counts()["differed"] == 1 and made.agreed_at == clock.now()


def test_a_venue_that_does_not_answer_is_said_and_halts_nothing() -> None:
    made, desk, _ = watched(Venue([None]), slots=3)
    assert not desk.halted and made.incidents.counts()["unread"] == 3
    assert "could not be compared" in made.remarks()[0]


def test_what_is_not_ours_halts_at_once_and_once() -> None:
    made, desk, clock = watched(Venue([""], strange_from=1))
    assert STRANGE in desk.halted and clock.now() - START == timedelta(seconds=30)
    desk.halted = ""  # its owner has looked
    asyncio.run(made.watch([(clock.now(), clock.now() + timedelta(minutes=5))]))
    assert not desk.halted


def test_what_is_not_ours_is_seen_while_halted_and_halts_after_the_resume() -> None:
    made, desk, clock = watched(Venue(["", None], strange_from=2))
    desk.halted = "by hand"
    asyncio.run(made.watch([(clock.now(), clock.now() + timedelta(minutes=5))]))
    assert desk.halted == "by hand"
    desk.halted = ""
    asyncio.run(made.watch([(clock.now(), clock.now() + timedelta(minutes=5))]))
    assert STRANGE in desk.halted, "although the venue does not answer any more"


def test_nothing_begins_beside_another_program() -> None:
    with pytest.raises(LedgerMismatch, match=STRANGE):
        asyncio.run(comparison(Venue([""], strange_from=0)).begin())


def test_cash_that_moved_is_logged_before_it_is_booked_and_once() -> None:
    deposit = Transfer("deposit/0x1/0", TransferKind.DEPOSIT, 5 * UNIT, START, "0x1")
    venue = Venue([""], moved=[deposit])
    _, desk, _ = watched(venue, slots=2)
    assert desk.received == venue.booked == [deposit]


@given(st.lists(st.sampled_from(["", GAP]), max_size=60), st.integers(0, 200))
def test_what_agrees_in_the_end_is_not_told_and_what_differs_is(said: list[str], paid_after: int) -> None:
    runs = "".join("x" if s else "." for s in said)
    agrees, _, _ = looked([*said, ""], paid_after)
    assert (agrees == "") is ("x" * DIFFERS not in runs)
    differs, _, _ = looked([*said, GAP], 0)
    assert (differs == GAP) is (not said or (runs[0] == "x" and "." not in runs))
