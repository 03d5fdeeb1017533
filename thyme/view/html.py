"""Trajectories as one HTML page that needs nothing beside it: no network, no script, images inlined.

Everything that a model, its code or a dataset wrote is escaped by the template engine, and the page's own policy
forbids scripts, so that not even a mistake here would let text act.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby

from jinja2 import Template

from thyme.types import Score, Trajectory
from thyme.view.parts import Attempt, Case, environment, make_attempt, make_scene, seen_sizes
from thyme.view.pictures import Inlined, Pictures


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
    cases = make_cases(trajectories, scores, Inlined())
    attempts = [attempt for case in cases for attempt in case.attempts]
    return _template().render(title=title, intro=intro, cases=cases, counts=_counts(attempts))


def make_cases(trajectories: Sequence[Trajectory], scores: Sequence[Score | None], pictures: Pictures) -> list[Case]:
    """Problems with their attempts, as pages show them; see `render_page`."""
    known = list(scores) or [None] * len(trajectories)
    attempts = [
        make_attempt(f"t{index + 1}", trajectory, score, pictures)
        for index, (trajectory, score) in enumerate(zip(trajectories, known, strict=True))
    ]
    groups = groupby(attempts, key=lambda attempt: attempt.trajectory.problem.model_dump_json())
    return [_case(f"q{index + 1}", list(group), pictures) for index, (_, group) in enumerate(groups)]


def _case(anchor: str, attempts: list[Attempt], pictures: Pictures) -> Case:
    trajectory = attempts[0].trajectory
    scene = make_scene(trajectory.problem, seen_sizes(trajectory), pictures)
    return Case(anchor, trajectory.problem, scene, attempts)


def _counts(attempts: list[Attempt]) -> str:
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
    return environment().get_template("page.html.j2")
