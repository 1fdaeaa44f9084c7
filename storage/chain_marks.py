"""Verification of an account's log at a start: the chain of its runs behind what earlier starts have verified.

A mark is a saving of time and no proof: it tells damage since the last start, and `storage.audit` reads everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from market.errors import Halt
from storage import schema
from storage.chain import GENESIS
from storage.chain_walk import ChainWalk, seal_faults
from storage.connection import Database, damaged_text
from storage.rows import add_new

MOST = 200_000
"""Records that one start verifies at most."""
_AT_ONCE = 2_000
"""Records between two marks: a start that is killed loses no more, and other reads of the store come in between."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Number of records that a start has `verified`, and of those that were too many for it."""

    verified: int
    left: int


class ChainMarks:
    """Marks up to which record of each run the chain was verified."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def verify_account(self, account: str, *, most: int = MOST) -> Verification:
        """Verify the records of an account's runs since their marks, the newest run first, `most` records in all, and
        move the marks. Raises Halt in a sentence that names the run and the record that does not hold."""
        verified = left = 0
        for run_id in await self._db.read(lambda c: _runs_of(c, account)):
            while True:
                some = min(_AT_ONCE, most - verified)
                done, behind = await self._db.write(lambda c, r=run_id, n=some: _go_on(c, r, n))  # type: ignore[misc]
                verified += done
                if not behind or not some:
                    left += behind
                    break
        return Verification(verified, left)


def _runs_of(connection: Connection, account: str) -> list[str]:
    """Ids of an account's runs, the newest first. A row that is too damaged to say whose it is counts as the account's
    and raises Halt."""
    runs = schema.runs
    with damaged_text(connection):
        rows = connection.execute(select(runs).order_by(runs.c.started_at.desc(), runs.c.id)).all()
    found = [row for row in rows if _account(row) in (account, None)]
    for row in found:
        for fault in seal_faults(row):
            raise _damaged(f"Run {row.id} {fault}")
    return [str(row.id) for row in found]


def _account(row: Row[Any]) -> str | None:
    """Name of a run's account, empty without one; None if it cannot be read."""
    try:
        return str(json.loads(row.manifest).get("account", ""))
    except (ValueError, AttributeError):
        return None


def _go_on(connection: Connection, run_id: str, most: int) -> tuple[int, int]:
    """Verify the next records of a run and move its mark; returns how many, and how many are left."""
    run = connection.execute(select(schema.runs).where(schema.runs.c.id == run_id)).one()
    walk = _marked(connection, run)
    begun = walk.seq
    with damaged_text(connection):
        for row in _behind(connection, run_id, walk.seq, most):
            for fault in walk.step(row):
                raise _damaged(f"Record {row.seq} of run {run_id} ({row.kind} {row.key}) {fault}")
    if walk.seq < run.length and walk.seq - begun < most:
        raise _damaged(f"Record {walk.seq} of run {run_id} is missing: it should hold {run.length} records")
    if walk.seq >= run.length:
        _must_end(run, walk)
    if walk.seq > begun:
        _mark(connection, run_id, walk)
    return walk.seq - begun, max(0, run.length - walk.seq)


def _marked(connection: Connection, run: Row[Any]) -> ChainWalk:
    """The walk behind the run's mark, whose own record must still be there as it was."""
    marks, r = schema.chain_marks, schema.records
    mark = connection.execute(select(marks).where(marks.c.run_id == run.id)).one_or_none()
    if mark is None or not mark.length:
        return ChainWalk()
    walk = ChainWalk(seq=mark.length - 1)
    with damaged_text(connection):
        query = select(r).where(r.c.run_id == run.id, r.c.seq == walk.seq)
        row = connection.execute(query).one_or_none()
    if row is None:
        raise _damaged(f"Record {walk.seq} of run {run.id} is missing: it was there at an earlier start")
    walk.head = row.prev
    for fault in walk.step(row):
        raise _damaged(f"Record {row.seq} of run {run.id} ({row.kind} {row.key}) {fault}")
    if row.hash != mark.head:
        raise _damaged(f"Record {row.seq} of run {run.id} ({row.kind} {row.key}) is not what an earlier start verified")
    return walk


def _behind(connection: Connection, run_id: str, seq: int, most: int) -> Iterator[Row[Any]]:
    r = schema.records
    query = select(r).where(r.c.run_id == run_id, r.c.seq >= seq).order_by(r.c.seq).limit(most)
    yield from connection.execute(query)


def _must_end(run: Row[Any], walk: ChainWalk) -> None:
    """The chain ends as the run says. Raises Halt."""
    last = f"Record {walk.seq - 1} of run {run.id}"
    if walk.seq != run.length:
        raise _damaged(f"{last} is one too many: the run should hold {run.length} records")
    if (walk.head if walk.seq else GENESIS) != run.head:
        raise _damaged(f"{last} is not the one that the run names as its last")
    if bool(run.finished) != walk.ended:
        raise _damaged(f"{last} says otherwise than that the run is {'finished' if run.finished else 'unfinished'}")


def _mark(connection: Connection, run_id: str, walk: ChainWalk) -> None:
    marks = schema.chain_marks
    values = {"length": walk.seq, "head": walk.head}
    if not connection.execute(update(marks).where(marks.c.run_id == run_id).values(values)).rowcount:
        add_new(connection, marks, [{"run_id": run_id, **values}])


def _damaged(what: str) -> Halt:
    return Halt(
        f"The log is damaged: {what}. Nothing is traded on it; `edgeclaw log verify` names all that does not hold.",
        next_step="See docs/service.md, section Copies, before you run: edgeclaw resume",
    )
