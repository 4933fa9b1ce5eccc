"""Several places of review for a target, and what an annotation tool forgets: annotators and suggestions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Made again, as SQLite cannot change a primary key; it has one row for each target.
    known = op.get_bind().execute(sa.text("SELECT target, ref, url FROM reviews")).fetchall()
    op.drop_table("reviews")
    reviews = op.create_table(
        "reviews",
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("target", "mode", name=op.f("pk_reviews")),
    )
    op.bulk_insert(
        reviews,
        [
            {"target": r.target, "mode": "issues" if r.target.startswith("cvat:") else "", "ref": r.ref, "url": r.url}
            for r in known
        ],
    )
    op.create_table(
        "handovers",
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_handovers")),
    )
    op.create_table(
        "suggestions",
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("frame", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("recorded_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("place", "frame", "revision", "model", name=op.f("pk_suggestions")),
    )
