"""Trajectories as one HTML page that needs nothing beside it: no network, no script, images inlined.

Everything that a model, its code or a dataset wrote is escaped by the template engine, and the page's own policy
forbids scripts, so that not even a mistake here would let text act.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers.python import PythonLexer

from thyme.types import Execution, Problem, Score, StopReason, Trajectory
from thyme.view import words
from thyme.view.pictures import Picture, as_seen, picture
from thyme.view.steps import AnswerStep, CodeStep, Step, steps


@dataclass(frozen=True, slots=True)
class _Run:
    """A code block on the page."""

    number: int
    code: Markup
    ran: Markup | None
    """The code as it ran, where syntax was repaired."""
    execution: Execution | None
    error: str
    remarks: list[str]
    pictures: list[Picture]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One trajectory on the page."""

    anchor: str
    trajectory: Trajectory
    score: Score | None
    steps: list[Step | _Run]
    stop: str
    facts: dict[str, str]

    @property
    def label(self) -> str:
        """What sets it apart from the other attempts at the same problem."""
        return "with code" if self.trajectory.sampling.tools else "code blocked"

    @property
    def verdict(self) -> str:
        """``right``, ``wrong``, ``failed`` (the machinery did), or empty where it was not scored."""
        if self.trajectory.stop is StopReason.ERROR:
            return "failed"
        if self.score is None or self.score.value is None:
            return ""
        return "right" if self.score.value >= 0.5 else "wrong"


@dataclass(frozen=True, slots=True)
class _Case:
    """A problem, and the attempts at it that stand next to each other."""

    anchor: str
    problem: Problem
    pictures: list[Picture]
    attempts: list[_Attempt]


def render_page(
    trajectories: Sequence[Trajectory], title: str, *, scores: Sequence[Score | None] = (), intro: str = ""
) -> str:
    """Make the page.

    Args:
        trajectories: In the order in which they are shown; neighbours with the same problem share its scene.
        title: Heading of the page.
        scores: One for each trajectory, where there are any.
        intro: A sentence or two under the heading.

    Returns:
        A complete HTML document.

    Raises:
        ValueError: There are scores, but not one for each trajectory.
    """
    known = list(scores) or [None] * len(trajectories)
    attempts = [
        _attempt(f"t{index + 1}", trajectory, score)
        for index, (trajectory, score) in enumerate(zip(trajectories, known, strict=True))
    ]
    groups = groupby(attempts, key=lambda attempt: attempt.trajectory.problem.model_dump_json())
    cases = [_case(f"q{index + 1}", list(group)) for index, (_, group) in enumerate(groups)]
    return _template().render(title=title, intro=intro, cases=cases, counts=_counts(attempts))


def _case(anchor: str, attempts: list[_Attempt]) -> _Case:
    trajectory = attempts[0].trajectory
    seen = {s.image.id: (s.seen_width, s.seen_height) for s in trajectory.prompt.images}
    pictures = []
    for index, image in enumerate(trajectory.problem.images):
        name, size = f"Input image {index + 1}", seen.get(image.id, image.size)
        note = [] if size == image.size else [f"seen by the model at {size[0]} × {size[1]}"]
        pictures.append(picture(image, f"{name}, {image.width} by {image.height} pixels", *note))
        small = as_seen(image, size, f"{name} as the model first sees it, {size[0]} by {size[1]} pixels")
        if small is not None:
            pictures.append(small)
    return _Case(anchor, trajectory.problem, pictures, attempts)


def _attempt(anchor: str, trajectory: Trajectory, score: Score | None) -> _Attempt:
    shown: list[Step | _Run] = [_run(step) if isinstance(step, CodeStep) else step for step in steps(trajectory)]
    stop = words.STOPS[trajectory.stop]
    if trajectory.error is not None:
        stop += f": {trajectory.error.message} ({trajectory.error.where})"
    return _Attempt(anchor, trajectory, score, shown, stop, words.facts(trajectory))


def _run(step: CodeStep) -> _Run:
    execution = step.execution
    if execution is None:
        return _Run(step.number, _highlight(step.code), None, None, "", [], [])
    made = [
        picture(image, f"Image made by code block {step.number}, {image.width} by {image.height} pixels")
        for image in execution.images
    ]
    changed = execution.ran not in {"", execution.code}
    return _Run(
        step.number,
        _highlight(step.code),
        _highlight(execution.ran) if changed else None,
        execution,
        words.error_line(execution),
        words.remarks(execution),
        made,
    )


def _highlight(code: str) -> Markup:
    """Python as spans with classes; everything inside them is escaped by Pygments."""
    return Markup(highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip("\n"))


def _counts(attempts: list[_Attempt]) -> str:
    """How many there are, and how many were right."""
    verdicts = [attempt.verdict for attempt in attempts]
    parts = [f"{len(attempts)} {'trajectory' if len(attempts) == 1 else 'trajectories'}"]
    if "right" in verdicts or "wrong" in verdicts:
        parts.append(f"{verdicts.count('right')} right, {verdicts.count('wrong')} wrong")
    if failed := verdicts.count("failed"):
        parts.append(f"{failed} failed")
    return " · ".join(parts)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("thyme.view", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["answer"] = lambda step: isinstance(step, AnswerStep)
    environment.tests["run"] = lambda step: isinstance(step, _Run)
    return environment.get_template("page.html.j2")
