"""A record on its way through the factory: a draft, or a rejection with its reason.

A draft is frozen; a stage returns a new one. What scoring and teachers know beyond the question (angles, boxes) lies in
`Draft.hints` and never reaches the stored trajectory's texts, names or prompts.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from thyme.types import Problem, Record, Segment, Trajectory


class Costs(Record):
    """What making a record took."""

    requests: int = 0
    """Sent to teachers and checks; answers that were recorded before are not among them."""
    recorded: int = 0
    """Answers that were taken from the record instead."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: dict[str, float] = Field(default_factory=dict)
    """Wall clock by stage."""


class Verdict(Record):
    """What a model said of a finished record."""

    judge: str
    fits: bool | None = None
    """Whether what the code gave fits the question and the reasoning."""
    needed: bool | None = None
    """Whether code was needed."""
    reason: str = ""


class Said(Record):
    """A turn of the conversation with the teacher, as it was sent or came; images by id."""

    role: str
    text: str
    images: tuple[str, ...] = ()


class Draft(Record):
    """A record on its way."""

    id: str
    """``SOURCE-INDEX-SCENARIO``; unique in a build, and no fact of the answer."""
    scenario: str
    seed: int
    source: str
    """Name of the source in the recipe."""
    origin: Problem
    """The problem as it was read."""
    problem: Problem
    """The problem as it will be asked: `origin` until it is prepared (turned, paled, ...)."""
    hints: dict[str, Any] = Field(default_factory=dict)
    """What the teacher is told and acceptance compares with: boxes in pixels of the prepared image, angles, ..."""
    teacher: str = ""
    """Name of the model that wrote it."""
    conversation: tuple[Said, ...] = ()
    segments: tuple[Segment, ...] = ()
    """What the teacher wrote and the sandbox gave, as they will be stored."""
    finished: bool = False
    """Whether the teacher has answered."""
    trajectory: Trajectory | None = None
    """The record that is stored, once it is finished."""
    verdicts: tuple[Verdict, ...] = ()
    costs: Costs = Costs()


class Rejection(Record):
    """A record that was dropped: where, and why."""

    id: str
    scenario: str
    source: str
    stage: str
    reason: str
    """In one word, under which it is counted."""
    note: str = ""
    """A sentence about this one."""
    draft: Draft
    """As far as it came."""

    @classmethod
    def of(cls, draft: Draft, stage: str, reason: str, note: str = "") -> Rejection:
        """Reject a draft."""
        return cls(
            id=draft.id,
            scenario=draft.scenario,
            source=draft.source,
            stage=stage,
            reason=reason,
            note=note,
            draft=draft,
        )
