"""Boxes that leave the image they are applied to (repair ``boundary``): fitted when the size of it is known."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from .callers import expects
from .paths import Paths

Box = tuple[float, float, float, float]


def install(paths: Paths) -> None:
    """Put the hooks of one session in place. Call once, in the forked process."""
    if "boundary" in paths.enabled:
        _hook_crop(paths)
        _hook_drawing(paths)


def _hook_crop(paths: Paths) -> None:
    from PIL import Image

    original = Image.Image.crop

    def crop(self: Image.Image, box: Sequence[float] | None = None, *sides: float) -> Image.Image:
        if sides or _is_nested(box):
            box = _flat(box, sides, paths)
        fitted = None if box is None else fit_box(box, self.width, self.height)
        if fitted is None:
            return original(self, box)  # type: ignore[arg-type]  # whatever the code passed, Pillow judges it
        paths.note("boundary", f"fitted the box {_short(box)} to the image of {self.width}x{self.height}")
        return original(self, fitted)

    crop.__doc__ = original.__doc__
    Image.Image.crop = crop  # type: ignore[method-assign]  # that is what a hook is


def _is_nested(box: Any) -> bool:
    """Whether a box is written as its two corners."""
    return isinstance(box, list | tuple) and len(box) == 2 and all(isinstance(corner, list | tuple) for corner in box)


def _flat(box: Any, sides: tuple[float, ...], paths: Paths) -> Any:
    """The four sides of a box that was passed as four arguments, or as two corners."""
    flat = (box, *sides) if sides else (*box[0], *box[1])
    if len(flat) != 4:
        raise TypeError(f"crop takes one box of four sides; {len(flat)} numbers were given")
    paths.note("boundary", "took the box as (left, upper, right, lower)")
    return flat


def _short(box: Any) -> str:
    return "(" + ", ".join(f"{side:g}" for side in box) + ")"


def fit_box(box: Any, width: int, height: int) -> Box | None:
    """The nearest box inside the image.

    Args:
        box: Left, upper, right, lower, pixels; anything else is left to Pillow.
        width: Of the image, pixels.
        height: Of the image, pixels.

    Returns:
        None where the box is right as it is, is no box at all, or is given in fractions of the size. Swapped sides
        are swapped back, sides outside are moved to the border, and a box without area gets one pixel.
    """
    try:
        sides = list(box)
    except TypeError:
        return None
    if not all(isinstance(side, numbers.Real) for side in sides):
        return None
    if len(sides) != 4 or not all(math.isfinite(side) for side in sides) or not (width and height):
        return None
    if are_fractions(sides):
        return None
    left, right = fit_sides(sides[0], sides[2], width)
    upper, lower = fit_sides(sides[1], sides[3], height)
    fitted = (left, upper, right, lower)
    return None if list(fitted) == [round(side) for side in sides] else fitted


def are_fractions(sides: Sequence[Any]) -> bool:
    """Whether all sides lie from 0 to 1, and not only on 0 and 1."""
    return all(0 <= side <= 1 for side in sides) and any(side not in {0, 1} for side in sides)


def fit_sides(start: float, end: float, length: int) -> tuple[int, int]:
    """Two opposite sides of a box, in order and inside of `length` pixels, at least one pixel apart."""
    low, high = sorted((round(start), round(end)))  # Pillow rounds the sides in the same way
    low, high = min(max(low, 0), length - 1), min(max(high, 0), length)
    return low, max(high, low + 1)


def _hook_drawing(paths: Paths) -> None:
    """Let boxes that are drawn be swapped; outside of the image they may be."""
    from PIL import ImageDraw

    for name in ("rectangle", "ellipse", "rounded_rectangle", "arc", "chord", "pieslice"):
        setattr(ImageDraw.ImageDraw, name, _drawing(getattr(ImageDraw.ImageDraw, name), paths))


def _drawing(original: Callable[..., Any], paths: Paths) -> Callable[..., Any]:
    def draw(self: Any, xy: Any, *args: Any, **options: Any) -> Any:
        try:
            return original(self, xy, *args, **options)
        except ValueError:
            ordered = None if expects("ValueError") else _ordered(xy)
            if ordered is None:
                raise
        paths.note("boundary", f"swapped the sides of the box {_short(_corners(xy))}")
        return original(self, ordered, *args, **options)

    draw.__name__, draw.__doc__ = original.__name__, original.__doc__
    return draw


def _corners(xy: Any) -> list[Any]:
    return [*xy[0], *xy[1]] if _is_nested(xy) else list(xy)


def _ordered(xy: Any) -> list[Any] | None:
    """The box with its sides in order; None where they are."""
    sides = _corners(xy)
    if len(sides) != 4 or not all(isinstance(side, numbers.Real) for side in sides):
        return None
    ordered = [
        min(sides[0], sides[2]), min(sides[1], sides[3]), max(sides[0], sides[2]), max(sides[1], sides[3])
    ]  # fmt: skip
    return None if ordered == sides else ordered
