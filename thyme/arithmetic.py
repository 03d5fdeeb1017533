"""Numbers that code works with, followed through assignments and arithmetic as its text tells. Nothing is run."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeGuard

Value: TypeAlias = Any
"""What is known of an expression: a number, a tuple of values, or what a subclass knows of; None: nothing."""

LARGEST: Final = 1e7
"""Numbers beyond it are taken for unknown."""

_OPERATORS: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "int": int,
    "float": float,
    "round": round,
    "abs": abs,
    "max": max,
    "min": min,
    "floor": math.floor,
    "ceil": math.ceil,
}


def is_number(value: Value) -> TypeGuard[int | float]:
    """Whether a value is a number."""
    return isinstance(value, int | float)


def called(node: ast.Call) -> str:
    """The last name of what is called; empty where it has none."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@dataclass
class Arithmetic:
    """Values of names, and of expressions in them. A subclass has a ``_value_KIND`` more for each node it knows of."""

    names: dict[str, Value] = field(default_factory=dict, init=False)
    """What has been assigned so far."""

    def assign(self, target: ast.expr, value: Value) -> None:
        """Give a value to a name, or its parts to several."""
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            known = isinstance(value, tuple) and len(value) >= len(target.elts)
            for place, element in enumerate(target.elts):
                self.assign(element, value[place] if known else None)

    def value(self, node: ast.expr | None) -> Value:
        """What is known of an expression."""
        reader = getattr(self, f"_value_{type(node).__name__.lower()}", None)
        try:
            value = None if reader is None else reader(node)
        except (ArithmeticError, TypeError, ValueError, IndexError):  # code that would fail when it runs
            return None
        except RecursionError:  # each term of a sum lies a level deeper than the next one
            return None
        return None if is_number(value) and not abs(value) <= LARGEST else value

    def _value_constant(self, node: ast.Constant) -> Value:
        return node.value if is_number(node.value) else None

    def _value_name(self, node: ast.Name) -> Value:
        return self.names.get(node.id)

    def _value_tuple(self, node: ast.Tuple | ast.List) -> Value:
        return tuple(self.value(element) for element in node.elts)

    _value_list = _value_tuple

    def _value_unaryop(self, node: ast.UnaryOp) -> Value:
        value = self.value(node.operand)
        return -value if isinstance(node.op, ast.USub) and is_number(value) else None

    def _value_binop(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        known = is_number(left) and is_number(right) and type(node.op) in _OPERATORS
        return _OPERATORS[type(node.op)](left, right) if known else None

    def _value_subscript(self, node: ast.Subscript) -> Value:
        """A part of a tuple: ``size[0]``, ``shape[:2]``."""
        value, place = self.value(node.value), node.slice
        if not isinstance(value, tuple):
            return None
        if isinstance(place, ast.Slice):
            last = self.value(place.upper)
            return value[:last] if place.lower is None and isinstance(last, int) else None
        index = self.value(place)
        return value[index] if isinstance(index, int) else None

    def _value_call(self, node: ast.Call) -> Value:
        name, values = called(node), [self.value(argument) for argument in node.args]
        known = name in _FUNCTIONS and values and all(map(is_number, values))
        return _FUNCTIONS[name](*values) if known else None
