"""Read access to the decision log: runs, records, decisions, orders, fills, outcomes, tokens. Writes nothing but new
runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from market.errors import Misconfigured
from market.types import Fill, PayoutSource, Resolution, Settlement, Transfer
from storage import schema
from storage.canonical import Json, canonical
from storage.chain import GENESIS
from storage.chain_walk import seal
from storage.connection import Database
from storage.lease import Lease, leased
from storage.log import RunLog
from storage.projections import fill_of, resolution_of, settlement_of, signed_order, transfer_of
from storage.records import (
    LedgerRow,
    Phase,
    Record,
    RecordKind,
    Run,
    RunIdentity,
    StoredIntent,
    StoredObject,
)
from storage.rows import add_new, chunks, record_of
from storage.schema import from_us, to_us

_LIST = "See `edgeclaw log list`."
_PHASES = {phase.value: i for i, phase in enumerate(Phase)}


class Journal:
    """The decision log, by run. Instants are aware UTC; lists are in the order of the chain."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def begin_run(self, identity: RunIdentity, manifest: Mapping[str, Json], at: datetime) -> Run:
        """The run with this identity: created, or as stored, finished or not."""
        columns = canonical(identity), canonical(manifest), to_us(at)
        row = {
            "id": identity.id,
            "identity": columns[0],
            "manifest": columns[1],
            "started_at": columns[2],
            "seal": seal(*columns),
            "finished": False,
            "head": GENESIS,
            "length": 0,
        }

        def begin(connection: Connection) -> None:
            add_new(connection, schema.runs, [row])

        # Read first: an existing run, the usual case of a resumed one, takes no write lock. Of two programs that create
        # the same run one insert does nothing, and both read the same row.
        known = await self.run(identity.id)
        if known is not None:
            return known
        await self._db.write(begin)
        return await self.run(identity.id) or _missing_run(identity.id)

    async def runs(self) -> list[Run]:
        """All runs, by start."""
        query = select(schema.runs).order_by(schema.runs.c.started_at, schema.runs.c.id)
        return await self._db.read(lambda c: [_run(row) for row in c.execute(query)])

    async def run(self, run_id: str) -> Run | None:
        query = select(schema.runs).where(schema.runs.c.id == run_id)
        return await self._db.read(lambda c: _run(row) if (row := c.execute(query).one_or_none()) else None)

    def leased(self, account: str, at: datetime) -> AbstractAsyncContextManager[Lease]:
        """Exclusive lease of an account for the duration of the block. Raises NotReady if another program holds it."""
        return leased(self._db, account, at)

    def log(self, run_id: str, lease: Lease | None = None) -> RunLog:
        """The run's log, positioned before its first record; with a `lease`, writable only while that is held."""
        return RunLog(self._db, run_id, lease)

    async def records(self, run_id: str, kind: RecordKind | None = None, *, since: int = 0) -> list[Record]:
        """A run's records, or those of one kind, from number `since` on."""
        return await self._db.read(lambda c: _records(c, run_id, kind, since))

    async def some(self, run_id: str, kinds: Sequence[RecordKind], *, since: int, limit: int) -> list[Record]:
        """The first `limit` records of these kinds from number `since` on."""
        r = schema.records
        query = select(r).where(r.c.run_id == run_id, r.c.seq >= since, r.c.kind.in_([kind.value for kind in kinds]))
        query = query.order_by(r.c.seq).limit(limit)
        return await self._db.read(lambda c: [record_of(row) for row in c.execute(query)])

    async def record(self, run_id: str, kind: RecordKind, key: str) -> Record | None:
        """One record by kind and key."""
        r = schema.records
        query = select(r).where(r.c.run_id == run_id, r.c.kind == kind.value, r.c.key == key)
        return await self._db.read(lambda c: record_of(row) if (row := c.execute(query).one_or_none()) else None)

    async def decision(self, run_id: str | None, prefix: str) -> Record:
        """A decision's record by its id or a prefix of it, in one run or in all.

        Raises Misconfigured if none or several match.
        """
        return await self._db.read(lambda c: _decision(c, run_id, prefix))

    async def object(self, object_hash: str) -> StoredObject | None:
        return (await self.objects([object_hash])).get(object_hash)

    async def objects(self, hashes: Sequence[str]) -> dict[str, StoredObject]:
        """Stored objects by hash, without missing ones; a hash may be given more than once."""
        return await self._db.read(lambda c: _objects(c, hashes))

    async def intents(
        self, run_id: str, status: str | None = None, *, decision_id: str | None = None
    ) -> list[StoredIntent]:
        """Order intents: all, or those of one status or decision."""
        return await self._db.read(lambda c: _intents(c, run_id, status, decision_id))

    async def fills(self, run_id: str) -> list[Fill]:
        return [fill_of(r.body) for r in await self.records(run_id, RecordKind.FILL)]

    async def fills_of(self, order_ids: Sequence[str]) -> list[Fill]:
        """Fills of some orders, recorded by any run."""
        f, r = schema.fills, schema.records
        query = select(r.c.body).join(f, (f.c.run_id == r.c.run_id) & (f.c.seq == r.c.seq))
        query = query.where(f.c.order_id.in_(order_ids)).order_by(f.c.at, f.c.seq)
        return await self._db.read(lambda c: [fill_of(json.loads(body)) for body in c.scalars(query)])

    async def settlements(self, run_id: str) -> list[Settlement]:
        return [settlement_of(r.body) for r in await self.records(run_id, RecordKind.SETTLEMENT)]

    async def transfers(self, run_id: str) -> list[Transfer]:
        return [transfer_of(r.body) for r in await self.records(run_id, RecordKind.TRANSFER)]

    async def outcomes(self, run_id: str) -> list[Resolution]:
        """Resolutions of a run's markets; of two for one market, the official one comes last."""
        return [resolution_of(r.body) for r in await self.records(run_id, RecordKind.OUTCOME)]

    async def outcome_of(self, run_id: str, market_id: str) -> Resolution | None:
        """Resolution of a market as recorded by this run; the official one if there is one."""
        for source in (PayoutSource.OFFICIAL, PayoutSource.INFERRED):
            record = await self.record(run_id, RecordKind.OUTCOME, f"{market_id}/{source}")
            if record is not None:
                return resolution_of(record.body)
        return None

    async def ledger(
        self, run_id: str, *, since: int = 0, decision_id: str | None = None
    ) -> dict[str, tuple[LedgerRow, ...]]:
        """Usage per decision, from record `since` on, or of one, phase by phase, in the order of the decisions."""
        return await self._db.read(lambda c: _ledger(c, run_id, decision_id, since))

    async def spent(self, run_id: str) -> dict[Phase, LedgerRow]:
        """Total usage of the run per phase."""
        return await self._db.read(lambda c: _spent(c, run_id))

    async def micro_usd_since(self, at: datetime) -> float:
        """Micro-dollars of inference of all decisions, of any run, made at `at` or later."""
        return await self._db.read(lambda c: _micro_usd_since(c, to_us(at)))

    async def timings(
        self, run_id: str, *, since: int = 0, decision_id: str | None = None
    ) -> dict[str, dict[str, float]]:
        """Milliseconds by name per decision, from record `since` on, or of one, in the order of the decisions."""
        return await self._db.read(lambda c: _timings(c, run_id, decision_id, since))


