"""Money of a run by evidence: what is realised is told, whether by a payout or by a sale."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from agent.reports.run_summary import money
from market.types import UNIT, Fill, FillEvidence, Outcome, PayoutSource, Resolution, Settlement, Side
from tests.fakes import START
from tools.ledger import PositionLedger

KINDS = (FillEvidence.BOOK_CROSS, FillEvidence.TRADE_THROUGH)


def fill(number: int, market: str, side: Side, shares: int, cents: int, kind: FillEvidence) -> Fill:
    at = START + timedelta(seconds=number)
    price = Decimal(cents) / 100
    return Fill(f"f{number}", f"o{number}", market, Outcome.YES, side, price, shares * UNIT, 7 * number, at, kind)


rows = st.tuples(
    st.sampled_from("abc"), st.sampled_from(list(Side)), st.integers(1, 9), st.integers(1, 99), st.sampled_from(KINDS)
)


@given(st.lists(rows, max_size=12), st.dictionaries(st.sampled_from("ab"), st.integers(0, 1)))
def test_profit_by_evidence_is_what_the_ledger_realises(
    told: list[tuple[str, Side, int, int, FillEvidence]], payouts: dict[str, int]
) -> None:
    fills = [fill(number, *row) for number, row in enumerate(told)]
    ledger, ended = PositionLedger(fills), START + timedelta(hours=1)
    for market, payout in payouts.items():
        held = ledger.held(market, Outcome.YES)
        ledger.settle(Settlement(market, Outcome.YES, held, Decimal(payout), PayoutSource.OFFICIAL, ended))
    resolutions = {m: Resolution(m, Decimal(p), PayoutSource.OFFICIAL, ended) for m, p in payouts.items()}
    found = money(fills, resolutions)
    assert sum(row.pnl for row in found) == ledger.earned
    assert sum(row.fills for row in found) == len(fills)
    assert sum(row.open for row in found) == sum(ledger.held(f.market_id, f.outcome) != 0 for f in fills)


def test_a_loss_made_by_selling_is_told_before_the_market_resolves() -> None:
    fills = [fill(0, "a", Side.BUY, 10, 60, KINDS[0]), fill(1, "a", Side.SELL, 10, 20, KINDS[1])]
    bought, sold = money(fills, {})
    assert (bought.pnl, bought.open) == (0, 0)
    assert (sold.pnl, sold.open) == (-4 * UNIT - 7, 0)
