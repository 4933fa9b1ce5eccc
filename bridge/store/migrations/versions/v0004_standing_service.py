"""What the standing service remembers: webhooks that came in, the targets it watches, and what changed in them.

Also what undoing a fix, withdrawing a finding and sharing the review among people need to know.

And a guard on the audit log: the database itself refuses to change or remove an event, or to move the log's end back.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("pushes", sa.Column("reviewer", sa.String(), nullable=True))
    op.add_column("pushes", sa.Column("withdrawn_at", sa.String(), nullable=True))
    op.create_table(
        "renewals",
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("object_id", sa.String(), nullable=False),
        sa.Column("former_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("target", "object_id", name=op.f("pk_renewals")),
    )
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
    guard = _POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _SQLITE
    for statement in guard:
        op.execute(statement)


_REFUSED = "the audit log only grows"
#: What must not happen: the table, the operation, and the rows it concerns.
_FORBIDDEN = (
    ("events", "UPDATE", "TRUE"),
    ("events", "DELETE", "TRUE"),
    ("event_head", "UPDATE", "NEW.seq <= OLD.seq"),
    ("event_head", "DELETE", "TRUE"),
)
_SQLITE = tuple(
    f"CREATE TRIGGER {table}_no_{operation.lower()} BEFORE {operation} ON {table} WHEN {rows} "
    f"BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
    for table, operation, rows in _FORBIDDEN
)
_POSTGRESQL = (
    "CREATE FUNCTION labelbridge_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$",
    *(
        f"CREATE TRIGGER {table}_no_{operation.lower()} BEFORE {operation} ON {table} FOR EACH ROW WHEN ({rows}) "
        "EXECUTE FUNCTION labelbridge_refuse()"
        for table, operation, rows in _FORBIDDEN
    ),
    "CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events EXECUTE FUNCTION labelbridge_refuse()",
)
