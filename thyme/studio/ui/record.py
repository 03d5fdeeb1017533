"""A record as its page shows it: what is asked, what was written and what came of it, and what is known beside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from thyme.data.drafts import Draft, Said, Verdict
from thyme.data.scenarios.boxes import boxes_of
from thyme.studio.records import title_of
from thyme.types import Problem
from thyme.view.parts import Run, highlight, make_run, make_scene
from thyme.view.pictures import Linked, Picture
from thyme.view.steps import AnswerStep, CodeStep, Thought, segment_steps


@dataclass(frozen=True, slots=True)
class Block:
    """A code block that ran."""

    run: Run
    """With the code as it is trained on: as it ran."""
    written: Markup | None
    """The code as it was written, where that is something else."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a model said of the record."""

    judge: str
    words: str
    reason: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A record on a page."""

    title: str
    """Of its scenario."""
    problem: Problem
    pictures: Sequence[Picture]
    boxes: str
    """JSON: boxes that were prepared, in pixels of the first image; empty where there are none."""
    steps: Sequence[Thought | AnswerStep | Block]
    facts: dict[str, str]
    checks: Sequence[Checked]
    told: Sequence[Said]
    """What the teacher was told; not what it answered, nor what the sandbox gave, which the steps show."""


def show(item_id: int, draft: Draft) -> Shown:
    """A record on a page.

    Args:
        item_id: Under which the server has its images.
        draft: Without pixels, as it was made or changed.
    """
    pictures = Linked(f"/api/items/{item_id}/images")
    return Shown(
        title_of(draft.scenario),
        draft.problem,
        make_scene(draft.problem, {}, pictures),
        _boxes(draft),
        list(_steps(draft, pictures)),
        {"Teacher": draft.teacher, "Kind": draft.problem.kind, **_prepared(draft)},
        [_checked(verdict) for verdict in draft.verdicts],
        _told(draft.conversation),
    )


def _steps(draft: Draft, pictures: Linked) -> Iterator[Thought | AnswerStep | Block]:
    for step in segment_steps(draft.segments):
        yield _block(step, pictures) if isinstance(step, CodeStep) else step


def _block(step: CodeStep, pictures: Linked) -> Block:
    execution = step.execution
    if execution is None or execution.ran in {"", execution.code}:
        return Block(make_run(step, pictures), None)
    ran = execution.model_copy(update={"code": execution.ran})
    return Block(make_run(CodeStep(step.number, ran.code, ran), pictures), highlight(execution.code))


def _told(conversation: Sequence[Said]) -> list[Said]:
    """The turns before the teacher's first."""
    found: list[Said] = []
    for turn in conversation:
        if turn.role == "assistant":
            break
        found.append(turn)
    return found


def _boxes(draft: Draft) -> str:
    given = draft.hints.get("boxes") or [list(box) for box in boxes_of(draft.problem)]
    boxes = [box for box in given if isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))]
    return json.dumps(boxes) if boxes and draft.problem.images else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _prepared(draft: Draft) -> dict[str, str]:
    """What the teacher was told about the preparation, as it is stored."""
    return {
        name.replace("_", " ").capitalize(): json.dumps(value, ensure_ascii=False)
        for name, value in draft.hints.items()
    }


def _checked(verdict: Verdict) -> Checked:
    fits = {True: "it fits", False: "it does not fit", None: "no verdict"}[verdict.fits]
    needed = {True: "code was needed", False: "code was not needed", None: ""}[verdict.needed]
    return Checked(verdict.judge, ", ".join(filter(None, (fits, needed))), verdict.reason)
