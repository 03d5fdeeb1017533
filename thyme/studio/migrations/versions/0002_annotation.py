"""Annotation: roles of people, collections, questions, and what others said of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ROLES = "annotate second"


def upgrade() -> None:
    """Add the tables; who is known annotates and answers, as anybody new."""
    for table in ("reviewers", "invites"):
        op.add_column(table, sa.Column("roles", sa.String(length=100), nullable=False, server_default=_ROLES))
    _images()
    _questions()
    _checks()


def _images() -> None:
    op.create_table(
        "collections",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("added", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "shots",
        sa.Column("id", _ID, nullable=False),
        sa.Column("collection_id", _ID, nullable=False),
        sa.Column("image", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(length=20), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=100), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("done_by", _ID, nullable=True),
        sa.Column("holder_id", _ID, nullable=True),
        sa.Column("until", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["collections.id"]),
        sa.ForeignKeyConstraint(["done_by"], ["reviewers.id"]),
        sa.ForeignKeyConstraint(["holder_id"], ["reviewers.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("collection_id", "image", name="uq_shots_image"),
    )
    op.create_index("ix_shots_state", "shots", ["state", "id"], unique=False)
    op.create_index("ix_shots_holder", "shots", ["holder_id", "until"], unique=False)


def _questions() -> None:
    op.create_table(
        "questions",
        sa.Column("id", _ID, nullable=False),
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("shot_id", _ID, nullable=False),
        sa.Column("author_id", _ID, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("answer_type", sa.String(length=20), nullable=False),
        sa.Column("choices", sa.Text(), nullable=False),
        sa.Column("category", sa.String(length=20), nullable=False),
        sa.Column("box", sa.Text(), nullable=False),
        sa.Column("hidden_when_small", sa.Boolean(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("returned", sa.Text(), nullable=False),
        sa.Column("gold", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("submitted", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["shot_id"], ["shots.id"]),
        sa.ForeignKeyConstraint(["author_id"], ["reviewers.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("uid"),
        sa.UniqueConstraint("author_id", "key", name="uq_questions_key"),
    )
    op.create_index("ix_questions_state", "questions", ["state", "id"], unique=False)
    op.create_index("ix_questions_shot", "questions", ["shot_id", "state"], unique=False)
    op.create_index("ix_questions_author", "questions", ["author_id", "state"], unique=False)
    op.create_index("ix_questions_gold", "questions", ["gold", "id"], unique=False)


def _checks() -> None:
    op.create_table(
        "checks",
        sa.Column("id", _ID, nullable=False),
        sa.Column("question_id", _ID, nullable=False),
        sa.Column("reviewer_id", _ID, nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("agrees", sa.Boolean(), nullable=True),
        sa.Column("category", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=100), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("gold", sa.Boolean(), nullable=False),
        sa.Column("answer_then", sa.Text(), nullable=False),
        sa.Column("category_then", sa.String(length=20), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("undone", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["question_id"], ["questions.id"]),
        sa.ForeignKeyConstraint(["reviewer_id"], ["reviewers.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_checks_question", "checks", ["question_id", "reviewer_id"], unique=False)
    op.create_index("ix_checks_reviewer", "checks", ["reviewer_id", "created"], unique=False)
    op.create_table(
        "holds",
        sa.Column("question_id", _ID, nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reviewer_id", _ID, nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["question_id"], ["questions.id"]),
        sa.ForeignKeyConstraint(["reviewer_id"], ["reviewers.id"]),
        sa.PrimaryKeyConstraint("question_id", "slot"),
        sa.UniqueConstraint("question_id", "reviewer_id", name="uq_holds_reviewer"),
    )
    op.create_index("ix_holds_reviewer", "holds", ["reviewer_id", "until"], unique=False)


def downgrade() -> None:
    """Drop the tables again."""
    for table in ("holds", "checks", "questions", "shots", "collections"):
        op.drop_table(table)
    for table in ("invites", "reviewers"):
        op.drop_column(table, "roles")
