"""Which findings were sent to a review without an answer: they may stand there twice, or for nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sendings",
        sa.Column("finding_id", sa.String(length=64), nullable=False),
        sa.Column("review_ref", sa.String(), nullable=False),
        sa.Column("sent_at", sa.String(), nullable=False),
        sa.Column("cut_off", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["finding_id"], ["findings.id"], name=op.f("fk_sendings_finding_id")),
        sa.PrimaryKeyConstraint("finding_id", "review_ref", name=op.f("pk_sendings")),
    )
