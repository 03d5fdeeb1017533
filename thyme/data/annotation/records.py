"""A question that a person asked about a place in a large image, and what others said of it."""

from __future__ import annotations

from typing import Final, Literal, get_args

from pydantic import Field

from thyme.types import ImageRecord, Record

Category = Literal["ocr", "attribute", "location", "quantity", "object", "chart"]
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
"""The six that the paper names (section 4.1; its appendix speaks of five)."""

AnswerType = Literal["choice", "text", "number", "yes_no"]
ANSWER_TYPES: Final[tuple[AnswerType, ...]] = get_args(AnswerType)

State = Literal["draft", "submitted", "disputed", "checked", "accepted", "rejected"]
"""How far a question is.

- ``draft``: its author is writing it, or was sent it back.
- ``submitted``: it waits for a second person, who answers it without seeing the author's answer.
- ``disputed``: the second person answered otherwise, or could not; an adjudicator decides.
- ``checked``: it waits for the experts.
- ``accepted``, ``rejected``: it is done.
"""
STATES: Final[tuple[State, ...]] = get_args(State)

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the upright original; right and bottom lie outside."""


class Check(Record):
    """What somebody said of a question who did not write it."""

    person: str
    role: Literal["second", "adjudicator", "expert"]
    verdict: Literal["answered", "unanswerable", "accept", "reject", "return"]
    """``answered`` and ``unanswerable`` of a second person; the others of adjudicators and experts."""
    answer: str = ""
    """As they gave it, without having seen the author's."""
    agrees: bool | None = None
    """Whether that is the author's answer, by rule."""
    category: str = ""
    """As the second person sees it, for agreement figures."""
    reason: str = ""
    at: float = 0.0
    """Seconds since 1970, UTC."""
    seconds: float | None = None
    """That the page was open."""


class Annotation(Record):
    """A question about a collected image. What is exported; drafts may lack most of it."""

    id: str
    """Unique over all; no fact of the answer."""
    image: ImageRecord
    """Upright, without its pixels."""
    question: str = ""
    answer: str = ""
    """Of a choice: the text of the option, not its letter."""
    answer_type: AnswerType = "text"
    choices: tuple[str, ...] = ()
    """Options of a multiple-choice question, without letters; empty for the other types."""
    category: str = ""
    """One of `CATEGORIES`; empty in a draft only."""
    box: Box | None = None
    """Where the answer is to be seen."""
    hidden_when_small: bool | None = None
    """Whether the author looked at the image as the model first sees it, and could not answer from it."""
    state: State = "draft"
    author: str = ""
    checks: tuple[Check, ...] = ()
    source: str = ""
    licence: str = ""
    gold: bool = False
    """Whether its answer is known for sure, so that it measures those who answer."""
    at: float = 0.0
    """When it was submitted first; seconds since 1970, UTC."""
    seconds: float | None = Field(default=None, ge=0)
    """That the author's page was open for it."""
