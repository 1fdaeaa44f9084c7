"""A start finds whatever was damaged behind the records that earlier starts have verified, and reads no more."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import Halt
from storage.chain_marks import ChainMarks, Verification
from storage.records import Problem, Run
from storage.store import Store
from tests.fakes import START
from tests.profiles import examples
from tests.stores import open_store
from tests.unit.test_storage_values import IDENTITY, decision, play

ACCOUNT = "0xaccount"


async def begun(store: Store, label: str, account: str = ACCOUNT, *, later: int = 0) -> Run:
    identity = replace(IDENTITY, label=label)
    return await store.begin_run(identity, {"data": "x", "account": account}, START + timedelta(days=later))


async def written(store: Store, first: int, behind: int) -> Run:
    """A run of `first` decisions that a start has verified, and `behind` more."""
    run = await begun(store, "agent")
    log = store.log(run.id)
    for number in range(first):
        await log.decision(decision(number))
    assert await store.verify_account(ACCOUNT) == Verification(first, 0)
    for number in range(first, first + behind):
        await log.decision(decision(number))
    return run


def database(path: Path, first: int = 3, behind: int = 4) -> str:
    """A database at `path` with one such run; returns its id."""

    async def scope() -> str:
        async with open_store(f"sqlite:///{path}") as store:
            return (await written(store, first, behind)).id

    return asyncio.run(scope())


def verified(path: Path, account: str = ACCOUNT, **how: int) -> Verification:
    async def scope() -> Verification:
        async with open_store(f"sqlite:///{path}") as store:
            return await store.verify_account(account, **how)

    return asyncio.run(scope())


def audited(path: Path) -> list[Problem]:
    async def scope() -> list[Problem]:
        async with open_store(f"sqlite:///{path}") as store:
            return await store.verify()

    return asyncio.run(scope())


def alter(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def test_a_start_verifies_what_came_since_the_last_and_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    database(path)
    assert verified(path) == Verification(4, 0)
    assert verified(path) == Verification(0, 0)


@examples(60)
@given(st.data())
def test_one_flipped_bit_behind_the_mark_is_found_and_named(data: st.DataObject) -> None:
    """Bytes that are no text afterwards are among them."""

    async def scope() -> None:
        async with open_store() as store:
            run = await written(store, 2, 3)
            seq = data.draw(st.integers(2, 4))
            place, bit = data.draw(st.integers(0, 10_000)), data.draw(st.integers(0, 7))
            await store._db.write(lambda c: _flip(c.connection.driver_connection, run.id, seq, place, bit))
            with pytest.raises(Halt) as said:
                await store.verify_account(ACCOUNT)
            assert said.value.exit_code == 4
            assert f"Record {seq} of run {run.id} (decision d00{seq}) does not match its hash" in str(said.value)
            assert "edgeclaw log verify" in str(said.value)
            assert any(problem.seq == seq for problem in await store.verify()), "and the audit names it, too"
            with pytest.raises(Halt):
                await store.verify_account(ACCOUNT)

    asyncio.run(scope())


def _flip(connection: sqlite3.Connection | None, run_id: str, seq: int, place: int, bit: int) -> None:
    assert connection is not None
    (body,) = connection.execute(
        "SELECT CAST(body AS BLOB) FROM records WHERE run_id = ? AND seq = ?", (run_id, seq)
    ).fetchone()
    damaged = bytearray(body)
    damaged[place % len(body)] ^= 1 << bit
    connection.execute(
        "UPDATE records SET body = CAST(? AS TEXT) WHERE run_id = ? AND seq = ?", (bytes(damaged), run_id, seq)
    )


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE records SET prev = hash WHERE seq = 5", "Record 5 .* does not link to the record before it"),
        ("UPDATE records SET hash = prev WHERE seq = 5", "Record 5 .* does not match its hash"),
        ("UPDATE records SET at = at + 1 WHERE seq = 6", "Record 6 .* does not match its hash"),
        ("UPDATE records SET key = 'other' WHERE seq = 4", r"Record 4 .*\(decision other\) does not match its hash"),
        ("DELETE FROM records WHERE seq = 4", "Record 5 .* comes after a gap: record 4 is missing"),
        ("DELETE FROM records WHERE seq = 6", "Record 6 .* is missing: it should hold 7 records"),
        ("DELETE FROM records WHERE seq >= 2", "Record 2 .* is missing: it was there at an earlier start"),
        ("UPDATE records SET body = '{}' WHERE seq = 2", "Record 2 .* does not match its hash"),
        ("UPDATE runs SET length = 6", "Record 6 .* is one too many: the run should hold 6 records"),
        ("UPDATE runs SET length = 9", "Record 7 .* is missing: it should hold 9 records"),
        ("UPDATE runs SET head = seal", "Record 6 .* is not the one that the run names as its last"),
        ("UPDATE runs SET finished = 1", "Record 6 .* says otherwise than that the run is finished"),
        ("UPDATE runs SET started_at = 1", "Run .* has a manifest, identity or start that was altered"),
        ("UPDATE runs SET manifest = '{'", "Run .* has a manifest, identity or start that was altered"),
        ("UPDATE runs SET identity = '{}'", "Run .* has an identity that does not give its id"),
    ],
)
def test_every_kind_of_damage_is_one_sentence(tmp_path: Path, statement: str, said: str) -> None:
    path = tmp_path / "e.db"
    run_id = database(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        with connection:
            assert connection.execute(statement).rowcount > 0
    with pytest.raises(Halt, match=said) as halt:
        verified(path)
    assert run_id in str(halt.value) and "\n" not in halt.value.sentence()
    assert audited(path), "the audit that it points to finds it, too"


def test_a_chain_that_was_rewritten_whole_is_not_the_one_that_was_verified(tmp_path: Path) -> None:
    path, other = tmp_path / "e.db", tmp_path / "other.db"
    database(path, 3, 0)

    async def rewritten() -> None:
        async with open_store(f"sqlite:///{other}") as store:
            log = store.log((await begun(store, "agent")).id)
            for number in range(5):
                await log.decision(decision(number, p=0.9))

    asyncio.run(rewritten())
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("ATTACH ? AS old", (str(path),))
        connection.execute("INSERT INTO chain_marks SELECT * FROM old.chain_marks")
    assert audited(other) == [], "each link holds"
    with pytest.raises(Halt, match="is not what an earlier start verified"):
        verified(other)


def test_only_the_accounts_own_runs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "e.db"

    async def scope() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            for label, account in (("mine", ACCOUNT), ("theirs", "0xother"), ("replayed", "")):
                await play(store.log((await begun(store, label, account)).id))

    asyncio.run(scope())
    alter(path, "UPDATE records SET body = '{}' WHERE run_id IN (SELECT id FROM runs WHERE manifest LIKE '%0xother%')")
    assert verified(path) == Verification(8, 0)
    with pytest.raises(Halt):
        verified(path, "0xother")


@pytest.mark.parametrize("most", [1, 3, 4, 5, 11, 99])
def test_what_is_too_much_for_one_start_is_left_to_the_next_and_said(tmp_path: Path, most: int) -> None:
    path, total = tmp_path / "e.db", 12

    async def scope() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            for label, later in (("old", 0), ("new", 1)):
                log = store.log((await begun(store, label, later=later)).id)
                for number in range(total // 2):
                    await log.decision(decision(number))

    asyncio.run(scope())
    seen = 0
    while seen < total:
        done = verified(path, most=most)
        assert done.verified == min(most, total - seen) and done.left == total - seen - done.verified
        seen += done.verified
    assert verified(path, most=most) == Verification(0, 0)


def test_a_start_that_is_killed_keeps_what_it_has_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.db"
    database(path, 1, 9)
    monkeypatch.setattr("storage.chain_marks._AT_ONCE", 4)

    async def scope() -> None:
        async with open_store(f"sqlite:///{path}") as store:
            write = store._db.write

            async def once(job: Callable[..., object]) -> object:
                await write(job)
                raise InterruptedError

            store._db.write = once  # type: ignore[method-assign, assignment]
            await ChainMarks.verify_account(store, ACCOUNT)

    with pytest.raises(InterruptedError):
        asyncio.run(scope())
    assert verified(path) == Verification(5, 0)
