"""The tables of annotation: collections of large images, questions about them, and what others said of these.

Times are seconds since 1970, UTC; lists and boxes are JSON.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Double, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from thyme.studio.models import ID, Base

OPEN: Final = "open"
DONE: Final = "done"
UNSUITABLE: Final = "unsuitable"
"""States of an image: questions may be asked about it; enough have been; put aside with a reason."""


class CollectionRow(Base):
    """A collection; its folder is named when the server starts."""

    __tablename__ = "collections"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    """Name of its folder, without the path."""
    added: Mapped[float] = mapped_column(Double)


class Shot(Base):
    """An image of a collection, and who annotates it now."""

    __tablename__ = "shots"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    """Rises in the order of the collection."""
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id"))
    image: Mapped[str] = mapped_column(String(64))
    """`thyme.types.image_id`."""
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str] = mapped_column(String(20))
    source: Mapped[str] = mapped_column(Text, default="")
    licence: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(20), default=OPEN)
    reason: Mapped[str] = mapped_column(String(100), default="")
    """Why it was put aside."""
    note: Mapped[str] = mapped_column(Text, default="")
    done_by: Mapped[int | None] = mapped_column(ForeignKey("reviewers.id"))
    holder_id: Mapped[int | None] = mapped_column(ForeignKey("reviewers.id"))
    """Who has it, until then."""
    until: Mapped[float] = mapped_column(Double, default=0.0)

    __table_args__ = (
        UniqueConstraint("collection_id", "image", name="uq_shots_image"),
        Index("ix_shots_state", "state", "id"),
        Index("ix_shots_holder", "holder_id", "until"),
    )


class Question(Base):
    """A question about an image, as far as it is written."""

    __tablename__ = "questions"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    uid: Mapped[str] = mapped_column(String(64), unique=True)
    """`Annotation.id`: random, or as it was imported."""
    shot_id: Mapped[int] = mapped_column(ForeignKey("shots.id"))
    author_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    key: Mapped[str | None] = mapped_column(String(64))
    """Made up by the page, so that a request that is sent twice makes one question."""
    question: Mapped[str] = mapped_column(Text, default="")
    answer: Mapped[str] = mapped_column(Text, default="")
    answer_type: Mapped[str] = mapped_column(String(20), default="text")
    choices: Mapped[str] = mapped_column(Text, default="[]")
    category: Mapped[str] = mapped_column(String(20), default="")
    box: Mapped[str] = mapped_column(Text, default="null")
    hidden_when_small: Mapped[bool | None]
    state: Mapped[str] = mapped_column(String(20), default="draft")
    version: Mapped[int] = mapped_column(Integer, default=1)
    """Rises with every change of the fields."""
    round: Mapped[int] = mapped_column(Integer, default=0)
    """How often it was submitted; what others say belongs to one round."""
    returned: Mapped[str] = mapped_column(Text, default="")
    """Why it was sent back, until it is submitted again."""
    gold: Mapped[bool] = mapped_column(default=False)
    created: Mapped[float] = mapped_column(Double)
    submitted: Mapped[float | None] = mapped_column(Double)
    """First."""
    seconds: Mapped[float | None] = mapped_column(Double)
    """That the author's page was open, over all rounds."""

    __table_args__ = (
        UniqueConstraint("author_id", "key", name="uq_questions_key"),
        Index("ix_questions_state", "state", "id"),
        Index("ix_questions_shot", "shot_id", "state"),
        Index("ix_questions_author", "author_id", "state"),
        Index("ix_questions_gold", "gold", "id"),
    )


class CheckRow(Base):
    """What somebody said of a question; nothing is ever deleted, what was taken back says so."""

    __tablename__ = "checks"

    id: Mapped[int] = mapped_column(ID, primary_key=True)
    question_id: Mapped[int] = mapped_column(ForeignKey("questions.id"))
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    round: Mapped[int] = mapped_column(Integer)
    version: Mapped[int] = mapped_column(Integer)
    """Of the question, behind this."""
    role: Mapped[str] = mapped_column(String(20))
    verdict: Mapped[str] = mapped_column(String(20))
    answer: Mapped[str] = mapped_column(Text, default="")
    agrees: Mapped[bool | None]
    category: Mapped[str] = mapped_column(String(20), default="")
    reason: Mapped[str] = mapped_column(String(100), default="")
    note: Mapped[str] = mapped_column(Text, default="")
    gold: Mapped[bool] = mapped_column(default=False)
    """Whether it measures the person; it then says nothing of the question."""
    answer_then: Mapped[str] = mapped_column(Text, default="")
    """The question's own, before this."""
    category_then: Mapped[str] = mapped_column(String(20), default="")
    seconds: Mapped[float | None] = mapped_column(Double)
    created: Mapped[float] = mapped_column(Double)
    undone: Mapped[float | None] = mapped_column(Double)

    __table_args__ = (
        Index("ix_checks_question", "question_id", "reviewer_id"),
        Index("ix_checks_reviewer", "reviewer_id", "created"),
    )


class Hold(Base):
    """A place at a question, kept while somebody looks at it. The key keeps two people from the same place."""

    __tablename__ = "holds"

    question_id: Mapped[int] = mapped_column(ForeignKey("questions.id"), primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"))
    until: Mapped[float] = mapped_column(Double)

    __table_args__ = (
        UniqueConstraint("question_id", "reviewer_id", name="uq_holds_reviewer"),
        Index("ix_holds_reviewer", "reviewer_id", "until"),
    )


class Sight(Base):
    """Somebody was shown the answer of a question that is not theirs, and cannot answer it blindly any more."""

    __tablename__ = "sights"

    question_id: Mapped[int] = mapped_column(ForeignKey("questions.id"), primary_key=True)
    reviewer_id: Mapped[int] = mapped_column(ForeignKey("reviewers.id"), primary_key=True)
