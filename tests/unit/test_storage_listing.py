"""Lists of decisions against the plain rule, their profits against the fills and settlements they come of, and old
databases brought to the same columns."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.types import Fill, FillEvidence, Order, Outcome, PayoutSource, Settlement, Side, SignedOrder, TimeInForce
from storage.records import DecisionFilter, DecisionRecord, DecisionSummary, LedgerRow, Phase, Sorting
from storage.store import RunLog
from tests.fakes import START
from tests.profiles import examples
from tests.stores import open_store
from tests.unit.test_storage_values import begin

REASONS = ("thin_history", "edge_below_costs", "edge", "halted")
COUNT = 120


def decision(number: int, chance: Random) -> DecisionRecord:
    """One of many kinds."""
    searched, reason = chance.random() < 0.5, chance.choice(REASONS)
    belief = {"verified_share": chance.choice([0.0, 0.5, 0.75, 1.0])}
    search = {"belief": belief, "correction": {"finding": "E1"} if chance.random() < 0.3 else None}
    mid = chance.choice([None, 0.25, 0.5])
    return DecisionRecord(
        id=f"d{number:03d}",
        market_id=f"0x{number % 7}",
        slug=f"{chance.choice(['btc', 'eth'])}-updown-5m-{number % 7}",
        at=START + timedelta(minutes=number // 3),
        action="take" if reason == "edge" else "abstain",
        reason=reason,
        body={"thought": {"mid": mid, "probability": mid, "search": search if searched else None}},
        objects=(),
        ledger=(LedgerRow(Phase.SEARCH, chance.randint(0, 50), 5, chance.randint(0, 9), 1, 1.5, 0.25),),
        timings={},
    )


class Traded:
    """Orders of decisions, and what they brought in by the exact sums of fills and settlements."""

    def __init__(self, chance: Random) -> None:
        self.chance, self.fills, self.number = chance, list[tuple[str, Fill]](), 0

    async def trade(self, log: RunLog, made: DecisionRecord) -> None:
        for _ in range(self.chance.randint(1, 2)):
            self.number += 1
            order_id = f"0xorder{self.number}"
            price = Decimal(self.chance.randint(1, 99)) / 100
            side, outcome = self.chance.choice(list(Side)), self.chance.choice(list(Outcome))
            order = Order(made.market_id, outcome, side, price, 5_000_000, TimeInForce.FAK, made.at, f"{made.id}/0")
            await log.intent(made.id, SignedOrder(order_id, order), made.at, view="seen", why="test")
            if self.chance.random() < 0.3:
                continue
            size, fee = self.chance.randint(1, 5) * 1_000_000, self.chance.randint(0, 9_000)
            fill = Fill(
                f"f{self.number}", order_id, made.market_id, outcome, side, price, size, fee, made.at,
                FillEvidence.BOOK_CROSS,
            )  # fmt: skip
            await log.fill(fill)
            self.fills.append((made.id, fill))

    def profits(self, payouts: dict[str, int]) -> dict[str, int]:
        """By decision; without those with a share that is neither settled nor of a position sold to the last one."""
        found: dict[str, Fraction | None] = {}
        for decision_id, fill in self.fills:
            worth, so_far = self.worth(fill, payouts), found.get(decision_id, Fraction(0))
            shares = fill.size if fill.side is Side.BUY else -fill.size
            found[decision_id] = None if worth is None or so_far is None else so_far + fill.cash + shares * worth
        return {name: round(value) for name, value in found.items() if value is not None}

    def worth(self, fill: Fill, payouts: dict[str, int]) -> Fraction | None:
        if (paid := payouts.get(f"{fill.market_id}/{fill.outcome.value}")) is not None:
            return Fraction(paid)
        own = [f for _, f in self.fills if (f.market_id, f.outcome) == (fill.market_id, fill.outcome)]
        sold = [f for f in own if f.side is Side.SELL]
        if 2 * sum(f.size for f in sold) != sum(f.size for f in own):
            return None
        return Fraction(sum(f.cash for f in sold), sum(f.size for f in sold))


async def filled(log: RunLog, seed: int) -> tuple[list[DecisionRecord], dict[str, int]]:
    """A log with decisions, some with orders; markets 0 to 4 settle."""
    chance = Random(seed)
    payouts = {f"0x{n}/{o.value}": int(o is Outcome.YES) ^ (n % 2) for n in range(5) for o in Outcome}
    made, traded = [decision(n, chance) for n in range(COUNT)], Traded(chance)
    for one in made:
        await log.decision(one)
        if one.action == "take":
            await traded.trade(log, one)
    for name, paid in payouts.items():
        market, outcome = name.split("/")
        at = START + timedelta(days=1)
        await log.settlement(Settlement(market, Outcome(outcome), 1, Decimal(paid), PayoutSource.OFFICIAL, at))
    return made, traded.profits(payouts)


def share(d: DecisionRecord) -> float | None:
    search: Any = d.body["thought"]["search"]  # type: ignore[index,call-overload]
    return None if search is None else float(search["belief"]["verified_share"])


def corrected(d: DecisionRecord) -> bool:
    search: Any = d.body["thought"]["search"]  # type: ignore[index,call-overload]
    return bool(search and search["correction"])


def plain(wanted: DecisionFilter) -> Callable[[DecisionRecord], bool]:
    def holds(d: DecisionRecord) -> bool:
        found = share(d)
        return (
            (wanted.action is None or d.action == wanted.action)
            and (wanted.reason is None or d.reason == wanted.reason)
            and (wanted.slug is None or wanted.slug in d.slug)
            and (wanted.since is None or d.at >= wanted.since)
            and (wanted.until is None or d.at < wanted.until)
            and (wanted.below is None or (found is not None and found < wanted.below))
            and (wanted.searched is None or (found is not None) == wanted.searched)
            and (wanted.corrected is None or corrected(d) == wanted.corrected)
            and (wanted.traded is None or (d.action == "take") == wanted.traded)
        )

    return holds


maybe = st.none() | st.booleans()
moments = st.none() | st.integers(0, COUNT // 3).map(lambda m: START + timedelta(minutes=m))
wanteds = st.builds(
    DecisionFilter,
    action=st.sampled_from([None, None, "take", "abstain"]),
    reason=st.sampled_from([None, None, *REASONS]),
    slug=st.sampled_from([None, None, "btc", "-3", "%"]),
    since=moments,
    until=moments,
    below=st.sampled_from([None, None, 0.6, 1.0]),
    searched=maybe,
    corrected=maybe,
    traded=maybe,
)


@examples(15)
@given(seed=st.integers(0, 10**6), asked=st.lists(wanteds, min_size=8, max_size=8), after=st.integers(0, 20))
def test_lists_hold_what_the_plain_rule_says(seed: int, asked: list[DecisionFilter], after: int) -> None:
    async def scope() -> None:
        async with open_store("sqlite://") as store:
            run = await begin(store)
            made, profits = await filled(store.log(run.id), seed)
            for wanted in asked:
                expected = [d for d in reversed(made) if plain(wanted)(d)]
                wanted_here = replace(wanted, run_id=run.id)
                found = await store.listed(wanted_here, limit=1000)
                assert [d.id for d in found] == [d.id for d in expected]
                page = await store.listed(wanted_here, limit=7, after=after)
                assert page == found[after : after + 7]
                known = {d.id: d.profit for d in found if d.profit is not None}
                assert known.keys() == {d.id for d in expected if d.id in profits}
                assert all(abs(profit - profits[name]) <= 1 for name, profit in known.items())
                must_be_sorted(await store.listed(wanted_here, sorting=Sorting.MOST_TOKENS), lambda d: -d.tokens)
                least = await store.listed(wanted_here, sorting=Sorting.LEAST_VERIFIED)
                must_be_sorted(least, lambda d: d.verified_share or 0.0)
                lost = await store.listed(wanted_here, sorting=Sorting.LOST_MOST, limit=1000)
                must_be_sorted(lost, lambda d: d.profit or 0)
                assert {d.id for d in lost} == {d.id for d in found if d.profit is not None}
                earned = await store.listed(wanted_here, sorting=Sorting.EARNED_MOST, limit=1000)
                must_be_sorted(earned, lambda d: -(d.profit or 0))
            assert sum(n for _, _, n in await store.reasons(run.id)) == COUNT
            assert abs(sum((await store.profits(run.id)).values()) - sum(profits.values())) <= len(profits)
            assert await store.verify() == []

    asyncio.run(scope())


def test_round_trips_have_a_profit_before_any_market_has_settled() -> None:
    """What was bought at 60 and 40 cents is sold at 55: each purchase by its own price, and the sale by none."""

    async def scope() -> None:
        async with open_store("sqlite://") as store:
            log = store.log((await begin(store)).id)
            for number, (cents, side, size) in enumerate([(60, Side.BUY, 10), (40, Side.BUY, 10), (55, Side.SELL, 20)]):
                made = replace(decision(number, Random(0)), market_id="0x1")
                order = Order(
                    "0x1", Outcome.YES, side, Decimal(cents) / 100, size * 10**6, TimeInForce.FAK, made.at, made.id
                )  # fmt: skip
                await log.decision(made)
                await log.intent(made.id, SignedOrder(f"o{number}", order), made.at, view="seen", why="test")
                fill = Fill(
                    f"f{number}", f"o{number}", "0x1", Outcome.YES, side, order.price, order.size, 0, made.at,
                    FillEvidence.BOOK_CROSS,
                )  # fmt: skip
                assert [d.profit for d in await store.listed(DecisionFilter())] == [None] * (number + 1)
                await log.fill(fill)
            assert [d.profit for d in await store.listed(DecisionFilter())] == [0, 1_500_000, -500_000]
            assert await store.profits(log.run_id) == {"0x1": 1_000_000}

    asyncio.run(scope())


def must_be_sorted(found: list[DecisionSummary], key: Callable[[DecisionSummary], float]) -> None:
    assert found == sorted(found, key=key)


@pytest.mark.parametrize("seed", [1, 2])
def test_an_older_database_gets_the_columns_from_its_records(tmp_path: Path, seed: int) -> None:
    url, path = f"sqlite:///{tmp_path / 'e.db'}", tmp_path / "e.db"

    async def write() -> list[DecisionSummary]:
        async with open_store(url) as store:
            await filled(store.log((await begin(store)).id), seed)
            return await store.listed(DecisionFilter(), limit=1000)

    async def read() -> list[DecisionSummary]:
        async with open_store(url) as store:
            assert await store.verify() == []
            return await store.listed(DecisionFilter(), limit=1000)

    before = asyncio.run(write())
    with closing(sqlite3.connect(path)) as old, old:
        for index in ("ix_decisions_newest", "ix_decisions_reason", "ix_fills_order_id"):
            old.execute(f"DROP INDEX {index}")
        for column in ("mid", "probability", "verified_share", "corrected", "tokens"):
            old.execute(f"ALTER TABLE decisions DROP COLUMN {column}")
        old.execute("DROP TABLE chain_marks")
        old.execute("UPDATE alembic_version SET version_num = '0003'")
    assert asyncio.run(read()) == before
