"""The input images as code reads them."""

from __future__ import annotations

from dataclasses import dataclass

from .paths import Paths, with_path


@dataclass(frozen=True)
class Input:
    """An input image, as the broker describes it."""

    path: str
    """Where code finds it."""
    format: str
    """Pillow format of the file."""
    mode: str
    """Pillow mode of its pixels."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""


class Pictures:
    """The inputs of one session, and their pixels where the broker gave them."""

    def __init__(self) -> None:
        """Know of none."""
        self.inputs: tuple[Input, ...] = ()
        self._pixels: dict[int, memoryview] = {}

    def bind(self, inputs: tuple[Input, ...]) -> None:
        """Say which inputs there are."""
        self.inputs = inputs

    def give(self, index: int, pixels: memoryview) -> None:
        """Take the decoded pixels of an input.

        Args:
            index: Position among the inputs, from 0.
            pixels: Read-only, in Pillow's own layout: 4 bytes a pixel for RGB (the fourth unused) and RGBA, 1 for L.
        """
        self._pixels[index] = pixels


def install(paths: Paths) -> None:
    """Let OpenCV read where the code's paths really lead. Call once, in the forked process."""
    import cv2

    for name in ("imread", "imreadmulti"):
        setattr(cv2, name, with_path(getattr(cv2, name), paths.read))
