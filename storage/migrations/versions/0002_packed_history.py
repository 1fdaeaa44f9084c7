"""Bars in chunks, buckets as numbers, states for distances; existing rows are carried over.

`storage.chunks` names the layout in each chunk's first byte and keeps reading every layout it ever wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import op

from storage.chunks import EMPTY, BarColumns, by_chunk, pack

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OLD = "observations_0001"
_AT_ONCE = 10_000


def upgrade() -> None:
    _set_aside()
    _create()
    _carry_bars()
    _carry_observations()
    op.drop_table("bars")
    op.drop_table(_OLD)


def _columns(kind: type[sa.types.TypeEngine[Any]], *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind(), nullable=False) for name in names]


def _set_aside() -> None:
    op.drop_index("ix_observations_analogs", "observations")
    op.rename_table("observations", _OLD)
    if op.get_bind().dialect.name == "postgresql":  # where the names of constraints belong to the schema
        op.execute(f"ALTER TABLE {_OLD} RENAME CONSTRAINT pk_observations TO pk_{_OLD}")


def _create() -> None:
    op.create_table(
        "bar_series",
        *_columns(sa.Integer, "id"),
        *_columns(sa.Text, "source", "market_id"),
        *_columns(sa.Integer, "step"),
        sa.PrimaryKeyConstraint("id", name="pk_bar_series"),
        sa.UniqueConstraint("source", "market_id", "step", name="uq_bar_series"),
    )
    op.create_table(
        "bar_chunks",
        sa.Column("series", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("chunk", sa.BigInteger(), nullable=False, autoincrement=False),
        *_columns(sa.LargeBinary, "body"),
        sa.ForeignKeyConstraint(["series"], ["bar_series.id"], name="fk_bar_chunks_bar_series"),
        sa.PrimaryKeyConstraint("series", "chunk", name="pk_bar_chunks"),
    )
    op.create_table(
        "vocabulary",
        *_columns(sa.Integer, "id"),
        *_columns(sa.Text, "feature", "bucket"),
        sa.PrimaryKeyConstraint("id", name="pk_vocabulary"),
        sa.UniqueConstraint("feature", "bucket", name="uq_vocabulary"),
    )
    op.create_table(
        "observations",
        *_columns(sa.Integer, "id"),
        *_columns(sa.Text, "source", "market_id"),
        *_columns(sa.BigInteger, "at"),
        *_columns(sa.Integer, "seconds_left", "window"),
        *_columns(sa.BigInteger, "mid"),
        *_columns(sa.LargeBinary, "buckets", "state"),
        *_columns(sa.BigInteger, "payout", "known_at"),
        *_columns(sa.Boolean, "official"),
        sa.PrimaryKeyConstraint("id", name="pk_observations"),
        sa.UniqueConstraint("source", "market_id", "at", name="uq_observations"),
    )
    op.create_index("ix_observations_source", "observations", ["source", "window", "id"])


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(c) for c in columns))


def _rows(query: sa.Select[Any]) -> Iterator[sa.Row[Any]]:
    return iter(op.get_bind().execute(query, execution_options={"yield_per": _AT_ONCE}))


def _carry_bars() -> None:
    key = ("source", "market_id", "step")
    old = _table("bars", *key, "at", "bid", "ask", "bid_depth", "ask_depth", "updates")
    series = _table("bar_series", "id", *key)
    chunks = _table("bar_chunks", "series", "chunk", "body")
    order = [old.c[name] for name in (*key, "at")]
    for (source, market_id, step), rows in groupby(_rows(sa.select(old).order_by(*order)), attrgetter(*key)):
        found = [[EMPTY if value is None else int(value) for value in tuple(row)[3:]] for row in rows]
        bars = BarColumns(*np.array(found, np.int64).T)
        op.get_bind().execute(series.insert(), {"source": source, "market_id": market_id, "step": step})
        same = (series.c.source == source) & (series.c.market_id == market_id) & (series.c.step == step)
        number = op.get_bind().scalar(sa.select(series.c.id).where(same))
        op.bulk_insert(
            chunks, [{"series": number, "chunk": n, "body": pack(n, part, step)} for n, part in by_chunk(bars, step)]
        )


def _carry_observations() -> None:
    kept = ("source", "market_id", "at", "seconds_left", "window", "mid", "payout", "known_at", "official")
    old = _table(_OLD, *kept, "buckets")
    new = _table("observations", *kept, "buckets", "state")
    texts = [row.buckets for row in _rows(sa.select(old.c.buckets).distinct())]
    words = sorted({pair for text in texts for pair in json.loads(text).items()})
    vocabulary = _table("vocabulary", "id", "feature", "bucket")
    op.bulk_insert(vocabulary, [{"feature": feature, "bucket": bucket} for feature, bucket in words])
    number = {(row.feature, row.bucket): row.id for row in _rows(sa.select(vocabulary))}
    packed = {t: np.array(sorted(number[p] for p in json.loads(t).items()), "<u2").tobytes() for t in texts}
    in_order = sa.select(old).order_by(old.c.known_at, old.c.at, old.c.market_id)
    for rows in op.get_bind().execute(in_order, execution_options={"yield_per": _AT_ONCE}).partitions():
        op.bulk_insert(
            new, [{**{n: getattr(r, n) for n in kept}, "buckets": packed[r.buckets], "state": b""} for r in rows]
        )
