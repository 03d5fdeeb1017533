"""The tables. A change here needs a migration in ``thyme/studio/migrations``; a test holds the two together.

Times are seconds since 1970, UTC. Secrets of links and browsers are stored as hashes.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

OPEN: Final = "open"
ACCEPTED: Final = "accept"
REJECTED: Final = "reject"
DISPUTED: Final = "disputed"
STATES: Final = (OPEN, ACCEPTED, REJECTED, DISPUTED)
"""Of an item: still to be reviewed; decided; or decided differently by its reviewers, for a lead to decide."""

ROLES: Final = ("annotate", "second", "expert")
"""What people may do in annotation; who leads may do all of it, and adjudicates."""
_USUAL = "annotate second"

ID: Final = BigInteger().with_variant(Integer, "sqlite")
"""Type of numbers of rows: SQLite counts them by itself only as INTEGER."""


class Base(DeclarativeBase):
    """All tables."""


class Setting(Base):
    """What the server keeps for itself."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Build(Base):
    """A build whose records are reviewed; its folder is named when the server starts."""

    __tablename__ = "builds"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    """Name of its folder, without the path."""
    added: Mapped[float] = mapped_column(Double)


class Item(Base):
    """A record to be reviewed; what people filter by stands here, the rest in the folder of its build."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    """Rises in the order of the build."""
    build_id: Mapped[int] = mapped_column(ForeignKey("builds.id"))
    record: Mapped[str] = mapped_column(String(300))
    """Id of the draft."""
    scenario: Mapped[str] = mapped_column(String(100))
    source: Mapped[str] = mapped_column(String(200))
    teacher: Mapped[str] = mapped_column(String(300))
    kind: Mapped[str] = mapped_column(String(200))
    rounds: Mapped[int]
    """Code blocks."""
    question: Mapped[str] = mapped_column(Text)
    wanted: Mapped[int]
    """Reviews: 1, or 2 of different people."""
    state: Mapped[str] = mapped_column(String(20), default=OPEN)

    __table_args__ = (
        UniqueConstraint("build_id", "record", name="uq_items_record"),
        Index("ix_items_state", "state", "id"),
        Index("ix_items_build_state", "build_id", "state", "id"),
        Index("ix_items_scenario", "scenario", "state", "id"),
    )


class Reviewer(Base):
    """A person."""

    __tablename__ = "reviewers"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    lead: Mapped[bool] = mapped_column(default=False)
    """Whether they decide disputes, invite, and export."""
    active: Mapped[bool] = mapped_column(default=True)
    roles: Mapped[str] = mapped_column(String(100), default=_USUAL, server_default=_USUAL)
    """Of `ROLES`, with spaces between."""
    created: Mapped[float] = mapped_column(Double)


class Invite(Base):
    """A link that lets somebody in, once."""

    __tablename__ = "invites"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    """Whom it makes or lets in again."""
    lead: Mapped[bool] = mapped_column(default=False)
    roles: Mapped[str] = mapped_column(String(100), default=_USUAL, server_default=_USUAL)
    """Of a person that it makes."""
    created: Mapped[float] = mapped_column(Double)
    expires: Mapped[float] = mapped_column(Double)
    used: Mapped[float | None] = mapped_column(Double)


class Login(Base):
    """A browser that was let in."""

    __tablename__ = "logins"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"), index=True)
    created: Mapped[float] = mapped_column(Double)
    expires: Mapped[float] = mapped_column(Double)


class Lease(Base):
    """A place at an item: kept while a reviewer looks at it, and for good once they have said something.

    The key is what keeps two people from the same place, on every database.
    """

    __tablename__ = "leases"

    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"), primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """0, or 1 where a second review is wanted."""
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    until: Mapped[float] = mapped_column(Double)
    done: Mapped[bool] = mapped_column(default=False)
    """Whether their review stands; then it does not run out."""

    __table_args__ = (
        UniqueConstraint("item_id", "reviewer_id", name="uq_leases_reviewer"),
        Index("ix_leases_reviewer", "reviewer_id", "done"),
        Index("ix_leases_until", "done", "until"),
    )


class Revision(Base):
    """A record as a reviewer changed it, with what its code then gave."""

    __tablename__ = "revisions"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"), index=True)
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    created: Mapped[float] = mapped_column(Double)
    draft: Mapped[str] = mapped_column(Text)
    """`thyme.data.drafts.Draft` as JSON, without pixels."""
    fault: Mapped[str] = mapped_column(Text, default="")
    """Why it cannot be accepted; empty: it can."""


class ReviewRow(Base):
    """What a reviewer said of an item; nothing is ever deleted, what was taken back says so."""

    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id"), index=True)
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    verdict: Mapped[str] = mapped_column(String(20))
    """``accept`` or ``reject``."""
    reason: Mapped[str] = mapped_column(String(100), default="")
    note: Mapped[str] = mapped_column(Text, default="")
    revision_id: Mapped[int | None] = mapped_column(ForeignKey("revisions.id"))
    """What was accepted; None: the record as it was made."""
    decision: Mapped[bool] = mapped_column(default=False)
    """Whether a lead decided, over what reviewers said."""
    seconds: Mapped[float | None] = mapped_column(Double)
    """That the page was open."""
    created: Mapped[float] = mapped_column(Double)
    undone: Mapped[float | None] = mapped_column(Double)
    """When it was taken back."""

    __table_args__ = (Index("ix_reviews_reviewer", "reviewer_id", "created"),)
