"""Repairs at run time, in place from the start: paths, folders, names, and boxes that leave their image.

Each hook does exactly what the original does where nothing needs to be put right.
"""

from __future__ import annotations

import builtins
import dis
import importlib
import importlib.machinery
import io
import math
import numbers
import sys
import types
from collections.abc import Sequence
from typing import Any

from .paths import Paths, hook_os

Box = tuple[float, float, float, float]

ALIASES = {
    "cv": "cv2", "cv4": "cv2", "CV": "cv2", "CV2": "cv2", "cv2": "cv2", "np": "numpy", "numpy": "numpy",
    "plt": "matplotlib.pyplot", "pd": "pandas", "math": "math", "os": "os", "re": "re", "json": "json", "sys": "sys",
    "random": "random", "time": "time", "itertools": "itertools", "collections": "collections", "PIL": "PIL",
    "Image": "PIL.Image", "ImageOps": "PIL.ImageOps", "ImageDraw": "PIL.ImageDraw", "ImageFont": "PIL.ImageFont",
    "ImageFilter": "PIL.ImageFilter", "ImageEnhance": "PIL.ImageEnhance", "ImageChops": "PIL.ImageChops",
    "ImageStat": "PIL.ImageStat",
}  # fmt: skip
"""Names that code expects without importing them, and the module each stands for."""

MISNAMED_MODULES = {"cv": "cv2", "cv4": "cv2", "CV2": "cv2"}


def install(paths: Paths) -> None:
    """Put the hooks of one session in place. Call once, in the forked process."""
    hook_os(paths)
    _hook_open(paths)
    if "boundary" in paths.enabled:
        _hook_crop(paths)
    if "names" in paths.enabled:
        sys.meta_path.append(_MisnamedModules(paths))


def _hook_open(paths: Paths) -> None:
    original = builtins.open

    def open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        writes = isinstance(mode, str) and any(letter in mode for letter in "wxa+")
        return original((paths.write if writes else paths.read)(file), mode, *args, **kwargs)

    open.__doc__ = original.__doc__
    builtins.open = open
    io.open = open


def _hook_crop(paths: Paths) -> None:
    from PIL import Image

    original = Image.Image.crop

    def crop(self: Image.Image, box: Sequence[float] | None = None) -> Image.Image:
        fitted = None if box is None else fit_box(box, self.width, self.height)
        if fitted is None:
            return original(self, box)  # type: ignore[arg-type]  # whatever the code passed, Pillow judges it
        paths.note("boundary", f"fitted the box {_short(box)} to the image of {self.width}x{self.height}")
        return original(self, fitted)

    crop.__doc__ = original.__doc__
    Image.Image.crop = crop  # type: ignore[method-assign]  # that is what a hook is


def _short(box: Any) -> str:
    return "(" + ", ".join(f"{side:g}" for side in box) + ")"


def fit_box(box: Any, width: int, height: int) -> Box | None:
    """The nearest box inside the image.

    Args:
        box: Left, upper, right, lower, pixels; anything else is left to Pillow.
        width: Of the image, pixels.
        height: Of the image, pixels.

    Returns:
        None where the box is right as it is, or is no box at all. Swapped sides are swapped back, sides outside are
        moved to the border, and a box without area gets one pixel.
    """
    try:
        sides = list(box)
    except TypeError:
        return None
    if not all(isinstance(side, numbers.Real) for side in sides):
        return None
    if len(sides) != 4 or not all(math.isfinite(side) for side in sides) or not (width and height):
        return None
    left, right = _fit(sides[0], sides[2], width)
    upper, lower = _fit(sides[1], sides[3], height)
    fitted = (left, upper, right, lower)
    return None if list(fitted) == [round(side) for side in sides] else fitted


def _fit(start: float, end: float, length: int) -> tuple[int, int]:
    low, high = sorted((round(start), round(end)))  # Pillow rounds the sides in the same way
    low, high = min(max(low, 0), length - 1), min(max(high, 0), length)
    return low, max(high, low + 1)


def missing_names(code: types.CodeType, known: dict[str, Any]) -> list[str]:
    """Names of `ALIASES` that `code` reads as globals, and that neither it nor earlier code defines."""
    wanted = {name for name in ALIASES if name not in known and not hasattr(builtins, name)}
    read: set[str] = set()
    bound: set[str] = set()
    waiting = [code]
    while waiting:
        current = waiting.pop()
        waiting += [constant for constant in current.co_consts if isinstance(constant, types.CodeType)]
        if wanted.isdisjoint(current.co_names):
            continue
        for instruction in dis.get_instructions(current):
            if instruction.opname in {"LOAD_NAME", "LOAD_GLOBAL"}:
                read.add(instruction.argval)
            elif instruction.opname in {"STORE_NAME", "STORE_GLOBAL"}:
                bound.add(instruction.argval)
    return sorted(wanted & read - bound)


def define_missing(code: types.CodeType, namespace: dict[str, Any], paths: Paths) -> None:
    """Define names that code expects to be there (the repair ``names``)."""
    if "names" not in paths.enabled:
        return
    for name in missing_names(code, namespace):
        try:
            module = importlib.import_module(ALIASES[name])
        except ImportError:
            continue
        namespace[name] = module
        paths.note("names", f"{name} was not imported; it is {ALIASES[name]}")


class _MisnamedModules:
    """Finds modules that are imported under a name they do not have; asked last."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in MISNAMED_MODULES:
            return None
        self._paths.note("names", f"there is no module {name}; it is {MISNAMED_MODULES[name]}")
        return importlib.machinery.ModuleSpec(name, self)  # type: ignore[arg-type]  # a loader in all that is used

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return importlib.import_module(MISNAMED_MODULES[spec.name])

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: the module ran when it was imported under its own name."""
