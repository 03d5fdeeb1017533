"""The arms that ask what free code adds to cropping, and what a crop adds to having seen something at all."""

from __future__ import annotations

import random

from thyme.eval.arms_change import Case, Change, noted
from thyme.eval.crops import Box, CropFinder, Place, cut, overlap
from thyme.types import Execution, ImageRecord

CROP_ONLY = "crop_only"
"""Arm: nothing but crops of the problem's images comes back."""
PLACEBO = "placebo"
"""Arm: each crop is replaced by a random one of the same size."""

REFUSED = "(only crops of the input images come back)"
"""What the model reads where something else was left out."""
_DRAWS = 64
"""Random places of which the one that overlaps least is taken, where none is apart."""


def crop_only(case: Case, seed: int) -> Change:
    """Let crops through, enlarged or reduced ones too, and the paths that were printed for them; an error as it is.

    This is what a model with a crop tool has: no drawing, no filters, no rotation, no computed text.
    """
    finder = CropFinder(case.problem)

    def change(execution: Execution) -> Execution:
        pairs = zip(execution.images, finder.places(execution), strict=True)
        crops = tuple(image for image, place in pairs if place is not None)
        kept, refused = _paths(execution.stdout, crops)
        refused = refused or len(crops) < len(execution.images)
        if not refused:
            return execution
        stdout = f"{kept}{REFUSED}\n"
        count = len(execution.images) - len(crops)
        notes = noted(execution, CROP_ONLY, "left out what is no crop", max(1, count))
        return execution.model_copy(update={"stdout": stdout, "images": crops, "repairs": notes})

    return change


def _paths(stdout: str, crops: tuple[ImageRecord, ...]) -> tuple[str, bool]:
    """Of what was printed, the paths of the crops, as they were printed; and whether other text was left out."""
    names = {name for image in crops for name in (image.name, image.name.rpartition("/")[2]) if name}
    kept, refused = "", False
    for line in stdout.splitlines(keepends=True):
        if line.strip() in names:
            kept += line
        elif line.strip():
            refused = True
    return kept, refused


def placebo(case: Case, seed: int) -> Change:
    """Put a random part of the same image in place of each crop, as large, and resized in the same way.

    Of the places that are possible one is drawn that does not overlap the true one; where the crop is so large that
    there is none, the one of 64 that overlaps least. Images that are no crops, and the whole image, stay.
    """
    finder, rng = CropFinder(case.problem), random.Random(f"placebo/{case.problem.id}/{seed}")

    def change(execution: Execution) -> Execution:
        images, notes = [], []
        for image, place in zip(execution.images, finder.places(execution), strict=True):
            moved = None if place is None else _elsewhere(place.box, finder.originals[place.image].size, rng)
            if place is None or moved is None:
                images.append(image)
                continue
            other = Place(moved, True, place.filter, place.image)
            drawn = cut(finder.originals[place.image], other, image.size, image.mode)
            images.append(ImageRecord.of(drawn, name=image.name))
            notes.append(f"{moved} in place of {place.box}")
        if not notes:
            return execution
        repairs = noted(execution, PLACEBO, "showed " + ", ".join(notes), len(notes))
        return execution.model_copy(update={"images": tuple(images), "repairs": repairs})

    return change


def _elsewhere(box: Box, size: tuple[int, int], rng: random.Random) -> Box | None:
    """A random box of the same size inside an image, apart from `box`; None where there is only the one place."""
    width, height = box[2] - box[0], box[3] - box[1]
    room = size[0] - width, size[1] - height
    if room == (0, 0):
        return None
    apart = _apart(box, room, rng)
    if apart is not None:
        return apart
    draws = [_at(rng.randint(0, room[0]), rng.randint(0, room[1]), width, height) for _ in range(_DRAWS)]
    return min(draws, key=lambda other: overlap(box, other))


def _apart(box: Box, room: tuple[int, int], rng: random.Random) -> Box | None:
    """A box drawn evenly from the places that do not overlap; None where there are none."""
    width, height = box[2] - box[0], box[3] - box[1]
    lefts = _taken(box[0], width, room[0])
    tops = _taken(box[1], height, room[1])
    free = (room[0] + 1) * (room[1] + 1) - len(lefts) * len(tops)
    if free == 0:
        return None
    rows = room[1] + 1
    beside = free - len(lefts) * (rows - len(tops))
    drawn = rng.randrange(free)
    if drawn < beside:
        left, top = _outside(lefts, drawn // rows), drawn % rows
    else:
        left, top = divmod(drawn - beside, rows - len(tops))
        left, top = left + lefts.start, _outside(tops, top)
    return _at(left, top, width, height)


def _outside(taken: range, index: int) -> int:
    """The number of this index among those from 0 that are not taken."""
    return index if index < taken.start else index + len(taken)


def _taken(start: int, length: int, room: int) -> range:
    """Starts of an interval of this length that overlap the one at `start`."""
    return range(max(0, start - length + 1), min(room, start + length - 1) + 1)


def _at(left: int, top: int, width: int, height: int) -> Box:
    return left, top, left + width, top + height
