"""Append-or-compare: the only writer of a run's chain. Does not decide what is recorded.

A run that stopped is resumed by computing it again from its first record: existing records are compared and must be
identical, missing ones are appended. A finished run is only ever compared.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from threading import Lock

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from market.errors import DataInvalid, Drift, Misconfigured
from market.types import Ack, Fill, Resolution, Settlement, SignedOrder, Transfer
from storage import schema
from storage.canonical import Json, encoded, plain
from storage.chain import GENESIS, difference, link, manifest, text_hash
from storage.connection import Database
from storage.lease import Lease
from storage.projections import PROJECTED, SUMMARY, Projection, project
from storage.records import DecisionRecord, Record, RecordKind, StoredObject
from storage.rows import add_new, record_of
from storage.schema import from_us, to_us

_RECORD = insert(schema.records)
_PROJECTION = {table: insert(table) for table in PROJECTED}
_MOVE = (
    update(schema.runs)
    .where(
        schema.runs.c.id == bindparam("of_run"),
        schema.runs.c.length == bindparam("before"),
        schema.runs.c.finished.is_(False),
    )
    .values(length=bindparam("length"), head=bindparam("head"), finished=bindparam("finished"))
)
_RECOMPUTE = "The code, the model or the data has changed: give the run another identity."


@dataclass(frozen=True, slots=True)
class _Attachments:
    """Rows written beside a record, in the same transaction."""

    objects: Sequence[StoredObject]
    decision: DecisionRecord | None


@dataclass(frozen=True, slots=True)
class _Queued:
    """A record that is not on disk yet."""

    record: Record
    text: str
    attached: _Attachments


class RunLog:
    """One run's log, written in order. Only one program at a time may write to a run.

    Every method returns the record once it is on disk (or once an identical one was found there), except for decisions
    made `together`. Errors: Drift if a record differs from the recorded one, comes after the end, or was written by
    another program; NotReady if another program has taken the account; StoreUnavailable if it could not be written:
    then nothing of it was, and it may be retried.
    """

    def __init__(self, database: Database, run_id: str, lease: Lease | None = None) -> None:
        self.run_id = run_id
        self.appended = 0
        self.compared = 0
        self._db = database
        self._lease = lease
        self._stored: int | None = None
        self._seq = 0
        self._head = GENESIS
        self._batching = False
        self._queue: list[_Queued] = []
        self._turn = Lock()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Write the decisions of this block in one transaction: when it ends, or with the next record of another kind,
        so that no order is on disk, or at a venue, without its decision and all that came before."""
        self._batching = True
        try:
            yield
        finally:
            self._batching = False
            await self._db.call(self._write)

    @property
    def length(self) -> int:
        """Number of the next record."""
        return self._seq

    async def go_on(self) -> None:
        """Continue behind the last record: a run on live data is not computed again."""
        await self._db.call(self._stand_at_end)

    def _stand_at_end(self) -> None:
        self._stored = self._seq = self._known()
        if self._seq:
            r = schema.records
            last = select(r.c.hash).where(r.c.run_id == self.run_id, r.c.seq == self._seq - 1)
            with self._db.reading() as connection:
                self._head = str(connection.scalar(last))

    async def decision(self, d: DecisionRecord) -> Record:
        """Append a decision with its objects, token ledger and timings, all or nothing.

        The record's body is `d.body` with one more key, "summary": the columns of lists.
        """
        if SUMMARY in d.body:
            raise DataInvalid(f"the body of decision {d.id} has a key {SUMMARY!r}, which the log uses itself.")
        shown: dict[str, Json] = {
            "market_id": d.market_id,
            "slug": d.slug,
            "action": d.action,
            "reason": d.reason,
            "objects": manifest(o.hash for o in d.objects),
            "tokens": {r.phase.value: [r.prompt, r.cached, r.generated, r.calls] for r in d.ledger},
        }
        return await self._put(RecordKind.DECISION, d.id, d.at, {**d.body, SUMMARY: shown}, d.objects, d)

    async def intent(self, decision_id: str, signed: SignedOrder, at: datetime, *, view: object, why: str) -> Record:
        """Append an order that is about to be sent, with the view that its decision was based on, which is stored as an
        object."""
        seen = StoredObject.of("view", view)
        body: dict[str, Json] = {
            "decision_id": decision_id,
            "signed": plain(signed),
            "view": seen.hash,
            "why": why,
            "objects": manifest([seen.hash]),
        }
        return await self._put(RecordKind.INTENT, signed.id, at, body, (seen,))

    async def ack(self, ack: Ack, at: datetime) -> Record:
        """Append the venue's answer to an order; one for each status it goes through."""
        return await self._put(RecordKind.ACK, f"{ack.order_id}/{ack.status}", at, _fields(ack))

    async def fill(self, fill: Fill) -> Record:
        return await self._put(RecordKind.FILL, fill.id, fill.at, _fields(fill))

    async def settlement(self, s: Settlement) -> Record:
        return await self._put(RecordKind.SETTLEMENT, f"{s.market_id}/{s.outcome}", s.at, _fields(s))

    async def transfer(self, t: Transfer) -> Record:
        """Append cash that came or went beside trading."""
        return await self._put(RecordKind.TRANSFER, t.id, t.at, _fields(t))

    async def outcome(self, market_id: str, resolution: Resolution, at: datetime) -> Record:
        """Append a market's resolution; an inferred and an official one may follow each other."""
        return await self._put(RecordKind.OUTCOME, f"{market_id}/{resolution.source}", at, _fields(resolution))

    async def gap(self, since: datetime, until: datetime, slots: int, reason: str, at: datetime) -> Record:
        """Append the slots from `since` to `until` without decisions, with the reason."""
        body: dict[str, Json] = {"since": plain(since), "until": plain(until), "slots": slots, "reason": reason}
        return await self._put(RecordKind.GAP, f"gap/{self._seq}", at, body)

    async def stop(self, reason: str, at: datetime) -> Record:
        """Append an orderly end of the program; the run may continue later."""
        return await self._put(RecordKind.STOP, f"stop/{self._seq}", at, {"reason": reason})

    async def end(self, at: datetime, body: Mapping[str, Json]) -> Record:
        """Append the last record: nothing may follow it."""
        return await self._put(RecordKind.END, "end", at, body)

    async def _put(
        self,
        kind: RecordKind,
        key: str,
        at: datetime,
        body: Mapping[str, Json],
        objects: Sequence[StoredObject] = (),
        decision: DecisionRecord | None = None,
    ) -> Record:
        attached = _Attachments(objects, decision)
        if self._may_queue(kind):
            return self._take_position(kind, key, at, encoded(body), attached)
        return await self._db.call(lambda: self._take_position(kind, key, at, encoded(body), attached))

    def _may_queue(self, kind: RecordKind) -> bool:
        """True if a record can be queued without the disk: it only takes its position."""
        new = self._stored is not None and self._seq >= self._stored
        return self._batching and kind is RecordKind.DECISION and new

    def _take_position(self, kind: RecordKind, key: str, at: datetime, text: str, attached: _Attachments) -> Record:
        """Take the next position, atomically, in the worker thread or without it: a cancelled caller leaves the
        position right."""
        with self._turn:
            return self._step(kind, key, at, text, attached)

    def _write(self) -> None:
        """Write the queued records."""
        with self._turn:
            self._flush()

    def _step(self, kind: RecordKind, key: str, at: datetime, text: str, attached: _Attachments) -> Record:
        # In UTC, as it is read back: the hash covers the text of the instant, zone and all.
        at = from_us(to_us(at))
        made = link(self.run_id, self._seq, kind, key, at, text, self._head)
        record = Record(
            run_id=self.run_id,
            seq=self._seq,
            kind=kind,
            key=key,
            at=at,
            body=json.loads(text),
            prev=self._head,
            hash=made,
        )
        if self._seq < self._known():
            self._compare(record)
            self.compared += 1
        else:
            # Position and head below advance only once the flush has succeeded: after an error the same record may be
            # tried again.
            self._queue.append(_Queued(record, text, attached))
            if not self._batching or kind is not RecordKind.DECISION:
                self._flush(record)
            self.appended += 1
        self._seq += 1
        self._head = made
        return record

    def _known(self) -> int:
        """Number of records of the run when this log was first used."""
        if self._stored is None:
            with self._db.reading() as connection:
                count = connection.scalar(select(schema.runs.c.length).where(schema.runs.c.id == self.run_id))
            if count is None:
                raise Misconfigured(f"there is no run {self.run_id} in {self._db.place}.", next_step="Begin it first.")
            self._stored = count
        return self._stored

    def _compare(self, record: Record) -> None:
        r = schema.records
        with self._db.reading() as connection:
            row = connection.execute(select(r).where(r.c.run_id == self.run_id, r.c.seq == record.seq)).one_or_none()
        if row is None:
            raise Drift(f"{_name(record)} is missing from the log.", next_step="Run `edgeclaw log verify`.")
        if (row.kind, row.key, row.hash) == (record.kind, record.key, record.hash):
            return
        differs = difference(record_of(row), record)
        raise Drift(f"{_name(record)} is not what was recorded: {differs}.", next_step=_RECOMPUTE)

    def _flush(self, last: Record | None = None) -> None:
        """Write the queued records, all or nothing. On failure `last` is taken back out of the queue."""
        if not self._queue:
            return
        try:
            with self._db.writing() as connection:
                self._append(connection, self._queue)
        except BaseException:
            if last is not None:
                self._queue.pop()
            raise
        self._queue.clear()

    def _append(self, connection: Connection, queued: Sequence[_Queued]) -> None:
        """Write consecutive records, table by table."""
        records = [w.record for w in queued]
        # In the same transaction as the writes: a new holder cannot come in between.
        if self._lease is not None:
            self._lease.must_hold(connection)
        try:
            self._move_head(connection, records[0], records[-1])
            connection.execute(_RECORD, [_columns(w.record, w.text) for w in queued])
            _write_projections(connection, [made for r in records if (made := project(r)) is not None])
        except IntegrityError as error:
            which = _name(records[-1]) if len(records) == 1 else f"one of {len(records)} from {_name(records[0])} on"
            raise Drift(
                f"{which} cannot be added: the run already holds this {records[-1].kind}.",
                next_step="Stop any other program that writes to this run.",
            ) from error
        _write_objects(connection, queued)
        _write_decisions(connection, self.run_id, [d for w in queued if (d := w.attached.decision) is not None])

    def _move_head(self, connection: Connection, record: Record, last: Record) -> None:
        """Claim the positions from `record` to `last` in the run, which also detects that they are taken."""
        values = {"length": last.seq + 1, "head": last.hash, "finished": last.kind is RecordKind.END}
        if connection.execute(_MOVE, {"of_run": self.run_id, "before": record.seq, **values}).rowcount == 1:
            return
        runs = schema.runs
        row = connection.execute(select(runs.c.length, runs.c.finished).where(runs.c.id == self.run_id)).one()
        if row.length > record.seq:
            raise Drift(
                f"{_name(record)} was written by another program in the meantime.",
                next_step="Let only one program write to a run.",
            )
        raise Drift(f"{_name(record)} comes after the end of the recorded run.", next_step=_RECOMPUTE)


