"""Code as the released Thyme sandbox ran it, where parity with old data is wanted (``compat="released"``).

docs/repairs.md says what is reproduced and what is not. Nothing of it protects anything: the refusal of code by its
words is kept because it decides what the model saw.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import os
import pickle
import re
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import saves
from .confine import OUTPUT
from .interpreter import Interpreter
from .paths import Paths, exists
from .repair import Repaired

REFUSED = re.compile(
    r"\b(?:(?:sys|socket|subprocess)\.|(?:exec|eval|compile|__import__)\(|os\.(?:remove|unlink|rmdir|renames?)\b"
    r"|shutil\.(?:rmtree|move)\b)",
    re.IGNORECASE,
)
"""What code must not mention, not even in a comment."""

BUILTINS = (
    "print", "len", "str", "int", "float", "list", "dict", "tuple", "range", "round", "abs", "min", "max", "sum",
    "sorted", "any", "all", "zip", "map", "filter", "isinstance", "issubclass", "Exception", "ValueError", "TypeError",
    "AttributeError", "IndexError", "KeyError", "NotImplementedError", "enumerate", "pow", "divmod", "bin", "oct",
    "hex", "complex", "__import__", "globals", "locals", "open",
)  # fmt: skip
"""All the builtins there were: no `set`, no `type`, no classes."""

MODULES = (
    "os", "shutil", "itertools", "re", "time", "datetime", "math", "cmath", "collections", "json", "PIL", "random",
)  # fmt: skip
"""Modules that stood among the builtins."""

PRESETS = {
    "os": "os", "random": "random", "string": "string", "math": "math", "Image": "PIL.Image", "numpy": "numpy",
    "np": "numpy", "json": "json", "re": "re", "cv2": "cv2",
}  # fmt: skip
"""Globals that every block found."""

SMALLEST_SIDE = 64
"""Pixels to which a box is widened."""
CORNERS = frozenset({"x1", "y1", "x2", "y2", "left", "top", "right", "bottom"})
BOXES = frozenset({
    "crop_box", "bbox", "box", "coordinates", "coords", "crop_coords", "left_crop_coords", "right_crop_coords",
    "top_crop_coords", "bottom_crop_coords",
})  # fmt: skip
"""Names of variables whose four literal numbers were taken for a box."""
OPENCV_NAMES = frozenset({"cv", "cv3", "cv4", "CV"})

_INPUT_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tiff", ".webp")
_ENDINGS = r"\.(?:jpg|jpeg|png|bmp|gif|tiff)"
_SAVED = re.compile(rf"{re.escape(OUTPUT)}[^\s'\"]+{_ENDINGS}")
_ANY_NAME = re.compile(rf"[^\s'\"]+{_ENDINGS}")
_TOP_LEVEL = re.compile(rf"{re.escape(OUTPUT)}/[^/]+{_ENDINGS}")
_QUOTED_FOLDER = re.compile(rf"(['\"]){re.escape(OUTPUT)}/([^'\"]*)/[^'\"/]*\1")
_ONE_DIGIT = re.compile(r":\.\df}")
_LONGEST_ASPECT = 200

Box = tuple[float, float, float, float]


def interpreter_for(paths: Paths, limits: dict[str, Any]) -> Interpreter:
    """The interpreter that ``compat`` of the limits asks for."""
    return (ReleasedInterpreter if limits["compat"] == "released" else Interpreter)(paths, limits)


class RefusedError(Exception):
    """The code mentions what it must not."""


class ReleasedInterpreter(Interpreter):
    """Runs blocks as the released sandbox did; none of our own repairs is on."""

    def __init__(self, paths: Paths, limits: dict[str, Any]) -> None:
        """See `Interpreter`."""
        paths.enabled = frozenset()
        super().__init__(paths, limits)
        self._variables: dict[str, Any] = {}
        """What one block leaves to the next."""
        self._earlier: frozenset[str] = frozenset()
        """Names that the last block found."""
        self._code = ""

    def run(self, code: str) -> dict[str, Any]:
        """Run one block; an observation is its images, or its text, or its error, never two of them."""
        reply = super().run(code)
        images = [] if reply["error"] else reply["images"]
        shows_text = reply["stdout"].strip() and OUTPUT + "/" not in self._code
        if not images and not reply["error"] and not shows_text:
            reply["error"] = self._lost_image()
        if any(max(i["width"], i["height"]) > _LONGEST_ASPECT * min(i["width"], i["height"]) for i in images):
            images = []
            message = f"an image is more than {_LONGEST_ASPECT} times as long as it is wide"
            reply["error"] = {"type": "ValueError", "message": message, "line": None}
        says_nothing = reply["error"] or images or OUTPUT + "/" in self._code
        return reply | {"images": images, "stdout": "" if says_nothing else reply["stdout"].strip()}

    def _repair(self, code: str) -> Repaired:
        inputs = self.pictures.inputs
        first = inputs[0] if inputs else None
        size = (first.width, first.height) if first else None
        self._code = (
            code if REFUSED.search(code) else rewrite(code, first.path if first else None, size, self._is_image)
        )
        if self._code == code:
            return Repaired(code)
        return Repaired(self._code, (("released", "rewritten as the released sandbox did"),))

    def _lost_image(self) -> dict[str, Any] | None:
        """The error of a block without images whose ``processed_path`` is none of its files."""
        chosen = self._variables.get("processed_path")
        if chosen is None or "processed_path" in self._earlier:
            return None
        message = f"processed_path is no image in {OUTPUT}: {str(chosen)[:200]}"
        return {"type": "FileNotFoundError", "message": message, "line": None}

    def _is_image(self, path: str) -> bool:
        return path.lower().endswith(_INPUT_ENDINGS) and exists(self._paths.look(path))

    def _exec(self, code: str, filename: str) -> None:
        self._earlier, earlier = frozenset(self._variables), self._variables
        self._variables = {}
        if REFUSED.search(code):
            raise RefusedError("the code contains a system operation that is not allowed")
        for matched in _QUOTED_FOLDER.finditer(code):
            os.makedirs(f"{OUTPUT}/{matched[2]}", exist_ok=True)
        variables: dict[str, Any] = {"temp_output_dir": OUTPUT + "/"}
        if self._paths.inputs:
            variables["image_path"] = self._paths.inputs[0]
        variables |= earlier
        try:
            exec(compile(code, filename, "exec", dont_inherit=True), presets(), variables)
        finally:
            self._variables = {name: value for name, value in variables.items() if lives_on(name, value)}
            self.namespace.update(self._variables)

    def _named(
        self, text: str, named_before: Any, before: dict[str, saves.State], present: dict[str, saves.State]
    ) -> list[str]:
        """What of this block was taken for its images."""
        result: list[str] = []
        chosen = self._variables.get("processed_path")
        if "processed_path" not in self._earlier and isinstance(chosen, str) and chosen in present:
            result.append(chosen)
        printed = _SAVED.findall(text)
        result += [path for path in dict.fromkeys(printed) if path in present and path not in result]
        if result or not text.strip():
            return result
        new = [p for p, s in present.items() if self._saves.is_new(self._paths.real(p), before.get(p), s)]
        saved = sorted(path for path in new if _TOP_LEVEL.fullmatch(path))
        return saved if len(saved) in {len(printed), len(_ANY_NAME.findall(text))} else []


def presets() -> dict[str, Any]:
    """The globals of a block."""
    from PIL import UnidentifiedImageError

    allowed = {name: getattr(builtins, name) for name in BUILTINS}
    allowed |= {name: importlib.import_module(name) for name in MODULES}
    allowed["UnidentifiedImageError"] = UnidentifiedImageError
    found = {name: importlib.import_module(module) for name, module in PRESETS.items()}
    return {"__builtins__": allowed, "UnidentifiedImageError": UnidentifiedImageError, **found}


def lives_on(name: str, value: Any) -> bool:
    """Whether the next block finds a variable: functions and open files it does not."""
    if name in PRESETS:
        return False
    if isinstance(value, types.ModuleType):
        return True
    try:
        pickle.dumps(value)
    except Exception:  # an object says in its own way that it cannot be pickled
        return False
    return True


def rewrite(code: str, image: str | None, size: tuple[int, int] | None, is_image: Callable[[str], bool]) -> str:
    """The code as the released sandbox changed it before it ran.

    Args:
        code: As the model wrote it.
        image: Path of the first input.
        size: Of that, width and height in pixels.
        is_image: Whether there is a picture at a path.
    """
    changed = _formatted(textwrap.dedent(align_first_line(code.strip())).strip())
    try:
        tree = ast.parse(changed)
    except SyntaxError:
        return _ONE_DIGIT.sub(":.8f}", changed)
    touched = [
        image is not None and _replace_image_path(tree, image, is_image),
        size is not None and _fit_boxes(tree, size),
        _rename_opencv(tree),
    ]
    if any(touched):
        changed = ast.unparse(tree)
    return _ONE_DIGIT.sub(":.8f}", changed)


def _formatted(code: str) -> str:
    try:
        import autopep8

        formatted: str = autopep8.fix_code(code, options={"aggressive": 2})
    except Exception:  # as it was: code that cannot be formatted runs unformatted
        return code
    return formatted


def align_first_line(code: str) -> str:
    """Indent the first line that is not empty as far as the second one."""
    lines = code.splitlines()
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if len(filled) > 1:
        first, second = filled[:2]
        width = len(lines[second]) - len(lines[second].lstrip(" "))
        lines[first] = " " * width + lines[first].lstrip(" ")
    return "\n".join(lines)


def _assignments(tree: ast.AST) -> Iterator[tuple[ast.Assign, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            yield node, node.targets[0]


def _replace_image_path(tree: ast.AST, image: str, is_image: Callable[[str], bool]) -> bool:
    replaced = False
    for node, target in _assignments(tree):
        value = node.value.value if isinstance(node.value, ast.Constant) else None
        is_path = isinstance(target, ast.Name) and target.id == "image_path" and isinstance(value, str)
        if is_path and not is_image(str(value)):
            node.value = ast.Constant(image)
            replaced = True
    return replaced


def _fit_boxes(tree: ast.AST, size: tuple[int, int]) -> bool:
    fitted = False
    for node, target in _assignments(tree):
        sides = _literal_box(node.value)
        if sides is None or not _names_a_box(target):
            continue
        box = widened(sides, *size)
        if [round(side) for side in box] != [round(side) for side in sides]:
            node.value = ast.Tuple([ast.Constant(round(side)) for side in box], ast.Load())
            fitted = True
    return fitted


def _literal_box(value: ast.expr) -> Box | None:
    if not isinstance(value, ast.Tuple) or len(value.elts) != 4:
        return None
    sides = [item.value for item in value.elts if isinstance(item, ast.Constant)]
    if len(sides) != 4 or not all(isinstance(side, int | float) for side in sides):
        return None
    return (sides[0], sides[1], sides[2], sides[3])  # type: ignore[return-value]  # looked at just above


def _names_a_box(target: ast.expr) -> bool:
    if isinstance(target, ast.Name):
        return target.id in BOXES
    if not isinstance(target, ast.Tuple) or len(target.elts) != 4:
        return False
    names = [item.id.lower() for item in target.elts if isinstance(item, ast.Name)]
    return len(names) == 4 and not CORNERS.isdisjoint(names)


def widened(sides: Sequence[float], width: int, height: int) -> Box:
    """A box inside the image, its sides in order and at least `SMALLEST_SIDE` long where the image is."""
    left, right = _widened(sides[0], sides[2], width)
    upper, lower = _widened(sides[1], sides[3], height)
    return left, upper, right, lower


def _widened(start: float, end: float, length: int) -> tuple[float, float]:
    low, high = sorted((start, end))
    low, high = min(max(0.0, low), length - 1), min(max(0.0, high), length)
    if low >= high:
        low = max(0.0, high - 1)
        high = max(high, low + 1)
    if high - low >= SMALLEST_SIDE:
        return low, high
    if length < SMALLEST_SIDE:
        return 0, length
    high = min(low + SMALLEST_SIDE, length)
    return min(low, high - SMALLEST_SIDE), high


def _rename_opencv(tree: ast.AST) -> bool:
    renamed = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in OPENCV_NAMES:
            node.value.id = "cv2"
            renamed = True
    return renamed
