"""Tables of the log on a terminal: one line a decision, however narrow it is."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from rich.console import Console

from agent.cli.logview import print_decisions
from storage.records import DecisionSummary
from tests.fakes import START


def summaries(count: int) -> list[DecisionSummary]:
    return [
        DecisionSummary(
            run_id="r",
            id=f"{number:012x}",
            seq=number,
            at=START + timedelta(minutes=5 * number),
            market_id="0x1",
            slug="btc-updown-15m-1790586000",
            action="abstain",
            reason="thin_history",
            mid=0.495,
            probability=0.495,
            verified_share=0.0,
            corrected=number == 1,
            tokens=189,
            profit=None,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_decision_is_one_line_at_any_width(width: int) -> None:
    screen = Console(file=io.StringIO(), width=width)
    print_decisions(summaries(3), screen)
    assert isinstance(screen.file, io.StringIO)
    lines = screen.file.getvalue().splitlines()
    rows = [line for line in lines if line.startswith("00000000000")]
    assert len(rows) == 3 and all("thin_history" in row and "0.495" in row and "189" in row for row in rows)
    assert ("btc-updown-15m-1790586000" in rows[0]) == (width == 160)
    assert all(len(line) <= width for line in lines)