def _fields(value: Ack | Fill | Settlement | Transfer | Resolution) -> dict[str, Json]:
    body = plain(value)
    return dict(body) if isinstance(body, Mapping) else {}


def _name(record: Record) -> str:
    return f"record {record.seq} of run {record.run_id} ({record.kind} {record.key})"


def _columns(record: Record, text: str) -> dict[str, object]:
    return {
        "run_id": record.run_id,
        "seq": record.seq,
        "kind": record.kind.value,
        "key": record.key,
        "at": to_us(record.at),
        "body": text,
        "prev": record.prev,
        "hash": record.hash,
    }


def _write_projections(connection: Connection, made: Sequence[Projection]) -> None:
    """Insert listing rows in order, neighbours of one table in one statement."""
    for (table, amends), group in groupby(made, key=lambda p: (p.table, p.amends)):
        rows = [dict(p.row) for p in group]
        if not amends:
            connection.execute(_PROJECTION[table], rows)
            continue
        for row in rows:
            same = [c == row[c.name] for c in table.primary_key]
            rest = {k: v for k, v in row.items() if k not in table.primary_key}
            connection.execute(update(table).where(*same).values(rest))


def _write_objects(connection: Connection, queued: Sequence[_Queued]) -> None:
    objects: dict[str, StoredObject] = {}
    places: dict[tuple[int, str], dict[str, object]] = {}
    for record, attached in ((w.record, w.attached) for w in queued):
        for o in attached.objects:
            if o.hash not in objects and text_hash(o.text) != o.hash:
                raise DataInvalid(f"{o.kind} {o.hash} of {record.kind} {record.key} is not what its hash says.")
            objects.setdefault(o.hash, o)
            places[record.seq, o.hash] = {"run_id": record.run_id, "seq": record.seq, "hash": o.hash}
    add_new(connection, schema.objects, ({"hash": o.hash, "kind": o.kind, "body": o.text} for o in objects.values()))
    add_new(connection, schema.record_objects, places.values())


def _write_decisions(connection: Connection, run_id: str, decisions: Sequence[DecisionRecord]) -> None:
    """Insert the ledgers and timings of decisions."""
    ledger = (
        {
            "run_id": run_id,
            "decision_id": d.id,
            "phase": row.phase.value,
            "prompt": row.prompt,
            "cached": row.cached,
            "generated": row.generated,
            "calls": row.calls,
            "milliseconds": row.milliseconds,
            "micro_usd": row.micro_usd,
        }
        for d in decisions
        for row in d.ledger
    )
    add_new(connection, schema.token_ledger, ledger)
    timings = (
        {"run_id": run_id, "decision_id": d.id, "name": name, "milliseconds": took}
        for d in decisions
        for name, took in d.timings.items()
    )
    add_new(connection, schema.timings, timings)
