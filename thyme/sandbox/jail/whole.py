"""Sizes and points that must be whole numbers (repair ``numbers``): rounded where the call would fail."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .callers import expects
from .paths import Paths

OPENCV = {
    "resize": (), "warpAffine": (), "warpPerspective": (), "getRotationMatrix2D": (), "rectangle": (4,),
    "circle": (2, 4), "line": (4,), "arrowedLine": (4,), "ellipse": (7,), "putText": (6,), "drawMarker": (4,),
    "GaussianBlur": (), "blur": (), "getRectSubPix": (),
}  # fmt: skip
"""Functions of `cv2` that take sizes or points, and the positions of single numbers that must be whole."""

_WHOLE_OPTIONS = frozenset({"thickness", "radius", "markerSize"})
_LONGEST = 4
"""Numbers of a size, a point or a box."""


def install(paths: Paths) -> None:
    """Put the hooks of one session in place. Call once, in the forked process."""
    if "numbers" not in paths.enabled:
        return
    import cv2
    from PIL import Image

    for name, positions in OPENCV.items():
        function = _Function(getattr(cv2, name), f"cv2.{name}", positions, (cv2.error, TypeError), paths)
        setattr(cv2, name, _rounding(function))
    for name in ("resize", "paste", "putpixel", "getpixel"):
        method = _Function(getattr(Image.Image, name), f"Image.{name}", (), (TypeError,), paths)
        setattr(Image.Image, name, _rounding(method))
    Image.new = _rounding(_Function(Image.new, "Image.new", (), (TypeError,), paths))


Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class _Function:
    """A function whose numbers are rounded where it refuses them."""

    original: Callable[..., Any]
    name: str
    positions: tuple[int, ...]
    """Of single numbers that must be whole."""
    errors: tuple[type[Exception], ...]
    """What it raises then; nothing was done by that time."""
    paths: Paths

    def again(self, call: Call) -> Any:
        """Call with other numbers; `_NOTHING` where none helps."""
        for convert in (_plain, _rounded):
            changed = _converted(call, self.positions, convert)
            if changed is None:
                continue
            try:
                result = self.original(*changed[0], **changed[1])
            except self.errors:
                continue
            how = f"rounded {_differences(call, changed)}" if convert is _rounded else "took them out of NumPy's"
            self.paths.note("numbers", f"{self.name} takes plain, whole numbers; {how}")
            return result
        return _NOTHING


_NOTHING = object()


def _rounding(function: _Function) -> Callable[..., Any]:
    original, errors = function.original, function.errors

    def hooked(*args: Any, **options: Any) -> Any:
        try:
            return original(*args, **options)
        except errors as error:
            if not _is_about_numbers(error) or expects("TypeError", "error"):
                raise
            result = function.again((args, options))
            if result is _NOTHING:
                raise
            return result

    hooked.__name__, hooked.__doc__ = getattr(original, "__name__", function.name), original.__doc__
    return hooked


def _is_about_numbers(error: Exception) -> bool:
    text = str(error)
    return "Can't parse" in text or "integer" in text


def _converted(call: Call, positions: tuple[int, ...], convert: Callable[[Any], Any]) -> Call | None:
    """The arguments of a call with other numbers; None where none changes."""
    args, options = call
    try:
        new_args = tuple(
            convert(value) if index in positions and _is_number(value) else _each(value, convert)
            for index, value in enumerate(args)
        )
        new_options = {
            key: convert(value) if key in _WHOLE_OPTIONS and _is_number(value) else _each(value, convert)
            for key, value in options.items()
        }
    except (ValueError, OverflowError):  # nan, inf
        return None
    same = all(new is old for new, old in zip(new_args, args, strict=True))
    same = same and all(new_options[key] is options[key] for key in options)
    return None if same else (new_args, new_options)


def _each(value: Any, convert: Callable[[Any], Any]) -> Any:
    """A point, size or box with each number converted; anything else, and one that stays, as it is."""
    if type(value).__name__ == "ndarray" and value.ndim == 1:
        value = list(value)
    if not isinstance(value, list | tuple) or len(value) > _LONGEST or not all(_is_number(item) for item in value):
        return value
    new = [convert(item) for item in value]
    unchanged = all(type(a) is type(b) and a == b for a, b in zip(new, value, strict=True))
    return value if unchanged else tuple(new)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real)


def _plain(value: Any) -> Any:
    """The Python number of one of NumPy's."""
    return value.item() if hasattr(value, "item") else value


def _rounded(value: Any) -> Any:
    return round(_plain(value))


def _differences(call: Call, changed: Call) -> str:
    old, new = ([*args, *options.values()] for args, options in (call, changed))
    pairs = [f"{_show(a)} to {b}" for a, b in zip(old, new, strict=True) if a is not b]
    return "; ".join(pairs)[:200]


def _show(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "(" + ", ".join(f"{float(item):.6}" for item in value) + ")"
    return f"{float(value):.6}" if _is_number(value) else "an array"
