"""Who was shown the answer of a question."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table; who judged a question before is known without it."""
    op.create_table(
        "sights",
        sa.Column("question_id", _ID, nullable=False),
        sa.Column("reviewer_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(["question_id"], ["questions.id"]),
        sa.ForeignKeyConstraint(["reviewer_id"], ["reviewers.id"]),
        sa.PrimaryKeyConstraint("question_id", "reviewer_id"),
    )


def downgrade() -> None:
    """Drop it again."""
    op.drop_table("sights")
