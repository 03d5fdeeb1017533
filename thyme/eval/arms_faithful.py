"""Whether the model looked where the answer is: the crops of a trajectory against the boxes of its problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from thyme.eval.crops import Box, CropFinder, Place, overlap
from thyme.eval.items import Faithfulness
from thyme.types import Problem, Trajectory

Target: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom; pixels of the problem's first image."""

COVERAGE = 0.5
"""Share of a target that a crop must show to count as covering it."""


def faithfulness(trajectory: Trajectory, problem: Problem, *, bound: float = COVERAGE) -> Faithfulness | None:
    """Hold what the trajectory looked at against the boxes of the problem.

    A problem with several targets has each of them compared with the crop that shows most of it; the target that is
    shown worst counts, as all of them are needed for the answer. A crop whose place is not certain (two places look
    the same) counts for nothing, nor does the whole picture at any size, which shows every target and chose none.

    Args:
        trajectory: With the pixels of what came back.
        problem: With its images; ``meta["boxes"]`` or ``meta["box"]`` in pixels of the first of them.
        bound: Share of the target that must be shown.

    Returns:
        None where no target is known, or the pixels are not at hand: nothing can be said. ``covered`` is False where
        code ran and nothing was looked at, None where no code ran, or what came back was the whole picture, or no crop
        of a certain place.
    """
    targets = targets_of(problem)
    shown = [image for observation in trajectory.observations for image in observation.execution.images]
    if not targets or not problem.images or not all(image.loaded for image in (*problem.images, *shown)):
        return None
    whole = (0, 0, *problem.images[0].size)
    crops = [place for place in places(trajectory, problem) if place.image == 0 and place.certain]
    boxes = tuple(place.box for place in crops if place.box != whole)
    if not boxes:
        return Faithfulness(covered=False if trajectory.observations and not shown else None)
    coverage = min(max(_covered(target, box) for box in boxes) for target in targets)
    return Faithfulness(
        boxes=boxes,
        coverage=coverage,
        iou=min(max(_iou(target, box) for box in boxes) for target in targets),
        covered=coverage >= bound,
    )


def targets_of(problem: Problem) -> list[Target]:
    """Where the answer is, as the problem's facts say; empty where they do not, or not as boxes that have an area."""
    told = problem.meta.get("boxes") or ([problem.meta["box"]] if problem.meta.get("box") else [])
    found = [_target(box) for box in told] if isinstance(told, Sequence) and not isinstance(told, str) else []
    return [target for target in found if target is not None]


def _target(box: Any) -> Target | None:
    if not isinstance(box, Sequence) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        return None
    left, top, right, bottom = (float(v) for v in box)
    return (left, top, right, bottom) if left < right and top < bottom else None


def places(trajectory: Trajectory, problem: Problem) -> Iterator[Place]:
    """Where each image that came back was cut out of the problem's images; images that are no crops are left out."""
    finder = CropFinder(problem)
    for observation in trajectory.observations:
        yield from (place for place in finder.places(observation.execution) if place is not None)


def _covered(target: Target, box: Box) -> float:
    """Share of the target that lies in the box."""
    return overlap(target, box) / overlap(target, target)


def _iou(target: Target, box: Box) -> float:
    common = overlap(target, box)
    return common / (overlap(target, target) + overlap(box, box) - common)
