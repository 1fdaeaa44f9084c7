"""Integrity check of the decision log: walks every hash chain and checks the rows that depend on it. Repairs nothing.

Outside the chain, and so beyond proof: durations and price history; the history that a decision read is covered by its
digest, and a replay compares it. Marks of what was verified before are not trusted: everything is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from market.errors import Drift
from storage import schema
from storage.chain import manifest, text_hash
from storage.chain_walk import ChainWalk, seal_faults
from storage.connection import Database, damaged_text
from storage.projections import DAMAGED, PROJECTED, SUMMARY, project
from storage.records import Problem, RecordKind
from storage.rows import record_of

_Key = tuple[Any, ...]


class Audit:
    """Verification that the stored log is the log as written."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def verify(self, run_id: str | None = None) -> list[Problem]:
        """Problems of one run, or of all; empty if every hash, link and row is right."""

        def read(connection: Connection) -> list[Problem]:
            with damaged_text(connection):
                return list(_verify(connection, run_id))

        return await self._db.read(read)


@dataclass(slots=True)
class _Walk:
    """Walk along a run's chain from the beginning; `rows` are the expected rows of the listing tables."""

    run_id: str
    chain: ChainWalk = field(default_factory=ChainWalk)
    count: int = 0
    rows: dict[str, dict[_Key, dict[str, Any]]] = field(default_factory=lambda: {t.name: {} for t in PROJECTED})

    def step(self, row: Row[Any]) -> Iterator[Problem]:
        for fault in self.chain.step(row):
            yield _of_record(row, fault)
        self._project(row)
        self.count += 1

    def _project(self, row: Row[Any]) -> None:
        """Derive the listing row. A damaged record may be unreadable; its damage has been reported already."""
        try:
            made = project(record_of(row))
            if made is None:
                return
            rows = self.rows[made.table.name]
            if not made.amends:
                rows[made.identity] = dict(made.row)
            elif made.identity in rows:
                rows[made.identity].update(made.row)
        except (Drift, *DAMAGED):
            return


def _of_record(row: Row[Any], fault: str) -> Problem:
    sentence = f"Record {row.seq} of run {row.run_id} ({row.kind} {row.key}) {fault}."
    return Problem(run_id=row.run_id, seq=row.seq, kind=row.kind, key=row.key, sentence=sentence)


def _verify(connection: Connection, run_id: str | None) -> Iterator[Problem]:
    runs = {row.id: row for row in connection.execute(select(schema.runs))}
    # Runs are looked for in every table: rows may remain of a run that was deleted from the list.
    owners = (schema.records.c.run_id, schema.record_objects.c.run_id, *(t.c.run_id for t in PROJECTED))
    named = {owner for column in owners for owner in connection.scalars(select(column).distinct())}
    for each in sorted({*runs, *named}) if run_id is None else [run_id]:
        yield from _check_run(connection, each, runs.get(each))
    yield from _check_objects(connection, run_id)


def _check_run(connection: Connection, run_id: str, row: Row[Any] | None) -> Iterator[Problem]:
    r = schema.records
    walk = _Walk(run_id)
    for record in connection.execute(select(r).where(r.c.run_id == run_id).order_by(r.c.seq)):
        yield from walk.step(record)
    if row is None:
        yield _of_run(run_id, "is not in the list of runs")
    else:
        yield from (_of_run(run_id, fault) for fault in _run_faults(row, walk))
    yield from _check_projections(connection, walk)
    yield from _check_references(connection, run_id)
    yield from _check_manifests(connection, run_id)


def _of_run(run_id: str, fault: str) -> Problem:
    return Problem(run_id=run_id, seq=None, kind="run", key=run_id, sentence=f"Run {run_id} {fault}.")


def _run_faults(row: Row[Any], walk: _Walk) -> Iterator[str]:
    yield from seal_faults(row)
    if row.length != walk.count:
        yield f"should hold {row.length} records and holds {walk.count}"
    if row.head != walk.chain.head:
        yield "does not end with the record it names as its last"
    if bool(row.finished) != walk.chain.ended:
        yield f"is marked as {'finished' if row.finished else 'unfinished'} but its last record says otherwise"


