"""Slices of arrays that would be empty pictures (repair ``boundary``).

Arrays cannot be hooked. In code that slices two axes at once the sliced thing is wrapped instead, and what comes out is
the plain part, unless that is an empty picture that nobody looks for.
"""

from __future__ import annotations

import ast
import builtins
import dis
import math
import numbers
import operator
import sys
from collections.abc import Sequence
from types import CodeType
from typing import Any

from .boxes import fit_sides
from .callers import expects
from .paths import Paths
from .repair import compile_once

WRAPPER = "__picture__"
"""Name under which rewritten code finds the wrapper among the builtins."""

_BUILD_SLICE = dis.opmap["BUILD_SLICE"]


def install(paths: Paths) -> None:
    """Put the wrapper of one session in place. Call once, in the forked process."""
    if "boundary" in paths.enabled:
        setattr(builtins, WRAPPER, lambda thing: _Sliced(thing, paths) if _is_picture(thing) else thing)


def compile_block(code: str, filename: str, paths: Paths) -> CodeType:
    """Compile a block, the things it slices along two axes wrapped where that repair is on.

    Raises:
        SyntaxError: And whatever else `compile` raises.
    """
    plain = compile_once(code, filename)
    if "boundary" not in paths.enabled or not _may_slice_twice(code) or not _slices(plain):
        return plain
    try:
        tree = ast.parse(code, filename)
        nodes = list(ast.walk(tree))
        if _wrap(nodes) and not looks_for_empty(nodes):
            return compile(tree, filename, "exec", dont_inherit=True)
    except RecursionError:  # a tree takes more frames than the text it is made of
        pass
    return plain


def _may_slice_twice(source: str) -> bool:
    """Whether there is what ``[a:b, c:d]`` is made of, in that order; a first, quick look."""
    place = -1
    for mark in "[:,:":
        place = source.find(mark, place + 1)
        if place < 0:
            return False
    return True


def _slices(code: CodeType) -> bool:
    """Whether `code` builds slices, or has some among its constants."""
    return _BUILD_SLICE in code.co_code[::2] or any(map(_holds_slices, code.co_consts))


def _holds_slices(constant: Any) -> bool:
    if isinstance(constant, CodeType):
        return _slices(constant)
    return isinstance(constant, slice) or (isinstance(constant, tuple) and slice in map(type, constant))


def _wrap(nodes: Sequence[ast.AST]) -> bool:
    """Wrap ``x`` in every ``x[a:b, c:d]`` that is read; whether there is one."""
    found = [node for node in nodes if isinstance(node, ast.Subscript) and _reads_two_slices(node)]
    for node in found:
        name = ast.copy_location(ast.Name(WRAPPER, ast.Load()), node.value)
        node.value = ast.copy_location(ast.Call(name, [node.value], []), node.value)
    return bool(found)


def _reads_two_slices(node: ast.Subscript) -> bool:
    if not isinstance(node.ctx, ast.Load) or not isinstance(node.slice, ast.Tuple):
        return False
    slices = [item for item in node.slice.elts if isinstance(item, ast.Slice)]
    return len(slices) >= 2 and any(item.lower is not None for item in slices)


def looks_for_empty(nodes: Sequence[ast.AST]) -> bool:
    """Whether code compares a size with 0 or 1, or tests it: then it knows what to do about an empty picture."""
    sides = _names_of_sizes(nodes)
    for node in nodes:
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
            if any(map(_is_small, compared)) and any(_is_size(side, sides) for side in compared):
                return True
        if any(isinstance(test, ast.Attribute) and test.attr == "size" for test in _tests(node)):
            return True
    return False


def _tests(node: ast.AST) -> list[Any]:
    """Expressions whose truth `node` asks for."""
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    return [getattr(node, "test", None)]


def _names_of_sizes(nodes: Sequence[ast.AST]) -> frozenset[str]:
    """Variables that are assigned from a shape."""
    assigned = [node for node in nodes if isinstance(node, ast.Assign) and _is_size(node.value, frozenset())]
    return frozenset(
        name.id
        for node in assigned
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    )


def _is_small(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value in {0, 1}


def _is_size(node: ast.expr, names: frozenset[str]) -> bool:
    """Whether an expression asks for a size, or names a variable of `names`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and part.attr in {"size", "shape"}:
            return True
        if isinstance(part, ast.Name) and (part.id == "len" or part.id in names):
            return True
    return False


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
    return slice(*fit_sides(start, stop, length))
