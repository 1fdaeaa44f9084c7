"""Runs and their chains, rows attached to decisions, and price history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _chains()
    _listings()
    _costs()
    _history()


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(n, sa.Text(), nullable=False) for n in names]


def _integers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(n, sa.Integer(), nullable=False) for n in names]


def _bigs(*names: str, nullable: bool = False) -> list[sa.Column[int]]:
    return [sa.Column(n, sa.BigInteger(), nullable=nullable) for n in names]


def _flags(*names: str) -> list[sa.Column[bool]]:
    return [sa.Column(n, sa.Boolean(), nullable=False) for n in names]


def _doubles(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(n, sa.Double(), nullable=False) for n in names]


def _of_run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=f"fk_{table}_runs")


def _key(table: str, *names: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*names, name=f"pk_{table}")


def _chains() -> None:
    op.create_table(
        "runs",
        *_texts("id", "identity", "manifest"),
        *_bigs("started_at"),
        *_texts("seal"),
        *_flags("finished"),
        *_texts("head"),
        *_integers("length"),
        _key("runs", "id"),
    )
    op.create_table(
        "records",
        *_texts("run_id"),
        *_integers("seq"),
        *_texts("kind", "key"),
        *_bigs("at"),
        *_texts("body", "prev", "hash"),
        _of_run("records"),
        _key("records", "run_id", "seq"),
        sa.UniqueConstraint("run_id", "kind", "key", name="uq_records"),
    )
    op.create_table("objects", *_texts("hash", "kind", "body"), _key("objects", "hash"))
    op.create_table(
        "record_objects",
        *_texts("run_id"),
        *_integers("seq"),
        *_texts("hash"),
        sa.ForeignKeyConstraint(["hash"], ["objects.hash"], name="fk_record_objects_objects"),
        sa.ForeignKeyConstraint(["run_id", "seq"], ["records.run_id", "records.seq"], name="fk_record_objects_records"),
        _key("record_objects", "run_id", "seq", "hash"),
    )


def _listings() -> None:
    op.create_table(
        "decisions",
        *_texts("run_id", "id"),
        *_integers("seq"),
        *_texts("market_id", "slug"),
        *_bigs("at"),
        *_texts("action", "reason"),
        _of_run("decisions"),
        _key("decisions", "run_id", "id"),
    )
    op.create_index("ix_decisions_at", "decisions", ["at"])
    op.create_table(
        "intents",
        *_texts("run_id", "order_id"),
        *_integers("seq"),
        *_texts("decision_id", "market_id", "status"),
        *_bigs("created_at"),
        _of_run("intents"),
        _key("intents", "run_id", "order_id"),
    )
    op.create_table(
        "fills",
        *_texts("run_id", "fill_id"),
        *_integers("seq"),
        *_texts("order_id", "market_id", "outcome", "side"),
        *_bigs("price_micro", "size", "fee", "at"),
        *_texts("evidence"),
        *_flags("maker"),
        _of_run("fills"),
        _key("fills", "run_id", "fill_id"),
    )
    op.create_table(
        "settlements",
        *_texts("run_id", "market_id", "outcome"),
        *_integers("seq"),
        *_bigs("size", "payout_micro"),
        *_texts("source"),
        *_bigs("at"),
        _of_run("settlements"),
        _key("settlements", "run_id", "market_id", "outcome"),
    )


def _costs() -> None:
    op.create_table(
        "token_ledger",
        *_texts("run_id", "decision_id", "phase"),
        *_bigs("prompt", "cached", "generated", "calls"),
        *_doubles("milliseconds", "micro_usd"),
        _of_run("token_ledger"),
        _key("token_ledger", "run_id", "decision_id", "phase"),
    )
    op.create_table(
        "timings",
        *_texts("run_id", "decision_id", "name"),
        *_doubles("milliseconds"),
        _of_run("timings"),
        _key("timings", "run_id", "decision_id", "name"),
    )


def _history() -> None:
    op.create_table(
        "bars",
        *_texts("source", "market_id"),
        *_integers("step"),
        *_bigs("at"),
        *_bigs("bid", "ask", nullable=True),
        *_bigs("bid_depth", "ask_depth"),
        *_integers("updates"),
        _key("bars", "source", "market_id", "step", "at"),
    )
    op.create_table(
        "observations",
        *_texts("source", "market_id"),
        *_bigs("at"),
        *_integers("seconds_left", "window"),
        *_bigs("mid"),
        *_texts("buckets"),
        *_bigs("payout", "known_at"),
        *_flags("official"),
        _key("observations", "source", "market_id", "at"),
    )
    op.create_index("ix_observations_analogs", "observations", ["source", "window", "seconds_left", "known_at"])
    op.create_table("markets", *_texts("source", "id", "body"), _key("markets", "source", "id"))
    op.create_table(
        "resolutions",
        *_texts("source", "market_id", "payout_source"),
        *_bigs("payout_micro", nullable=True),
        *_bigs("known_at"),
        _key("resolutions", "source", "market_id", "payout_source"),
    )
