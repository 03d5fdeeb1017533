"""Boxes that code speaks of: arguments of ``crop``, slices of arrays, four numbers in a row.

The code is not run here. Numbers are followed through assignments, arithmetic and sizes of pictures, as far as that
goes without knowing pixels; whatever is found is only where to look first, and pixels decide.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from thyme.arithmetic import Arithmetic, Value, called, is_number
from thyme.eval.crops_pixels import Box
from thyme.types import Execution

MOST_BOXES: Final = 48
"""Boxes that are tried for one image; of more, the latest."""
MOST_CHARS: Final = 20_000
"""Code that is longer is not read."""
MOST_STEPS: Final = 2000
"""Statements that are followed in one block, repeated ones counted each time."""
_FOUR: Final = re.compile(r"\((-?\d+), (-?\d+), (-?\d+), (-?\d+)\)")
_SLICES: Final = re.compile(r"\[(\d+):(\d+), (\d+):(\d+)\]")


@dataclass(frozen=True)
class _Picture:
    """A picture whose place in an original is known."""

    image: int
    box: Box

    @property
    def width(self) -> int:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> int:
        return self.box[3] - self.box[1]


_SAME_PICTURE: Final = {"array", "asarray", "convert", "copy", "cvtColor", "fromarray", "uint8", "astype"}
_OPENED: Final = {"open", "imread"}


@dataclass
class Hints(Arithmetic):
    """What the code of one trajectory has said so far; variables live on from block to block."""

    sizes: Sequence[tuple[int, int]]
    """Width and height of the problem's images, pixels."""
    _boxes: dict[int, dict[Box, None]] = field(default_factory=dict)
    """By image, in order of finding."""
    _steps: int = 0
    """Statements that were read since a block began; loops inside loops are not followed to their end."""

    def read(self, execution: Execution) -> None:
        """Take in a block that ran, and what was noted about it."""
        self.read_code(execution.ran or execution.code)
        for repair in execution.repairs:
            for found in _FOUR.findall(repair.note):
                self._add_everywhere(tuple(map(int, found)))
            for top, bottom, left, right in _SLICES.findall(repair.note):
                self._add_everywhere((int(left), int(top), int(right), int(bottom)))

    def read_code(self, code: str) -> None:
        """Take in code; what is no Python says nothing."""
        if len(code) > MOST_CHARS or not self.sizes:
            return
        self._steps = 0
        try:
            self._block(ast.parse(code).body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # of the parser, on hostile or broken code
            return

    def boxes(self, image: int = 0) -> list[Box]:
        """Boxes in one of the images, the latest first."""
        return list(self._boxes.get(image, ()))[: -MOST_BOXES - 1 : -1]

    # --- statements ---------------------------------------------------------------------------------------------------

    def _block(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self._steps += 1
            if self._steps > MOST_STEPS:
                return
            for expression in _own_expressions(statement):
                self._look(expression)
            self._bind(statement)
            if isinstance(statement, ast.For):
                self._loop(statement)
            else:
                self._inner(statement)

    def _bind(self, statement: ast.stmt) -> None:
        """Keep what a statement gives names to."""
        if isinstance(statement, ast.Assign):
            value = self.value(statement.value)
            for target in statement.targets:
                self.assign(target, value)
        elif isinstance(statement, ast.AnnAssign):
            self.assign(statement.target, self.value(statement.value))
        elif isinstance(statement, ast.AugAssign):
            self.assign(statement.target, None)
        elif isinstance(statement, ast.With):
            for item in statement.items:
                if item.optional_vars is not None:
                    self.assign(item.optional_vars, self.value(item.context_expr))

    def _inner(self, statement: ast.stmt) -> None:
        for name in ("body", "orelse", "finalbody"):
            self._block(getattr(statement, name, ()))
        for handler in getattr(statement, "handlers", ()):
            self._block(handler.body)

    def _loop(self, statement: ast.For) -> None:
        values = self.value(statement.iter)
        if not isinstance(values, tuple):
            self.assign(statement.target, None)
            self._inner(statement)
            return
        for value in values[:MOST_BOXES]:
            self.assign(statement.target, value)
            self._block(statement.body)

    # --- boxes --------------------------------------------------------------------------------------------------------

    def _look(self, expression: ast.expr) -> None:
        """Note every box in an expression."""
        for node in ast.walk(expression):
            if isinstance(node, ast.Call):
                self._look_at_call(node)
            elif isinstance(node, ast.Subscript):
                self.value(node)
            elif isinstance(node, ast.Tuple | ast.List) and len(node.elts) == 4:
                self._guess(self.value(node))

    def _look_at_call(self, node: ast.Call) -> None:
        if called(node) == "crop" and node.args:
            self.value(node)
        if len(node.args) >= 4:
            self._guess(tuple(self.value(argument) for argument in node.args[:4]))

    def _guess(self, value: Value) -> None:
        """Four numbers: corners, or a corner and a size, in pixels or in shares of the image."""
        if not isinstance(value, tuple) or not all(is_number(v) for v in value):
            return
        a, b, c, d = value
        self._add_everywhere((a, b, a + c, b + d))
        self._add_everywhere((a, b, c, d))
        if all(0 <= v <= 1 for v in value):
            for image, (width, height) in enumerate(self.sizes):
                self._add(image, (a * width, b * height, c * width, d * height))

    def _add_everywhere(self, box: Sequence[float]) -> None:
        for image in range(len(self.sizes)):
            self._add(image, box)

    def _add(self, image: int, box: Sequence[float]) -> Box | None:
        """Note a box, fitted to its image; None if nothing of it lies inside."""
        width, height = self.sizes[image]
        left, right = sorted(min(max(_rounded(v), 0), width) for v in (box[0], box[2]))
        top, bottom = sorted(min(max(_rounded(v), 0), height) for v in (box[1], box[3]))
        if left == right or top == bottom:
            return None
        found = (left, top, right, bottom)
        self._boxes.setdefault(image, {}).pop(found, None)
        self._boxes[image][found] = None
        return found

    def _cut(self, picture: _Picture, box: Sequence[float]) -> _Picture | None:
        """A part of a picture, `box` in its own pixels."""
        x, y = picture.box[:2]
        found = self._add(picture.image, (box[0] + x, box[1] + y, box[2] + x, box[3] + y))
        return None if found is None else _Picture(picture.image, found)

    # --- values -------------------------------------------------------------------------------------------------------

    def _value_attribute(self, node: ast.Attribute) -> Value:
        picture = self.value(node.value)
        if not isinstance(picture, _Picture):
            return None
        known: dict[str, Value] = {
            "width": picture.width,
            "height": picture.height,
            "size": (picture.width, picture.height),
            "shape": (picture.height, picture.width, 3),
        }
        return known.get(node.attr)

    def _value_subscript(self, node: ast.Subscript) -> Value:
        value = self.value(node.value)
        return super()._value_subscript(node) if isinstance(value, tuple) else self._sliced(value, node.slice)

    def _sliced(self, value: Value, place: ast.expr) -> Value:
        """A part of an array: rows first, then columns."""
        slices = place.elts if isinstance(place, ast.Tuple) else [place]
        if not slices or not all(isinstance(part, ast.Slice) and part.step is None for part in slices[:2]):
            return None
        pictures = (
            [value]
            if isinstance(value, _Picture)
            else [_Picture(i, (0, 0, *size)) for i, size in enumerate(self.sizes)]
        )
        found = None
        for picture in pictures:  # of an array that is not known it is only a guess
            top, bottom = self._ends(slices[0], picture.height)
            left, right = self._ends(slices[1], picture.width) if len(slices) > 1 else (0, picture.width)
            if None not in (top, bottom, left, right):
                found = self._cut(picture, (left, top, right, bottom))  # type: ignore[arg-type]  # none of them is None
        return found if isinstance(value, _Picture) else None

    def _ends(self, part: ast.expr, length: int) -> tuple[float | None, float | None]:
        assert isinstance(part, ast.Slice)
        ends = [
            default if node is None else self.value(node) for node, default in ((part.lower, 0), (part.upper, length))
        ]
        first, last = (v + length * (v < 0) if is_number(v) else None for v in ends)
        return first, last

    def _value_call(self, node: ast.Call) -> Value:
        name = called(node)
        owner = self.value(node.func.value) if isinstance(node.func, ast.Attribute) else None
        if name == "crop" and node.args:
            box = self.value(node.args[0])
            numbers = isinstance(box, tuple) and len(box) == 4 and all(is_number(v) for v in box)
            if not numbers or not isinstance(box, tuple):
                return None
            if isinstance(owner, _Picture):
                return self._cut(owner, box)
            self._guess(box)
            return None
        if name in _OPENED:
            return self._opened(node)
        if name in _SAME_PICTURE:
            candidates = [owner, *(self.value(argument) for argument in node.args[:1])]
            return next((value for value in candidates if isinstance(value, _Picture)), None)
        if name == "enumerate" and node.args and isinstance(values := self.value(node.args[0]), tuple):
            return tuple(enumerate(values))
        return super()._value_call(node)

    def _opened(self, node: ast.Call) -> Value:
        """The image that is opened: the first, unless its number can be read off."""
        argument = node.args[0] if node.args else None
        index: Value = 0
        if isinstance(argument, ast.Subscript):
            index = self.value(argument.slice)
        if isinstance(argument, ast.Constant) and (number := re.search(r"image_(\d+)\.", str(argument.value))):
            index = int(number.group(1)) - 1
        if not isinstance(index, int) or not 0 <= index < len(self.sizes):
            return None
        return _Picture(index, (0, 0, *self.sizes[index]))


def _own_expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """Expressions of a statement, those of statements inside it left out."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.withitem):
            yield child.context_expr


def _rounded(value: float) -> int:
    """As Pillow rounds the corners of a box."""
    return round(value) if math.isfinite(value) else 0
