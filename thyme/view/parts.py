"""The parts of a page and the templates that show them: one look, whether a page stands alone or a server writes it.

Everything that a model, its code or a dataset wrote is escaped by the template engine, which also names what nobody
would see of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pygments import highlight as pygments_highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers.python import PythonLexer

from thyme.types import Execution, Problem, Score, Trajectory
from thyme.view import words
from thyme.view.pictures import Picture, Pictures
from thyme.view.steps import AnswerStep, CodeStep, Thought, steps
from thyme.view.terminal import clean
from thyme.view.unseen import named


@dataclass(frozen=True, slots=True)
class Run:
    """A code block on a page, and what came of it."""

    number: int
    code: Markup
    ran: Markup | None = None
    """The code as it ran, where syntax was repaired."""
    execution: Execution | None = None
    error: str = ""
    remarks: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    running: bool = False
    """Whether it is still being written, or runs now."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One trajectory on a page."""

    anchor: str
    trajectory: Trajectory
    score: Score | None
    steps: Sequence[Thought | AnswerStep | Run]
    stop: str
    facts: dict[str, str]

    @property
    def label(self) -> str:
        """What sets it apart from the other attempts at the same problem."""
        return "with code" if self.trajectory.sampling.tools else "code blocked"

    @property
    def verdict(self) -> str:
        """``right``, ``wrong``, ``failed`` (the machinery did), or empty where it was not scored."""
        return words.verdict(self.trajectory.stop, self.score)


@dataclass(frozen=True, slots=True)
class Case:
    """A problem, and the attempts at it that stand next to each other."""

    anchor: str
    problem: Problem
    pictures: list[Picture]
    attempts: list[Attempt]


def make_scene(problem: Problem, seen: dict[str, tuple[int, int]], pictures: Pictures) -> list[Picture]:
    """The pictures of a problem: each image, and how little of it the model sees at first.

    Args:
        problem: What is asked.
        seen: Width and height in pixels at which the model sees an image, by its id.
        pictures: How images come onto the page.
    """
    scene = []
    for index, image in enumerate(problem.images):
        name, size = f"Input image {index + 1}", seen.get(image.id, image.size)
        note = [] if size == image.size else [f"seen by the model at {size[0]} × {size[1]}"]
        scene.append(pictures.picture(image, f"{name}, {image.width} by {image.height} pixels", *note))
        small = pictures.as_seen(image, size, f"{name} as the model first sees it, {size[0]} by {size[1]} pixels")
        if small is not None:
            scene.append(small)
    return scene


def seen_sizes(trajectory: Trajectory) -> dict[str, tuple[int, int]]:
    """Width and height in pixels at which the model saw each input image, by its id."""
    return {seen.image.id: (seen.seen_width, seen.seen_height) for seen in trajectory.prompt.images}


def make_attempt(anchor: str, trajectory: Trajectory, score: Score | None, pictures: Pictures) -> Attempt:
    """A finished trajectory on a page."""
    shown = [make_run(step, pictures) if isinstance(step, CodeStep) else step for step in steps(trajectory)]
    return Attempt(anchor, trajectory, score, shown, words.stopped(trajectory), words.facts(trajectory))


def make_run(step: CodeStep, pictures: Pictures) -> Run:
    """A code block on a page."""
    execution = step.execution
    if execution is None:
        return Run(step.number, highlight(step.code))
    made = [
        pictures.picture(image, f"Image made by code block {step.number}, {image.width} by {image.height} pixels")
        for image in execution.images
    ]
    changed = execution.ran not in {"", execution.code}
    return Run(
        step.number,
        highlight(step.code),
        highlight(execution.ran) if changed else None,
        execution,
        words.error_line(execution),
        words.remarks(execution),
        made,
    )


def highlight(code: str) -> Markup:
    """Python as spans with classes, escaped by Pygments; what nobody would see is named."""
    return Markup(pygments_highlight(named(code), PythonLexer(), HtmlFormatter(nowrap=True)).rstrip("\n"))


def environment(*loaders: BaseLoader) -> Environment:
    """Templates that escape everything; those of this package stand behind the ones given.

    They name what nobody would see (`thyme.view.unseen`), except in what is markup already: a template that needs a
    text as it is, as the value of a field, says ``| e``.
    """
    made = Environment(
        loader=ChoiceLoader([*loaders, PackageLoader("thyme.view", "templates")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["clean"] = clean
    made.filters["count"] = words.count
    made.tests["answer"] = lambda step: isinstance(step, AnswerStep)
    made.tests["thought"] = lambda step: isinstance(step, Thought)
    made.tests["run"] = lambda step: isinstance(step, Run)
    return made


def _seen(value: Any) -> Any:
    """What a template shows of a value."""
    return named(value) if isinstance(value, str) and not isinstance(value, Markup) else value