def _missing_run(run_id: str) -> Run:
    raise Misconfigured(f"there is no run {run_id}.", next_step="See `edgeclaw log list --runs`.")


def _run(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        identity=RunIdentity(**json.loads(row.identity)),
        manifest=json.loads(row.manifest),
        started_at=from_us(row.started_at),
        finished=row.finished,
        records=row.length,
        head=row.head,
    )


def _records(connection: Connection, run_id: str, kind: RecordKind | None, since: int) -> list[Record]:
    r = schema.records
    query = select(r).where(r.c.run_id == run_id)
    if kind is None or kind is RecordKind.DECISION:
        query = query.where(r.c.seq >= since).order_by(r.c.seq)
        query = query if kind is None else query.where(r.c.kind == kind.value)
        return [record_of(row) for row in connection.execute(query)]
    # Asked to order them, SQLite goes through all decisions for a few of these instead of taking the index by kind.
    found = [record_of(row) for row in connection.execute(query.where(r.c.kind == kind.value))]
    return sorted((record for record in found if record.seq >= since), key=lambda record: record.seq)


def _decision(connection: Connection, run_id: str | None, prefix: str) -> Record:
    d, r = schema.decisions, schema.records
    query = select(r).join(d, (r.c.run_id == d.c.run_id) & (r.c.seq == d.c.seq))
    query = query.where(d.c.id.startswith(prefix, autoescape=True))
    if run_id is not None:
        query = query.where(d.c.run_id == run_id)
    found = connection.execute(query).all()
    exact = [row for row in found if row.key == prefix]
    if len(exact or found) != 1:
        said = f"{len(found)} decisions' ids begin" if found else "no decision's id begins"
        raise Misconfigured(f"{said} with {prefix!r}.", next_step=_LIST)
    return record_of((exact or found)[0])


