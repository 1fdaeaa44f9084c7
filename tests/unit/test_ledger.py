"""Simulated money: never owed, and the past counts by what it came to."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import LedgerMismatch
from market.types import UNIT, Fill, FillEvidence, Outcome, PayoutSource, Settlement, Side
from tests.fakes import START
from tools.ledger import Ledger


def bought(number: int, *, dollars: int, market: str = "0x0") -> Fill:
    """Shares at 50 cents for so many dollars."""
    return Fill(
        f"{number}", f"o{number}", market, Outcome.YES, Side.BUY, Decimal("0.5"), 2 * dollars * UNIT, 0,
        START + timedelta(seconds=number), FillEvidence.VENUE,
    )  # fmt: skip


def won(size: int, *, market: str = "0x0", payout: int = 1) -> Settlement:
    return Settlement(market, Outcome.YES, size * UNIT, Decimal(payout), PayoutSource.OFFICIAL, START)


def test_an_account_that_traded_more_than_it_began_with_can_be_read_back() -> None:
    """Winnings paid for later purchases."""
    ledger, fills, settlements = Ledger(10 * UNIT), list[Fill](), list[Settlement]()
    for number in range(30):
        fill, paid = bought(number, dollars=8, market=f"0x{number}"), won(16, market=f"0x{number}")
        ledger.fill(fill)
        ledger.settle(paid)
        fills.append(fill)
        settlements.append(paid)
    again = Ledger(10 * UNIT, fills, settlements)
    assert (again.cash, again.holdings) == (ledger.cash, ledger.holdings) == (250 * UNIT, {})


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.booleans()), max_size=20), st.randoms())
def test_the_order_in_which_the_past_is_told_does_not_matter(
    rows: list[tuple[int, int, bool]], chance: random.Random
) -> None:
    fills = [bought(n, dollars=d, market=f"0x{n}{m}") for n, (m, d, _) in enumerate(rows)]
    paid = [won(2 * d, market=f"0x{n}{m}") for n, (m, d, ended) in enumerate(rows) if ended]
    one = Ledger(200 * UNIT, fills, paid)
    chance.shuffle(fills)
    chance.shuffle(paid)
    two = Ledger(200 * UNIT, fills, paid)
    assert (one.cash, one.holdings) == (two.cash, two.holdings)


def test_nothing_is_owed() -> None:
    ledger = Ledger(10 * UNIT)
    with pytest.raises(LedgerMismatch, match="fill 1 takes more than there is of cash"):
        ledger.fill(bought(1, dollars=11))
    with pytest.raises(LedgerMismatch, match="takes more than there is of shares"):
        ledger.settle(won(1))
    assert (ledger.cash, ledger.holdings) == (10 * UNIT, {})
    with pytest.raises(LedgerMismatch, match="the past of this account takes more than there is of cash"):
        Ledger(10 * UNIT, [bought(1, dollars=11)])
    with pytest.raises(LedgerMismatch, match="of shares"):
        Ledger(10 * UNIT, [bought(1, dollars=1)], [won(3)])
