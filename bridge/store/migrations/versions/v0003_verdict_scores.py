"""The score that a finding had when it was judged, and which findings were drawn to estimate the rate of errors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("verdicts", sa.Column("score", sa.Float(), nullable=True))
    # The closest there is for verdicts that are known already.
    op.execute(
        "UPDATE verdicts SET score = (SELECT findings.score FROM findings WHERE findings.id = verdicts.finding_id)"
    )
    with op.batch_alter_table("verdicts") as table:
        table.alter_column("score", nullable=False)
    op.create_table(
        "samples",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("finding_id", sa.String(length=64), nullable=False),
        sa.Column("stratum", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("drawn_at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_samples_run_id")),
        sa.ForeignKeyConstraint(["finding_id"], ["findings.id"], name=op.f("fk_samples_finding_id")),
        sa.PrimaryKeyConstraint("run_id", "finding_id", name=op.f("pk_samples")),
    )
