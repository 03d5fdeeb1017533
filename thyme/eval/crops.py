"""Which part of a picture another picture shows: the box of a crop, exact or resized, found and verified by its pixels.

First the boxes that the code speaks of are tried (`thyme.eval.crops_hints`), then the whole picture is searched
(`thyme.eval.crops_search`). A box counts only if one of the usual ways to resize makes the very picture out of it, up
to what decoders of JPEG and rounding change. A picture that was turned, recoloured or drawn on is no crop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from thyme.eval.crops_hints import Hints
from thyme.eval.crops_pixels import PLAIN, Box, Picture, fits, resampled, rgb
from thyme.eval.crops_search import search
from thyme.types import Execution, Problem

__all__ = ["Box", "CropFinder", "Place", "cut", "find_crop", "locate", "overlap"]

_at_once = threading.BoundedSemaphore(2)
"""A search takes a few hundred MB on an 8K picture; whoever asks for many waits for a turn."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a crop was cut out."""

    box: Box
    """Pixels of the original."""
    certain: bool
    """False where other places of the original look the same, so that this is only one of them."""
    filter: str = PLAIN
    """How it was resized (`thyme.eval.crops_pixels.RESAMPLERS`); empty where it was not."""
    image: int = 0
    """Which of the originals."""


def locate(
    shown: Image.Image, original: Image.Image, boxes: Iterable[Box] = (), *, searching: bool = True
) -> Place | None:
    """Find the box of the original that a picture shows.

    Args:
        shown: What came back from code.
        original: What it may have been cut out of.
        boxes: Where to look first, pixels of the original; a box that the pixels confirm is taken as certain.
        searching: Whether to look everywhere else, too: exact copies of any size, and enlarged or reduced ones of the
            same proportions (sides at least 24 pixels of the original, about 70 of an 8K picture).

    Returns:
        The place, or None if it is no crop, or none that could be found.
    """
    return find_crop(shown, [original], [boxes], searching=searching)


def find_crop(
    shown: Image.Image,
    originals: Sequence[Image.Image],
    boxes: Sequence[Iterable[Box]],
    *,
    searching: bool = True,
) -> Place | None:
    """`locate` among several originals; a picture found in two of them is in no certain place.

    Args:
        shown: What came back from code.
        originals: The problem's images.
        boxes: Where to look first in each of the originals.
        searching: As of `locate`.
    """
    picture = Picture(shown)
    for index, (original, told) in enumerate(zip(originals, boxes, strict=True)):
        for box in (*told, (0, 0, *original.size)):
            found = fits(picture, original, box)
            if found is not None:
                return Place(box, not picture.flat, found, index)
    if not searching or picture.flat:
        return None
    return _searched(picture, originals)


def _searched(picture: Picture, originals: Sequence[Image.Image]) -> Place | None:
    places: list[Place] = []
    for index, original in enumerate(originals):
        with _at_once:
            found = search(picture, original)
        if found is not None:
            places.append(Place(found.box, found.certain, found.filter, index))
    if not places:
        return None
    return places[0] if len(places) == 1 else replace(places[0], certain=False)


class CropFinder:
    """Finds what the code of one trajectory cuts out of its problem's images, block by block in their order."""

    def __init__(self, problem: Problem) -> None:
        """Look at nothing yet; the problem's images must have their pixels."""
        self.originals = [image.image for image in problem.images]
        self._hints = Hints([image.size for image in problem.images])

    def places(self, execution: Execution) -> list[Place | None]:
        """Where each image of the next block was cut out; None for what is no crop."""
        self._hints.read(execution)
        boxes = [self._hints.boxes(index) for index in range(len(self.originals))]
        return [find_crop(image.image, self.originals, boxes) for image in execution.images]


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Area that two boxes (left, top, right, bottom) have in common; of a box with itself, its area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def cut(original: Image.Image, place: Place, size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Cut and resize a picture as the crop at `place` was.

    Args:
        original: What to cut.
        place: Box and filter.
        size: Width and height of the result, pixels.
        mode: Pillow mode of the result.
    """
    return resampled(rgb(original.crop(place.box)), size, place.filter).convert(mode)
