"""Chain marks: one row per run, with the number of its records that a start has verified and the hash of the last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chain_marks",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_chain_marks_runs"),
        sa.PrimaryKeyConstraint("run_id", name="pk_chain_marks"),
    )
