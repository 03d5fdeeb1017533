"""Boxes that code speaks of, read off its text: where to look first for what a crop shows. Pixels decide."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from thyme.arithmetic import Arithmetic, Value, is_number
from thyme.data.syntax import below, parsed

MOST: Final = 40
"""Boxes that are handed on, the latest ones."""
MOST_CHARS: Final = 20_000
"""Longer code is not read."""


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
class _Reader(Arithmetic):
    size: tuple[int, int]
    found: dict[tuple[float, float, float, float], None] = field(default_factory=dict)

    def read(self, code: str) -> None:
        tree = parsed(code)
        if tree is None:  # it says nothing
            return
        for statement in _in_order(tree.body):
            for node in below(statement):
                self._look(node)
            if isinstance(statement, ast.Assign):
                value = self.value(statement.value)
                for target in statement.targets:
                    self.assign(target, value)

    def _look(self, node: ast.AST) -> None:
        if isinstance(node, ast.Tuple | ast.List) and len(node.elts) == 4:
            self._note([self.value(element) for element in node.elts])
        elif isinstance(node, ast.Call) and len(node.args) >= 4:
            self._note([self.value(argument) for argument in node.args[:4]])
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) >= 2:
            rows, columns = node.slice.elts[:2]
            if isinstance(rows, ast.Slice) and isinstance(columns, ast.Slice):
                ends = (columns.lower, rows.lower, columns.upper, rows.upper)
                usual = (0, 0, *self.size)
                self._note([u if end is None else self.value(end) for end, u in zip(ends, usual, strict=True)])

    def _note(self, values: list[Value]) -> None:
        known = [float(v) for v in values if is_number(v) and math.isfinite(v)]
        if len(known) != 4:
            return
        a, b, c, d = known
        if all(0 <= v <= 1 for v in known):
            a, b, c, d = a * self.size[0], b * self.size[1], c * self.size[0], d * self.size[1]
        for box in ((a, b, a + c, b + d), (a, b, c, d)):
            if box[0] < box[2] and box[1] < box[3]:
                self.found.pop(box, None)
                self.found[box] = None

    def _value_attribute(self, node: ast.Attribute) -> Value:
        known: dict[str, Value] = {
            "width": self.size[0],
            "height": self.size[1],
            "size": self.size,
            "shape": (self.size[1], self.size[0], 3),
        }
        return known.get(node.attr)


def _in_order(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements in the order of the text, those inside others after what holds them."""
    for statement in body:
        yield statement
        for name in ("body", "orelse", "finalbody"):
            yield from _in_order(getattr(statement, name, []))