def _objects(connection: Connection, hashes: Sequence[str]) -> dict[str, StoredObject]:
    o = schema.objects
    found = {}
    for some in chunks(list(dict.fromkeys(hashes))):
        for row in connection.execute(select(o).where(o.c.hash.in_(some))):
            found[row.hash] = StoredObject(row.kind, row.body, row.hash)
    return {h: found[h] for h in hashes if h in found}


def _intents(
    connection: Connection, run_id: str, status: str | None, decision_id: str | None = None
) -> list[StoredIntent]:
    i, r = schema.intents, schema.records
    query = select(i, r.c.body).join(r, (r.c.run_id == i.c.run_id) & (r.c.seq == i.c.seq))
    query = query.where(i.c.run_id == run_id).order_by(i.c.seq)
    if status is not None:
        query = query.where(i.c.status == status)
    if decision_id is not None:
        query = query.where(i.c.decision_id == decision_id)
    found = []
    for row in connection.execute(query):
        signed = signed_order(json.loads(row.body))
        made = from_us(row.created_at)
        found.append(
            StoredIntent(
                run_id=run_id,
                order_id=signed.id,
                decision_id=row.decision_id,
                order=signed.order,
                body=signed.body,
                status=row.status,
                created_at=made,
            )
        )
    return found


def _ledger(
    connection: Connection, run_id: str, decision_id: str | None = None, since: int = 0
) -> dict[str, tuple[LedgerRow, ...]]:
    t, d = schema.token_ledger, schema.decisions
    query = select(t).join(d, (d.c.run_id == t.c.run_id) & (d.c.id == t.c.decision_id)).order_by(d.c.seq)
    query = query.where(t.c.run_id == run_id, d.c.seq >= since)
    if decision_id is not None:
        query = query.where(t.c.decision_id == decision_id)
    found: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.decision_id, []).append(row)
    return {k: tuple(_ledger_row(r) for r in sorted(v, key=lambda r: _PHASES[r.phase])) for k, v in found.items()}


def _micro_usd_since(connection: Connection, at: int) -> float:
    t, d = schema.token_ledger, schema.decisions
    spent = select(func.coalesce(func.sum(t.c.micro_usd), 0.0)).join(
        d, (d.c.run_id == t.c.run_id) & (d.c.id == t.c.decision_id)
    )
    return float(connection.execute(spent.where(d.c.at >= at)).scalar_one())


def _ledger_row(row: Row[Any]) -> LedgerRow:
    return LedgerRow(
        phase=Phase(row.phase),
        prompt=int(row.prompt),  # sums are decimals in other databases than SQLite
        cached=int(row.cached),
        generated=int(row.generated),
        calls=int(row.calls),
        milliseconds=float(row.milliseconds),
        micro_usd=float(row.micro_usd),
    )


def _spent(connection: Connection, run_id: str) -> dict[Phase, LedgerRow]:
    t = schema.token_ledger.c
    columns = (t.prompt, t.cached, t.generated, t.calls, t.milliseconds, t.micro_usd)
    sums = (func.sum(column).label(column.name) for column in columns)
    query = select(t.phase, *sums).where(t.run_id == run_id).group_by(t.phase)
    found = {row.phase: _ledger_row(row) for row in connection.execute(query)}
    return {phase: found[phase.value] for phase in Phase if phase.value in found}


def _timings(
    connection: Connection, run_id: str, decision_id: str | None = None, since: int = 0
) -> dict[str, dict[str, float]]:
    t, d = schema.timings, schema.decisions
    query = select(t).join(d, (d.c.run_id == t.c.run_id) & (d.c.id == t.c.decision_id)).order_by(d.c.seq, t.c.name)
    query = query.where(t.c.run_id == run_id, d.c.seq >= since)
    if decision_id is not None:
        query = query.where(t.c.decision_id == decision_id)
    found: dict[str, dict[str, float]] = {}
    for row in connection.execute(query):
        found.setdefault(row.decision_id, {})[row.name] = row.milliseconds
    return found
