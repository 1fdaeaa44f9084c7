"""Values put into the log come out equal: decisions, orders, fills, settlements, outcomes. Holds the values that the
other storage tests share."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from market.types import (
    Ack,
    Fill,
    FillEvidence,
    Order,
    OrderStatus,
    Outcome,
    PayoutSource,
    Resolution,
    Settlement,
    Side,
    SignedOrder,
    TimeInForce,
)
from storage.records import DecisionRecord, LedgerRow, Phase, RecordKind, Run, RunIdentity, StoredObject
from storage.rows import insert_new
from storage.schema import from_us, metadata, runs, to_us
from storage.store import RunLog, Store
from tests.fakes import START
from tests.profiles import examples
from tests.stores import open_store

MEMORY = "sqlite://"
IDENTITY = RunIdentity("data", "config", "code", "model", "agent")
INSTANTS = st.integers(0, 2**51).map(lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))
AMOUNTS = st.integers(0, 2**53)
PRICES = st.integers(0, 10**8).map(lambda n: Decimal(n).scaleb(-8))
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


def decision(number: int = 0, *, p: float = 0.5) -> DecisionRecord:
    """The decision made `number` minutes after START."""
    nodes = tuple(StoredObject.of("node", {"number": number, "child": child}) for child in range(3))
    return DecisionRecord(
        id=f"d{number:03d}",
        market_id="0x01",
        slug="btc-updown-15m",
        at=START + timedelta(minutes=number),
        action="abstain",
        reason="thin_history",
        body={"thought": {"p": p, "path": [1, 2, number]}, "nodes": [n.hash for n in nodes]},
        objects=nodes,
        ledger=tuple(LedgerRow(phase, 10, 5, 2, 1, 1.5, 0.25) for phase in Phase),
        timings={"observe": 1.25, "think": 40.0},
    )


def signed(number: int = 0) -> SignedOrder:
    price, size = Decimal("0.47"), 5_000_000
    order = Order("0x01", Outcome.YES, Side.BUY, price, size, TimeInForce.FAK, START, f"d{number:03d}/0")
    return SignedOrder(f"0xorder{number}", order, '{"signature": "0x1"}')


def fill(number: int = 0) -> Fill:
    return Fill(
        id=f"f{number}",
        order_id="0xorder0",
        market_id="0x01",
        outcome=Outcome.YES,
        side=Side.BUY,
        price=Decimal("0.47"),
        size=5_000_000,
        fee=1200,
        at=START + timedelta(seconds=number),
        evidence=FillEvidence.BOOK_CROSS,
    )


SETTLEMENT = Settlement("0x01", Outcome.YES, 5_000_000, Decimal(1), PayoutSource.OFFICIAL, START + timedelta(hours=1))
RESOLUTION = Resolution("0x01", Decimal(1), PayoutSource.OFFICIAL, START + timedelta(hours=1))


async def begin(store: Store, label: str = "agent") -> Run:
    return await store.begin_run(replace(IDENTITY, label=label), {"data": "test"}, START)


async def play(log: RunLog) -> None:
    """One of every record there is."""
    await log.decision(decision(0))
    await log.intent("d000", signed(), START, view="seen", why="test")
    await log.ack(Ack("0xorder0", OrderStatus.MATCHED), START)
    await log.fill(fill())
    await log.settlement(SETTLEMENT)
    await log.outcome("0x01", RESOLUTION, START + timedelta(hours=1))
    await log.decision(decision(1))
    await log.end(START + timedelta(hours=2), {"cash": 97_648_800})


def test_one_of_everything_reads_back() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            run = await begin(store)
            await play(store.log(run.id))
            assert await store.fills(run.id) == [fill()]
            assert await store.settlements(run.id) == [SETTLEMENT]
            assert await store.outcomes(run.id) == [RESOLUTION]
            (intent,) = await store.intents(run.id)
            assert (intent.order, intent.body, intent.decision_id) == (signed().order, signed().body, "d000")
            assert intent.status == "matched"
            assert await store.intents(run.id, "intended") == []
            ended = await store.run(run.id)
            assert ended is not None and ended.finished and ended.records == 8
            assert (await store.records(run.id))[-1].hash == ended.head

    asyncio.run(scope())


def test_a_decision_reads_back_by_the_beginning_of_its_id() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            run = await begin(store)
            await play(store.log(run.id))
            found = await store.decision(None, "d001")
            made = decision(1)
            assert (found.key, found.at, found.run_id, found.seq) == (made.id, made.at, run.id, 6)
            assert {k: found.body[k] for k in made.body} == made.body
            assert (await store.ledger(run.id))[made.id] == made.ledger
            assert (await store.timings(run.id))[made.id] == made.timings
            assert set((await store.objects([o.hash for o in made.objects])).values()) == set(made.objects)
            with pytest.raises(Exception, match="2 decisions' ids begin with 'd00'"):
                await store.decision(run.id, "d00")
            with pytest.raises(Exception, match="no decision's id begins with '%'"):
                await store.decision(run.id, "%")

    asyncio.run(scope())


def test_lists_are_filtered_and_count_tokens() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            log = store.log((await begin(store)).id)
            for number in range(5):
                await log.decision(replace(decision(number), action="take" if number == 3 else "abstain"))
            assert [d.id for d in await store.decisions(limit=2)] == ["d003", "d004"]
            (taken,) = await store.decisions(log.run_id, limit=9, action="take")
            assert (taken.id, taken.tokens) == ("d003", 12 * len(Phase))
            assert await store.decisions("another run", limit=9) == []
            assert (await store.spent(log.run_id))[Phase.SEARCH].prompt == 50
            assert list(await store.ledger(log.run_id)) == list(await store.timings(log.run_id))

    asyncio.run(scope())


def test_objects_are_kept_once_and_found_by_hash() -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            log = store.log((await begin(store)).id)
            shared = StoredObject.of("book", {"bids": [1]})
            for number in range(2):
                await log.decision(replace(decision(number), objects=(shared,)))
            assert await store.object(shared.hash) == shared
            assert await store.objects([shared.hash, "nothing", shared.hash]) == {shared.hash: shared}
            assert await store.object("nothing") is None

    asyncio.run(scope())


FILLS = st.builds(
    Fill,
    id=NAMES,
    order_id=NAMES,
    market_id=NAMES,
    outcome=st.sampled_from(Outcome),
    side=st.sampled_from(Side),
    price=PRICES,
    size=AMOUNTS,
    fee=AMOUNTS,
    at=INSTANTS,
    evidence=st.sampled_from(FillEvidence),
    maker=st.booleans(),
)


@examples(25)
@given(st.lists(FILLS, max_size=6, unique_by=lambda f: f.id))
def test_any_fills_read_back_and_hold(fills: list[Fill]) -> None:
    async def scope() -> None:
        async with open_store(MEMORY) as store:
            log = store.log((await begin(store)).id)
            for one in fills:
                await log.fill(one)
            assert await store.fills(log.run_id) == fills
            assert await store.verify() == []

    asyncio.run(scope())


BODIES = st.dictionaries(
    NAMES,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
        | NAMES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)  # fmt: skip


@examples(25)
@given(BODIES, INSTANTS)
def test_any_decision_reads_back_and_is_recomputed_without_drift(body: dict[str, object], at: datetime) -> None:
    async def scope() -> None:
        made = replace(decision(), body=body, at=at)  # type: ignore[arg-type]
        async with open_store(MEMORY) as store:
            run = await begin(store)
            written = await store.log(run.id).decision(made)
            again = store.log(run.id)
            elsewhere = made.at.astimezone(timezone(timedelta(hours=-5)))
            assert await again.decision(replace(made, at=elsewhere)) == written
            assert (again.appended, again.compared) == (0, 1)
            assert await store.records(run.id, RecordKind.DECISION) == [written]
            assert await store.verify() == []

    asyncio.run(scope())


@given(INSTANTS)
def test_instants_are_kept_to_the_microsecond(at: datetime) -> None:
    assert from_us(to_us(at)) == at


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="names no time zone"):
        to_us(datetime(2026, 1, 1))  # noqa: DTZ001 - what is tested


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_every_table_can_be_made_by_postgresql_too(table: object) -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))  # type: ignore[arg-type]
    assert "ON CONFLICT DO NOTHING" in str(insert_new(runs, "postgresql").compile(dialect=dialect))
