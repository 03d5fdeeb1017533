"""Names that Pillow, NumPy and OpenCV no longer have, as they were (repair ``removed``).

A removed name is given only to code that reads it straight away: `hasattr`, `getattr` with a default and code that
catches `AttributeError` see that it is gone.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .callers import asked_directly, unpacks
from .paths import Paths

PILLOW = {
    "ANTIALIAS": "LANCZOS", "LINEAR": "BILINEAR", "CUBIC": "BICUBIC", "Sampling": "Resampling",
    "fromstring": "frombytes",
}  # fmt: skip
"""Of `PIL.Image`."""

NUMPY = {
    "product": "prod", "cumproduct": "cumprod", "alltrue": "all", "sometrue": "any", "round_": "round",
    "in1d": "isin", "trapz": "trapezoid", "row_stack": "vstack", "rank": "ndim", "mat": "asmatrix",
    "float_": "float64", "complex_": "complex128", "cfloat": "complex128", "bool8": "bool_", "int0": "intp",
    "uint0": "uintp", "object0": "object_", "str0": "str_", "bytes0": "bytes_", "unicode_": "str_",
    "string_": "bytes_", "longfloat": "longdouble", "Inf": "inf", "Infinity": "inf", "infty": "inf", "PINF": "inf",
    "NaN": "nan", "NAN": "nan",
}  # fmt: skip
"""Of `numpy`, by the name each has now."""

PYTHON_TYPES = {
    "int": int, "float": float, "complex": complex, "object": object, "str": str, "unicode": str, "bool": bool,
    "long": int,
}  # fmt: skip
"""Python's own types, which `numpy` used to carry."""

OPENCV = {
    "CV_LOAD_IMAGE_COLOR": "IMREAD_COLOR", "CV_LOAD_IMAGE_GRAYSCALE": "IMREAD_GRAYSCALE",
    "CV_LOAD_IMAGE_UNCHANGED": "IMREAD_UNCHANGED", "CV_AA": "LINE_AA", "BoxPoints": "boxPoints",
}  # fmt: skip
"""Of `cv2`; any other ``CV_NAME`` is ``NAME`` or ``COLOR_NAME`` where there is one."""

_OPENCV_MODULES = frozenset({"cv", "xfeatures2d"})
"""Parts of `cv2` whose contents moved to `cv2` itself."""


def install(paths: Paths) -> None:
    """Put the hooks of one session in place. Call once, in the forked process."""
    if "removed" not in paths.enabled:
        return
    import cv2
    import numpy as np
    from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageMath

    _hook_module(Image, lambda name: _renamed(Image, PILLOW, name), paths)
    _hook_module(np, _numpy, paths)
    _hook_module(cv2, _opencv, paths)
    _hook_contours(cv2, paths)
    _hook_module(ImageMath, lambda name: ("unsafe_eval", ImageMath.unsafe_eval) if name == "eval" else None, paths)
    _hook_methods(Image.Image, {"tostring": Image.Image.tobytes, "offset": ImageChops.offset}, paths)
    drawing = {"textsize": _drawn_size, "multiline_textsize": _drawn_size}
    _hook_methods(ImageDraw.ImageDraw, drawing, paths)
    for font in (ImageFont.FreeTypeFont, ImageFont.ImageFont, ImageFont.TransposedFont):
        _hook_methods(font, {"getsize": _font_size, "getsize_multiline": _font_size_of_lines}, paths)
    _hook_methods(ImageFont.FreeTypeFont, {"getoffset": lambda font, text: font.getbbox(text)[:2]}, paths)


Found = tuple[str, Any] | None
"""What stands for a removed name now: its own name, and the thing itself."""


def _hook_module(module: types.ModuleType, find: Callable[[str], Found], paths: Paths) -> None:
    original = module.__dict__.get("__getattr__")

    def __getattr__(name: str) -> Any:
        found = find(name) if asked_directly() else None
        if found is not None:
            paths.note("removed", f"{module.__name__}.{name} is gone; used {found[0]}")
            return found[1]
        if original is not None:
            return original(name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}", name=name, obj=module)

    module.__dict__["__getattr__"] = __getattr__


