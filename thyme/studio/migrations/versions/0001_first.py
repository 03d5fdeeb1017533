"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables."""
    _accounts()
    _items()
    _reviews()


def _accounts() -> None:
    op.create_table(
        "settings",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "reviewers",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("lead", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "invites",
        sa.Column("id", _ID, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("lead", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("used", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "logins",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("reviewer_id", _ID, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reviewer_id"],
            ["reviewers.id"],
        ),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_logins_reviewer_id", "logins", ["reviewer_id"], unique=False)


def _items() -> None:
    op.create_table(
        "builds",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("added", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "items",
        sa.Column("id", _ID, nullable=False),
        sa.Column("build_id", _ID, nullable=False),
        sa.Column("record", sa.String(length=300), nullable=False),
        sa.Column("scenario", sa.String(length=100), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("teacher", sa.String(length=300), nullable=False),
        sa.Column("kind", sa.String(length=200), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_id"],
            ["builds.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("build_id", "record", name="uq_items_record"),
    )
    op.create_index("ix_items_build_state", "items", ["build_id", "state", "id"], unique=False)
    op.create_index("ix_items_scenario", "items", ["scenario", "state", "id"], unique=False)
    op.create_index("ix_items_state", "items", ["state", "id"], unique=False)
    op.create_table(
        "leases",
        sa.Column("item_id", _ID, nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reviewer_id", _ID, nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"],
            ["items.id"],
        ),
        sa.ForeignKeyConstraint(
            ["reviewer_id"],
            ["reviewers.id"],
        ),
        sa.PrimaryKeyConstraint("item_id", "slot"),
        sa.UniqueConstraint("item_id", "reviewer_id", name="uq_leases_reviewer"),
    )
    op.create_index("ix_leases_reviewer", "leases", ["reviewer_id", "done"], unique=False)
    op.create_index("ix_leases_until", "leases", ["done", "until"], unique=False)


def _reviews() -> None:
    op.create_table(
        "revisions",
        sa.Column("id", _ID, nullable=False),
        sa.Column("item_id", _ID, nullable=False),
        sa.Column("reviewer_id", _ID, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("draft", sa.Text(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"],
            ["items.id"],
        ),
        sa.ForeignKeyConstraint(
            ["reviewer_id"],
            ["reviewers.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_revisions_item_id", "revisions", ["item_id"], unique=False)
    op.create_table(
        "reviews",
        sa.Column("id", _ID, nullable=False),
        sa.Column("item_id", _ID, nullable=False),
        sa.Column("reviewer_id", _ID, nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=100), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("revision_id", _ID, nullable=True),
        sa.Column("decision", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("undone", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["item_id"],
            ["items.id"],
        ),
        sa.ForeignKeyConstraint(
            ["reviewer_id"],
            ["reviewers.id"],
        ),
        sa.ForeignKeyConstraint(
            ["revision_id"],
            ["revisions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_reviews_item_id", "reviews", ["item_id"], unique=False)
    op.create_index("ix_reviews_reviewer", "reviews", ["reviewer_id", "created"], unique=False)


def downgrade() -> None:
    """Drop all tables."""
    op.drop_index("ix_reviews_reviewer", table_name="reviews")
    op.drop_index("ix_reviews_item_id", table_name="reviews")
    op.drop_table("reviews")
    op.drop_index("ix_revisions_item_id", table_name="revisions")
    op.drop_table("revisions")
    op.drop_index("ix_leases_reviewer", table_name="leases")
    op.drop_index("ix_leases_until", table_name="leases")
    op.drop_table("leases")
    op.drop_index("ix_logins_reviewer_id", table_name="logins")
    op.drop_table("logins")
    op.drop_index("ix_items_state", table_name="items")
    op.drop_index("ix_items_scenario", table_name="items")
    op.drop_index("ix_items_build_state", table_name="items")
    op.drop_table("items")
    op.drop_table("settings")
    op.drop_table("reviewers")
    op.drop_table("invites")
    op.drop_table("builds")
