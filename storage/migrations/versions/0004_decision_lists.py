"""Filter columns of decision lists; those of existing decisions are filled from their records."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NEW: tuple[tuple[str, type[sa.types.TypeEngine[Any]]], ...] = (
    ("mid", sa.Double),
    ("probability", sa.Double),
    ("verified_share", sa.Double),
    ("corrected", sa.Boolean),
    ("tokens", sa.BigInteger),
)
_AT_ONCE = 2_000


def upgrade() -> None:
    for name, kind in _NEW:
        op.add_column("decisions", sa.Column(name, kind(), nullable=True))
    op.create_index("ix_decisions_newest", "decisions", ["run_id", "at", "seq"])
    op.create_index("ix_decisions_reason", "decisions", ["run_id", "reason", "at", "seq"])
    op.create_index("ix_fills_order_id", "fills", ["order_id"])
    _fill()


def _fill() -> None:
    connection = op.get_bind()
    decisions = sa.table("decisions", *(sa.column(n) for n in ("run_id", "id", *(name for name, _ in _NEW))))
    change = (
        sa.update(decisions)
        .where(decisions.c.run_id == sa.bindparam("of_run"), decisions.c.id == sa.bindparam("of_id"))
        .values({name: sa.bindparam(name) for name, _ in _NEW})
    )
    kept = connection.execute(sa.text("SELECT run_id, key, body FROM records WHERE kind = 'decision'"))
    while rows := kept.fetchmany(_AT_ONCE):
        connection.execute(change, [{"of_run": r.run_id, "of_id": r.key, **_listed(json.loads(r.body))} for r in rows])


def _listed(body: dict[str, Any]) -> dict[str, Any]:
    """Columns as of this migration: later changes belong to later migrations."""
    decision = body.get("thought") or {}
    search = decision.get("search") or {}
    belief = search.get("belief") or {}
    return {
        "mid": decision.get("mid"),
        "probability": decision.get("probability"),
        "verified_share": belief.get("verified_share"),
        "corrected": bool(search.get("correction")),
        "tokens": sum(prompt + generated for prompt, _, generated, _ in body["summary"]["tokens"].values()),
    }