def _renamed(module: Any, table: Mapping[str, str], name: str) -> Found:
    now = table.get(name)
    return (now, getattr(module, now)) if now is not None and hasattr(module, now) else None


def _numpy(name: str) -> Found:
    import numpy as np

    if name in PYTHON_TYPES:
        return name, PYTHON_TYPES[name]
    changed: dict[str, Any] = {
        "NINF": -np.inf,
        "PZERO": 0.0,
        "NZERO": -0.0,
        "asscalar": lambda a: a.item(),
        "asfarray": lambda a, dtype=np.float64: np.asarray(a, dtype),
        "msort": lambda a: np.sort(a, axis=0),
        "in1d": lambda a, b, **options: np.isin(np.ravel(a), b, **options),
        "math": __import__("math"),
    }
    return ("the same", changed[name]) if name in changed else _renamed(np, NUMPY, name)


def _opencv(name: str) -> Found:
    import cv2

    if name in _OPENCV_MODULES:
        return "cv2", _OldModule()
    return _in_opencv(cv2, name)


def _in_opencv(cv2: Any, name: str) -> Found:
    plain = name.removeprefix("CV_")
    for now in (OPENCV.get(name), *((plain, f"COLOR_{plain}") if plain != name else ())):
        if now in cv2.__dict__:
            return f"cv2.{now}", cv2.__dict__[now]
    return None


def _hook_contours(cv2: Any, paths: Paths) -> None:
    """Give three values to code that takes three, as OpenCV 3 did."""
    original = cv2.findContours

    def findContours(image: Any, *args: Any, **options: Any) -> Any:
        found = original(image, *args, **options)
        if not unpacks(3):
            return found
        paths.note("removed", "cv2.findContours returns contours and hierarchy; put the image before them")
        return (image, *found)

    findContours.__doc__ = original.__doc__
    cv2.findContours = findContours


class _OldModule:
    """``cv2.cv`` and the like: whatever is asked of them is looked for in `cv2`."""

    def __getattr__(self, name: str) -> Any:
        import cv2

        found = _in_opencv(cv2, name)
        return found[1] if found is not None else getattr(cv2, name)


class _RemovedMethod:
    """A method that is there only for code that reads it straight away."""

    def __init__(self, name: str, function: Callable[..., Any], paths: Paths) -> None:
        self._name, self._function, self._paths = name, function, paths

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None or not asked_directly():
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}")
        self._paths.note("removed", f"{owner.__name__}.{self._name} is gone; did as it did")
        return types.MethodType(self._function, instance)


def _hook_methods(owner: type, methods: Mapping[str, Callable[..., Any]], paths: Paths) -> None:
    for name, function in methods.items():
        if not hasattr(owner, name):
            setattr(owner, name, _RemovedMethod(name, function, paths))


def _drawn_size(draw: Any, text: str, font: Any = None, *args: Any, **options: Any) -> tuple[int, int]:
    left, _, right, lower = draw.textbbox((0, 0), text, font, None, *args, **options)
    return _whole(right - left, lower)


def _font_size(font: Any, text: str, *args: Any, **options: Any) -> tuple[int, int]:
    left, _, right, lower = font.getbbox(text, *args, **options)
    return _whole(right - left, lower)


def _font_size_of_lines(font: Any, text: str, **options: Any) -> tuple[int, int]:
    sizes = list(_sizes(font, text, options))
    return max(width for width, _ in sizes), sum(height for _, height in sizes)


def _sizes(font: Any, text: str, options: dict[str, Any]) -> Iterator[tuple[int, int]]:
    for line in text.split("\n"):
        yield _font_size(font, line, **options)


def _whole(width: float, height: float) -> tuple[int, int]:
    return round(width), round(height)
