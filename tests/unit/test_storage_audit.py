"""Whatever is changed behind the log's back, the audit names it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import Boolean, Column, Connection, Text, update

from market.errors import Drift
from storage import schema
from storage.canonical import Json
from storage.projections import RecordedOrder, ack_of
from storage.records import Problem, Record, RecordKind
from storage.store import Store
from tests.stores import open_store
from tests.unit.test_storage_values import begin, decision, play

PROVEN = (
    schema.runs,
    schema.records,
    schema.objects,
    schema.record_objects,
    schema.decisions,
    schema.intents,
    schema.fills,
    schema.settlements,
    schema.token_ledger,
)
UNPROVEN = {"objects.kind", "token_ledger.milliseconds", "token_ledger.micro_usd"}
"""A label for readers (an object's hash is over its text alone), a duration, and what was estimated from tokens."""
COLUMNS = [c for table in PROVEN for c in table.columns if str(c) not in UNPROVEN]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with two runs, one with a record of every kind."""
    path = tmp_path_factory.mktemp("audit") / "whole.db"

    async def scope() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            await play(store.log((await begin(store)).id))
            await store.log((await begin(store, "other")).id).decision(decision(7))

    asyncio.run(scope())
    return path


@pytest.fixture
def database(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.db"))


def alter(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0


def problems(path: Path, run_id: str | None = None) -> list[Problem]:
    async def scope() -> list[Problem]:
        async with open_store(f"sqlite:///{path}") as store:
            return await store.verify(run_id)

    return asyncio.run(scope())


def run_of(path: Path, label: str = "agent") -> str:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT id FROM runs WHERE identity LIKE '%' || ? || '%'"
        (run_id,) = connection.execute(query, (f'"{label}"',)).fetchone()
    return str(run_id)


def test_an_untouched_log_holds(database: Path) -> None:
    assert problems(database) == []
    assert problems(database, run_of(database)) == []


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_a_flipped_byte_in_any_column_is_named(database: Path, column: Column[object]) -> None:
    name = column.name
    flipped = f"NOT {name}" if isinstance(column.type, Boolean) else f"coalesce({name}, 0) + 1"
    if isinstance(column.type, Text):
        flipped = f"substr({name}, 1, 2) || '~' || substr({name}, 4)"
    table = column.table.name
    alter(database, f"UPDATE {table} SET {name} = {flipped} WHERE rowid = (SELECT max(rowid) FROM {table})")  # noqa: S608 - names of our own schema
    found = problems(database)
    assert found
    assert all(p.sentence.endswith(".") and p.key in p.sentence for p in found)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM records WHERE kind = 'ack'", "(fill f0) comes after a gap: record 2 is missing."),
        ("DELETE FROM records WHERE kind = 'end'", "should hold 8 records and holds 7."),
        ("DELETE FROM fills", "The listing of fill f0 (record 3 of run RUN) is missing, though its record is there."),
        ("UPDATE fills SET fee = 0", "The listing of fill f0 (record 3 of run RUN) differs from its record in fee."),
        ("UPDATE fills SET fill_id = 'x'", "The listing of fill x (record 3 of run RUN) stands for no record."),
        ("UPDATE intents SET status = 'live'", "differs from its record in status."),
        ("DELETE FROM record_objects", "(node) is used by no record."),
        ("DELETE FROM record_objects WHERE seq = 0", "does not have the objects it was written with."),
        ("DELETE FROM token_ledger", "has a token ledger that is not the recorded one."),
        ("DELETE FROM objects", "(decision d000) needs object"),
        ("UPDATE objects SET body = '{}'", "(node) does not match its hash."),
        ("UPDATE records SET body = '{' WHERE kind = 'fill'", "Record 3 of run RUN (fill f0) does not match its hash."),
        ("UPDATE records SET at = 'never' WHERE kind = 'fill'", "Record 3 of run RUN (fill f0) does not match"),
        ("UPDATE records SET kind = 'dream' WHERE kind = 'fill'", "Record 3 of run RUN (dream f0) does not match"),
        ("UPDATE runs SET finished = 0 WHERE length = 8", "Run RUN is marked as unfinished"),
        ("UPDATE runs SET manifest = '{}' WHERE length = 8", "Run RUN has a manifest, identity or start that was"),
        ("DELETE FROM runs WHERE length = 8", "Run RUN is not in the list of runs."),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(database: Path, statement: str, says: str) -> None:
    run_id = run_of(database)
    alter(database, statement)
    assert any(says.replace("RUN", run_id) in p.sentence for p in problems(database))


def test_a_record_rewritten_with_its_hash_breaks_the_link(database: Path) -> None:
    """Whoever forges a record has to forge every later one too."""
    alter(database, "UPDATE records SET hash = prev WHERE kind = 'ack'")
    assert any("(fill f0) does not link to the record before it" in p.sentence for p in problems(database))


def test_one_run_is_checked_without_the_others(database: Path) -> None:
    run_id, other = run_of(database), run_of(database, "other")
    alter(database, f"UPDATE records SET body = '{{}}' WHERE run_id = '{other}'")  # noqa: S608 - a hash
    assert problems(database, run_id) == []
    assert {p.run_id for p in problems(database)} == {other}
    assert "is not in the list of runs" in problems(database, "nowhere")[0].sentence


async def everything(store: Store, run_id: str) -> None:
    """Read every value that a start or a page reads of a run."""
    await store.fills(run_id)
    await store.settlements(run_id)
    await store.outcomes(run_id)
    await store.intents(run_id)
    for record in await store.records(run_id):
        if record.kind is RecordKind.INTENT:
            RecordedOrder.of(record)
        if record.kind is RecordKind.ACK:
            ack_of(record.body)


VALUES: tuple[Json, ...] = (None, {}, "x")


@pytest.mark.parametrize("kind", ["decision", "intent", "ack", "fill", "settlement", "outcome"])
def test_a_damaged_value_is_one_sentence_wherever_it_is_read_and_the_audit_still_names_the_record(
    database: Path, kind: str
) -> None:
    async def scope() -> list[str]:
        said = list[str]()
        async with open_store(f"sqlite:///{database}") as store:
            run_id = run_of(database)
            record = (await store.records(run_id, RecordKind(kind)))[0]
            for key, value in product([*record.body, None], VALUES):
                body = value if key is None else {**record.body, key: value}
                await store._db.write(partial(put, record=record, body=body))
                try:
                    await everything(store, run_id)
                except Drift as drift:
                    said.append(drift.sentence())
                if key is None or record.body[key] != value:
                    assert any(problem.seq == record.seq for problem in await store.verify(run_id)), (key, value)
        return said

    said = asyncio.run(scope())
    assert all("damaged" in sentence and "edgeclaw log verify" in sentence for sentence in said)
    assert said or kind == "decision"  # which is read as it is


def put(connection: Connection, *, record: Record, body: object) -> None:
    """Write another body over a record's."""
    r = schema.records
    change = update(r).where(r.c.run_id == record.run_id, r.c.seq == record.seq).values(body=json.dumps(body))
    connection.execute(change)
