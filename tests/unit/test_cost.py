"""Cost of a run, from its ledger: by hand, on numbers that can be checked in the head."""

import pytest

from agent.reports.cost import DAYS, InferencePrices, Rhythm, cost
from storage.records import LedgerRow, Phase

RHYTHM = Rhythm(per_day=288, markets=2)
PRICES = InferencePrices(token=1e-6, kwh=0.5, watts=None)


def rows(search: int, answer: int, *, ms: float = 100.0, micro_usd: float = 10.0) -> tuple[LedgerRow, ...]:
    """A decision's ledger; a phase of no tokens was never asked."""
    used = {Phase.SEARCH: search, Phase.ANSWER: answer}
    return tuple(
        LedgerRow(p, n, 0, 0, int(n > 0), ms if n else 0.0, micro_usd if n else 0.0)
        for p in Phase
        for n in [used.get(p, 0)]
    )


def test_by_phase_and_by_decision_gated_ones_included() -> None:
    ledger = {"a": rows(50, 10), "b": rows(150, 0), "gated": rows(0, 0)}
    timings = {"a": {"think": 5.0, "joules:search": 4.0, "joules:answer": 1.0}, "b": {"joules:search": 6.0}}
    made = cost(ledger, timings, RHYTHM, PRICES, "measured by RAPL package-0")
    search, answer = (next(p for p in made.phases if p.phase == name) for name in ("search", "answer"))
    assert (made.decisions, made.asked, made.by_energy) == (3, 2, 2)
    assert made.dollars == pytest.approx(30e-6 / 3) and made.seconds == pytest.approx(0.1)
    assert (search.tokens, search.joules) == (200, 10.0) and search.joules_per_token == pytest.approx(0.05)
    assert search.tokens_per_second == pytest.approx(1000) and search.dollars == pytest.approx(20e-6 / 3)
    assert answer.joules_per_token == pytest.approx(0.1) and answer.tokens_per_second == pytest.approx(100)
    assert sum(p.dollars for p in made.phases) == pytest.approx(made.dollars)
    assert "energy" in made.month.assumes[1] and "0.5 a kWh" in made.month.assumes[1]


def test_what_was_not_measured_is_unknown_and_not_nothing() -> None:
    ledger = {"a": rows(50, 10), "b": rows(50, 10)}
    none = cost(ledger, {"a": {"think": 1.0}}, RHYTHM, PRICES, "not readable")
    assert none.by_energy == 0 and {p.joules for p in none.phases} == {None}
    assert "$1 for a million tokens" in none.month.assumes[1]
    some = cost(
        ledger, {"a": {"joules:search": 2.0, "joules:answer": 1.0}, "b": {"joules:search": 3.0}}, RHYTHM, PRICES, ""
    )
    assert some.by_energy == 1 and "1 of 2 decisions" in some.month.assumes[1]
    answer = next(p for p in some.phases if p.phase == "answer")
    assert answer.joules_per_token == pytest.approx(0.1), "over the tokens that were metered alone"
    assert all(p.tokens_per_second is None for p in cost({"g": rows(0, 0)}, {}, RHYTHM, PRICES, "").phases)
    assert cost({}, {}, RHYTHM, PRICES, "").dollars == 0.0


def test_a_month_is_decisions_by_days_by_markets_and_the_idle_box_where_its_watts_are_given() -> None:
    ledger = {"a": rows(50, 10, ms=500.0, micro_usd=100.0)}
    month = cost(ledger, {}, RHYTHM, PRICES, "").month
    assert month.inference == pytest.approx(288 * 2 * DAYS * 200e-6) == month.total
    assert (month.idle, month.decisions_per_day, month.goal) == (None, 576, 100.0)
    assert "288 decisions a day on 2 markets at a time" in month.assumes[0] and "not counted" in month.assumes[2]
    heated = cost(ledger, {}, RHYTHM, InferencePrices(1e-6, 0.5, watts=60.0), "").month
    hours = DAYS * 24 - 576 * DAYS * 1.0 / 3600
    assert heated.idle == pytest.approx(0.060 * hours * 0.5)
    assert heated.total == pytest.approx(heated.inference + (heated.idle or 0.0))
    busy = cost({"a": rows(50, 0, ms=1e6)}, {}, RHYTHM, InferencePrices(1e-6, 0.5, watts=60.0), "").month
    assert busy.idle == 0.0, "a box that never rests has no idle hours"