def _check_projections(connection: Connection, walk: _Walk) -> Iterator[Problem]:
    for table in PROJECTED:
        expected = dict(walk.rows[table.name])
        for row in connection.execute(select(table).where(table.c.run_id == walk.run_id)):
            actual = dict(row._mapping)
            identity = tuple(actual[c.name] for c in table.primary_key)
            wanted = expected.pop(identity, None)
            if wanted is None:
                yield _of_row(table.name, actual, identity, "stands for no record")
            elif differing := next((k for k in wanted if wanted[k] != actual[k]), None):
                yield _of_row(table.name, wanted, identity, f"differs from its record in {differing}")
        for identity, wanted in expected.items():
            yield _of_row(table.name, wanted, identity, "is missing, though its record is there")


def _of_row(table: str, row: dict[str, Any], identity: _Key, fault: str) -> Problem:
    run_id, key = str(identity[0]), "/".join(map(str, identity[1:]))
    kind = table.removesuffix("s")
    sentence = f"The listing of {kind} {key} (record {row['seq']} of run {run_id}) {fault}."
    return Problem(run_id=run_id, seq=row["seq"], kind=kind, key=key, sentence=sentence)


def _check_references(connection: Connection, run_id: str) -> Iterator[Problem]:
    """References to missing objects, and references without a record."""
    used, o, r = schema.record_objects, schema.objects, schema.records
    query = (
        select(used, o.c.hash.label("found"), r.c.kind, r.c.key)
        .outerjoin(o, o.c.hash == used.c.hash)
        .outerjoin(r, (r.c.run_id == used.c.run_id) & (r.c.seq == used.c.seq))
        .where(used.c.run_id == run_id)
        .order_by(used.c.seq, used.c.hash)
    )
    for row in connection.execute(query):
        if row.kind is None:
            sentence = f"Object {row.hash} is used by record {row.seq} of run {run_id}, which is missing."
            yield Problem(run_id=run_id, seq=row.seq, kind="object", key=row.hash, sentence=sentence)
        elif row.found is None:
            yield _of_record(row, f"needs object {row.hash}, which is missing")


def _check_manifests(connection: Connection, run_id: str) -> Iterator[Problem]:
    """Records that lost or gained an object, and decisions whose token ledger differs from the record."""
    r, used, t = schema.records, schema.record_objects, schema.token_ledger
    attached: dict[int, list[str]] = {}
    for row in connection.execute(select(used).where(used.c.run_id == run_id)):
        attached.setdefault(row.seq, []).append(row.hash)
    ledger: dict[str, dict[str, list[int]]] = {}
    for row in connection.execute(select(t).where(t.c.run_id == run_id)):
        counts = [row.prompt, row.cached, row.generated, row.calls]
        ledger.setdefault(row.decision_id, {})[row.phase] = counts
    kinds = (RecordKind.DECISION.value, RecordKind.INTENT.value)
    for row in connection.execute(select(r).where(r.c.run_id == run_id, r.c.kind.in_(kinds)).order_by(r.c.seq)):
        summary = _summary_of(row.body)
        if summary.get("objects") != manifest(attached.get(row.seq, [])):
            yield _of_record(row, "does not have the objects it was written with")
        if row.kind == RecordKind.DECISION and summary.get("tokens") != ledger.get(row.key, {}):
            yield _of_record(row, "has a token ledger that is not the recorded one")


def _summary_of(text: str) -> dict[str, Any]:
    """Objects and tokens according to a record; empty if it is too damaged."""
    try:
        body = json.loads(text)
        return dict(body.get(SUMMARY, body))
    except (ValueError, TypeError, AttributeError):
        return {}


def _check_objects(connection: Connection, run_id: str | None) -> Iterator[Problem]:
    """Altered objects, and, over all runs, objects without a record."""
    o, used = schema.objects, schema.record_objects
    query = select(o).order_by(o.c.hash)
    if run_id is not None:
        query = query.where(o.c.hash.in_(select(used.c.hash).where(used.c.run_id == run_id)))
    for row in connection.execute(query):
        if text_hash(row.body) != row.hash:
            yield _of_object(row, run_id, "does not match its hash")
    if run_id is None:
        for row in connection.execute(query.where(o.c.hash.not_in(select(used.c.hash)))):
            yield _of_object(row, run_id, "is used by no record")


def _of_object(row: Row[Any], run_id: str | None, fault: str) -> Problem:
    return Problem(
        run_id=run_id or "", seq=None, kind="object", key=row.hash, sentence=f"Object {row.hash} ({row.kind}) {fault}."
    )
