"""What the standing service remembers: webhooks that came in, the targets it watches, and what changed in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hints",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("places", sa.Text(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("moment", sa.String(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.String(), nullable=False),
        sa.Column("taken_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_hints")),
        sa.UniqueConstraint("digest", name=op.f("uq_hints_digest")),
    )
    op.create_index(op.f("ix_hints_taken_at"), "hints", ["taken_at"])
    op.create_table(
        "watches",
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("polled_at", sa.String(), nullable=True),
        sa.Column("next_poll_at", sa.String(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("run_to_push", sa.String(), nullable=True),
        sa.Column("answers_since", sa.String(), nullable=True),
        sa.Column("synced_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_watches")),
    )
    op.create_table(
        "changes",
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("item_id", sa.String(), nullable=False),
        sa.Column("moment", sa.String(), nullable=False),
        sa.Column("first_at", sa.String(), nullable=False),
        sa.Column("last_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("target", "kind", "item_id", name=op.f("pk_changes")),
    )
    op.create_table(
        "turns",
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("journey", sa.String(), nullable=False),
        sa.Column("ended_at", sa.String(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("target", "journey", name=op.f("pk_turns")),
    )
