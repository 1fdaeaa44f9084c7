"""Dialect-specific SQL, and conversion of rows to records. Knows no table's meaning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Row, Table, insert
from sqlalchemy.dialects import sqlite

from market.errors import Drift
from storage.records import Record, RecordKind
from storage.schema import from_us

# Databases limit the bound parameters of a statement (SQLite before 3.32: 999).
CHUNK = 500
"""Values in one IN list."""


@cache
def insert_new(table: Table, dialect: str) -> Insert:
    """An insert that leaves existing rows with the same key alone."""
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    if dialect == "postgresql":
        # here, because it takes as long to import as all the tables
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table).on_conflict_do_nothing()
    return insert(table)


def add_new(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert the rows that do not exist yet."""
    found = [dict(r) for r in rows]
    if found:
        connection.execute(insert_new(table, connection.dialect.name), found)


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for i in range(0, len(values), CHUNK):
        yield values[i : i + CHUNK]


def record_of(row: Row[Any]) -> Record:
    """Raises Drift where the row is damaged."""
    try:
        return Record(
            run_id=row.run_id,
            seq=row.seq,
            kind=RecordKind(row.kind),
            key=row.key,
            at=from_us(row.at),
            body=json.loads(row.body),
            prev=row.prev,
            hash=row.hash,
        )
    except (ValueError, TypeError, ArithmeticError) as error:
        said = (
            f"record {row.seq} of run {row.run_id} ({row.kind} {row.key}) is damaged: {type(error).__name__} {error}."
        )
        raise Drift(said, next_step="Run: edgeclaw log verify") from None
