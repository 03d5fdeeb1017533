"""Boxes and slices that leave the image they are applied to (repair ``boundary``).

Boxes are fitted at the moment they are used, when the size of their image is known. Slices of arrays cannot be hooked:
in code that slices two axes at once the sliced thing is wrapped, and what comes out is the plain part, unless that
would be an empty picture that nobody looks for.
"""

from __future__ import annotations

import ast
import builtins
import math
import numbers
import operator
import re
import sys
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from . import repair
from .callers import expects
from .paths import Paths

Box = tuple[float, float, float, float]

WRAPPER = "__picture__"
"""Name under which rewritten code finds the wrapper among the builtins."""

_TWO_SLICES = re.compile(r"\[[^\n#]*:[^\n#]*,[^\n#]*:|\[[^\n#]*,[^\n#]*:|\[[^\n#]*:[^\n#]*,|\[\s*\n")


# --- boxes ------------------------------------------------------------------------------------------------------------


def install(paths: Paths) -> None:
    """Put the hooks of one session in place. Call once, in the forked process."""
    if "boundary" in paths.enabled:
        _hook_crop(paths)
        _hook_drawing(paths)
        setattr(builtins, WRAPPER, lambda thing: _Sliced(thing, paths) if _is_picture(thing) else thing)


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
    left, right = _fit(sides[0], sides[2], width)
    upper, lower = _fit(sides[1], sides[3], height)
    fitted = (left, upper, right, lower)
    return None if list(fitted) == [round(side) for side in sides] else fitted


def are_fractions(sides: Sequence[Any]) -> bool:
    """Whether all sides lie from 0 to 1, and not only on 0 and 1."""
    return all(0 <= side <= 1 for side in sides) and any(side not in {0, 1} for side in sides)


def _fit(start: float, end: float, length: int) -> tuple[int, int]:
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


# --- slices -----------------------------------------------------------------------------------------------------------


def compile_block(code: str, filename: str, paths: Paths) -> CodeType:
    """Compile a block, the things it slices along two axes wrapped where that repair is on.

    Raises:
        SyntaxError: And whatever else `compile` raises.
    """
    if "boundary" in paths.enabled and _TWO_SLICES.search(code):
        tree = ast.parse(code, filename)
        rewriter = _Wrapping()
        rewriter.visit(tree)
        if rewriter.found and not looks_for_empty(tree):
            return compile(tree, filename, "exec", dont_inherit=True)
    return repair.compile_once(code, filename)


class _Wrapping(ast.NodeTransformer):
    """Wraps ``x`` in ``x[a:b, c:d]`` where it is read."""

    def __init__(self) -> None:
        self.found = False

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load) and isinstance(node.slice, ast.Tuple):
            slices = [item for item in node.slice.elts if isinstance(item, ast.Slice)]
            if len(slices) >= 2 and any(item.lower is not None for item in slices):
                self.found = True
                name = ast.copy_location(ast.Name(WRAPPER, ast.Load()), node.value)
                node.value = ast.copy_location(ast.Call(name, [node.value], []), node.value)
        return node


def looks_for_empty(tree: ast.AST) -> bool:
    """Whether code compares a size with 0 or 1, or tests it: then it knows what to do about an empty picture."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(_is_small(side) for side in sides) and any(_is_size(side) for side in sides):
                return True
        tested = getattr(node, "test", None) or (node.operand if isinstance(node, ast.UnaryOp) else None)
        tests = node.values if isinstance(node, ast.BoolOp) else [tested]
        if any(isinstance(test, ast.Attribute) and test.attr == "size" for test in tests):
            return True
    return False


def _is_small(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value in {0, 1}


def _is_size(node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "len"
    return isinstance(node, ast.Attribute) and node.attr in {"size", "shape"}


def _is_picture(thing: Any) -> bool:
    """Whether `thing` is an array of pixels: bytes, or any numbers with three or four of them a pixel."""
    if type(thing) is not sys.modules["numpy"].ndarray or not thing.size:
        return False
    shape = thing.shape
    return (len(shape) == 2 and thing.dtype.char == "B") or (len(shape) == 3 and shape[2] in {1, 3, 4})


class _Sliced:
    """An array that is about to be sliced."""

    __slots__ = ("_array", "_paths")

    def __init__(self, array: Any, paths: Paths) -> None:
        self._array, self._paths = array, paths

    def __getitem__(self, key: Any) -> Any:
        array = self._array
        try:
            part = array[key]
        except TypeError:
            whole = None if expects("TypeError") else whole_slices(key)
            if whole is None:
                raise
            self._paths.note("boundary", f"rounded the slice {describe_key(key)}")
            key, part = whole, array[whole]
        if part.size or (fitted := fit_slices(key, array.shape)) is None:
            return part
        size = f"{array.shape[1]}x{array.shape[0]}"
        self._paths.note("boundary", f"fitted the slice {describe_key(key)} to the image of {size}")
        return array[fitted]


def describe_key(key: Any) -> str:
    """A subscript as code writes it."""
    return "[" + ", ".join(_describe_item(item) for item in key)[:150] + "]"


def _describe_item(item: Any) -> str:
    if not isinstance(item, slice):
        return str(item)[:20]
    return ":".join("" if side is None else f"{side:g}" for side in (item.start, item.stop))


def whole_slices(key: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The key with its floating-point sides rounded; None where there are none, or they cannot be."""
    changed = False
    result: list[Any] = []
    for item in key:
        if isinstance(item, slice):
            sides: list[Any] = [item.start, item.stop]
            if any(isinstance(side, float) and not math.isfinite(side) for side in sides):
                return None
            start, stop = (round(float(side)) if _is_real(side) else side for side in sides)
            changed = changed or any(_is_real(side) for side in sides)
            item = slice(start, stop, item.step)
        result.append(item)
    return tuple(result) if changed else None


def _is_real(side: Any) -> bool:
    return isinstance(side, numbers.Real) and not isinstance(side, numbers.Integral)


def fit_slices(key: Any, shape: tuple[int, ...]) -> tuple[Any, ...] | None:
    """The nearest slices that are not empty.

    Args:
        key: Subscript of an array, whose result is empty.
        shape: Of the array.

    Returns:
        None where an axis is empty because the code asked for nothing (``a[5:5]``, ``a[:0]``), or where the key is
        more than slices and indices. Only the axes that are empty are touched.
    """
    if not isinstance(key, tuple) or len(key) > len(shape):
        return None
    result: list[Any] = []
    for item, length in zip(key, shape, strict=False):
        if isinstance(item, slice) and not range(*item.indices(length)):
            item = _fit_slice(item, length)
            if item is None:
                return None
        elif not isinstance(item, slice | int):
            return None
        result.append(item)
    return tuple(result)


def _fit_slice(item: slice, length: int) -> slice | None:
    if item.step not in {None, 1} or item.start is None:
        return None
    start = operator.index(item.start)
    stop = length if item.stop is None else operator.index(item.stop)
    if start == stop:
        return None
    if start < 0 and stop < 0:
        start, stop = start + length, stop + length
    elif start >= 0 > stop:
        stop += length
    return slice(*_fit(start, stop, length))
