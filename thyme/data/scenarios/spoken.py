"""Boxes that code speaks of, read off its text: where to look first for what a crop shows. Pixels decide."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from thyme.data.syntax import below, parsed

_Value: TypeAlias = "float | int | tuple[Any, ...] | None"
"""What is known of an expression; None: nothing."""

MOST: Final = 40
"""Boxes that are handed on, the latest ones."""
MOST_CHARS: Final = 20_000
"""Longer code is not read."""

_OPERATORS: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {"int": int, "round": round, "max": max, "min": min, "abs": abs}


def spoken_boxes(blocks: Iterable[str], size: tuple[int, int]) -> list[tuple[float, float, float, float]]:
    """Four numbers in a row, and slices of arrays, in code of which variables live on from block to block.

    Args:
        blocks: Code up to and including the block in question.
        size: Width and height that ``image.size`` is taken to be.

    Returns:
        Boxes as (left, top, right, bottom), the latest first, each once; of four numbers also the reading as a corner
        and a size, and as shares of the picture where all are at most 1. Many of them are no boxes.
    """
    reader = _Reader(size)
    for block in blocks:
        if len(block) <= MOST_CHARS:
            reader.read(block)
    return list(reader.found)[: -MOST - 1 : -1]


@dataclass
class _Reader:
    size: tuple[int, int]
    names: dict[str, _Value] = field(default_factory=dict)
    found: dict[tuple[float, float, float, float], None] = field(default_factory=dict)

    def read(self, code: str) -> None:
        tree = parsed(code)
        if tree is None:  # it says nothing
            return
        for statement in _in_order(tree.body):
            for node in below(statement):
                self._look(node)
            if isinstance(statement, ast.Assign):
                value = self._value(statement.value)
                for target in statement.targets:
                    self._assign(target, value)

    def _assign(self, target: ast.expr, value: _Value) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, tuple) and len(value) >= len(target.elts):
            for element, part in zip(target.elts, value, strict=False):
                self._assign(element, part)

    def _look(self, node: ast.AST) -> None:
        if isinstance(node, ast.Tuple | ast.List) and len(node.elts) == 4:
            self._note([self._value(element) for element in node.elts])
        elif isinstance(node, ast.Call) and len(node.args) >= 4:
            self._note([self._value(argument) for argument in node.args[:4]])
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) >= 2:
            rows, columns = node.slice.elts[:2]
            if isinstance(rows, ast.Slice) and isinstance(columns, ast.Slice):
                ends = (columns.lower, rows.lower, columns.upper, rows.upper)
                usual = (0, 0, *self.size)
                self._note([u if end is None else self._value(end) for end, u in zip(ends, usual, strict=True)])

    def _note(self, values: list[_Value]) -> None:
        known = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
        if len(known) != 4:
            return
        a, b, c, d = known
        if all(0 <= v <= 1 for v in known):
            a, b, c, d = a * self.size[0], b * self.size[1], c * self.size[0], d * self.size[1]
        for box in ((a, b, a + c, b + d), (a, b, c, d)):
            if box[0] < box[2] and box[1] < box[3]:
                self.found.pop(box, None)
                self.found[box] = None

    def _value(self, node: ast.expr | None) -> _Value:
        reader = getattr(self, f"_value_{type(node).__name__.lower()}", None)
        try:
            value: _Value = reader(node) if reader is not None else None
        except (ArithmeticError, TypeError, ValueError, IndexError):  # code that would fail when it runs
            return None
        return value

    def _value_constant(self, node: ast.Constant) -> _Value:
        return node.value if isinstance(node.value, int | float) and abs(node.value) < 1e7 else None

    def _value_name(self, node: ast.Name) -> _Value:
        return self.names.get(node.id)

    def _value_tuple(self, node: ast.Tuple | ast.List) -> _Value:
        return tuple(self._value(element) for element in node.elts)

    _value_list = _value_tuple

    def _value_unaryop(self, node: ast.UnaryOp) -> _Value:
        value = self._value(node.operand)
        return -value if isinstance(node.op, ast.USub) and isinstance(value, int | float) else None

    def _value_binop(self, node: ast.BinOp) -> _Value:
        left, right = self._value(node.left), self._value(node.right)
        known = isinstance(left, int | float) and isinstance(right, int | float) and type(node.op) in _OPERATORS
        return _OPERATORS[type(node.op)](left, right) if known else None

    def _value_attribute(self, node: ast.Attribute) -> _Value:
        known: dict[str, _Value] = {
            "width": self.size[0],
            "height": self.size[1],
            "size": self.size,
            "shape": (self.size[1], self.size[0], 3),
        }
        return known.get(node.attr)

    def _value_subscript(self, node: ast.Subscript) -> _Value:
        value = self._value(node.value)
        if not isinstance(value, tuple):
            return None
        if isinstance(node.slice, ast.Slice):
            last = self._value(node.slice.upper)
            return value[:last] if node.slice.lower is None and isinstance(last, int) else None
        index = self._value(node.slice)
        return value[index] if isinstance(index, int) else None

    def _value_call(self, node: ast.Call) -> _Value:
        function = _FUNCTIONS.get(node.func.id) if isinstance(node.func, ast.Name) else None
        values = [self._value(argument) for argument in node.args]
        if function is None or not values or not all(isinstance(value, int | float) for value in values):
            return None
        result: _Value = function(*values)
        return result


def _in_order(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements in the order of the text, those inside others after what holds them."""
    for statement in body:
        yield statement
        for name in ("body", "orelse", "finalbody"):
            yield from _in_order(getattr(statement, name, []))
