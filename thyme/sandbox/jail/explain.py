"""What went wrong, in few words that help: the message, the line it happened on, and a hint where there is one."""

from __future__ import annotations

import builtins
import difflib
import importlib.util
import os
import posixpath
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .boxes import are_fractions
from .confine import OUTPUT
from .paths import Paths

MOST_CHARS = 560
"""Of a message with everything."""
_LINE_CHARS = 160
_HINT_CHARS = 220
_MOST_NAMES = 8
_LIBRARIES = ("numpy", "PIL", "cv2", "scipy", "sympy", "skimage", "matplotlib", "pandas")
"""Named to code that imports what is not there, as far as they are."""

_OPENCV_HEAD = re.compile(r"^OpenCV\([^)]*\)\s*\S*\s*error: \(([^)]*)\)\s*", re.DOTALL)
_MISSING_ATTRIBUTE = re.compile(r"'(?:numpy\.)?ndarray' object has no attribute '(\w+)'")


def explain(error: BaseException, message: str, source: str, namespace: dict[str, Any], paths: Paths) -> str:
    """The message of an error as the model is to read it.

    Args:
        error: What the code raised.
        message: Its text.
        source: Text of the line on which the code was left; may be empty.
        namespace: Variables of the code.
        paths: Of this session.

    Returns:
        At most `MOST_CHARS` characters: message, line, hint.
    """
    text = _plain(message)
    where = f" in `{_cut(source.strip(), _LINE_CHARS)}`" if source.strip() else ""
    hint = _cut(_hint(error, text, namespace, paths), _HINT_CHARS)
    tail = where + (f". {hint}" if hint else "")
    return _cut(text, MOST_CHARS - len(tail)).rstrip(". " if tail else "") + tail


def _plain(message: str) -> str:
    """One line; OpenCV's build path and what it says of each of its overloads left out."""
    text = " ".join(_OPENCV_HEAD.sub("", message).split())
    head, *reasons = text.split(" > - ")
    told = [reason for reason in dict.fromkeys(reasons) if "cv::UMat" not in reason]
    return ": ".join([head.replace(" > Overload resolution failed:", ""), *told[:1]]) if told else text


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(0, most - 2)] + " …"


def _hint(error: BaseException, text: str, namespace: dict[str, Any], paths: Paths) -> str:
    try:
        for kind, hint in _HINTS:
            if isinstance(error, kind) and (found := hint(error, text, namespace, paths)):
                return found
        return _opencv_hint(text) if type(error).__module__ == "cv2" else ""
    except Exception:  # a hint is a courtesy, and the code's objects can raise anything
        return ""


def _name_hint(error: Any, text: str, namespace: dict[str, Any], paths: Paths) -> str:
    name = error.name
    if not isinstance(name, str):
        return ""
    if name in {"image_path", "image_paths"} and not paths.inputs:
        return "There is no input image"
    ours = [known for known in namespace if isinstance(known, str) and not known.startswith("__")]
    close = difflib.get_close_matches(name, [*ours, *dir(builtins)], 1, 0.7)
    if close:
        return f"Did you mean {close[0]}?"
    if name in {"image_path", "image_paths", "processed_path"}:
        return "There is no input image and nothing was saved" if not paths.inputs else f"Input: {paths.inputs[0]}"
    variables = [known for known in ours if not callable(namespace[known])]
    return f"Defined: {', '.join(variables[-_MOST_NAMES:])}" if variables else ""


def _file_hint(error: Any, text: str, namespace: dict[str, Any], paths: Paths) -> str:
    name = getattr(error, "filename", None)
    folder = posixpath.dirname(paths.absolute(os.fsdecode(name))) if isinstance(name, str | bytes) else OUTPUT
    for candidate in dict.fromkeys((folder, OUTPUT)):
        try:
            names = sorted(os.listdir(paths.look(candidate)))
        except OSError:
            continue
        if names:
            more = ", …" if len(names) > _MOST_NAMES else ""
            return f"In {candidate}: {', '.join(names[:_MOST_NAMES])}{more}"
    return f"Nothing was saved yet. Input: {', '.join(paths.inputs[:3])}" if paths.inputs else "Nothing was saved yet"


def _attribute_hint(error: Any, text: str, namespace: dict[str, Any], paths: Paths) -> str:
    if "'NoneType' object" in text:
        return _none_hint(paths)
    if matched := _MISSING_ATTRIBUTE.search(text):
        return _array_hint(matched[1])
    if not isinstance(error.name, str) or error.obj is None:
        return ""
    if isinstance(error.obj, ModuleType) and hasattr(error.obj, "__path__"):
        whole = f"{error.obj.__name__}.{error.name}"
        if importlib.util.find_spec(whole) is not None:
            return f"Use: import {whole}"
    if type(error.obj).__module__.startswith("PIL.") and error.name in {"shape", "ndim", "dtype"}:
        return "It is a Pillow image; use .size (width, height), or numpy.array(image)"
    close = difflib.get_close_matches(error.name, dir(error.obj), 1, 0.7)
    return f"Did you mean {close[0]}?" if close else ""


_ARRAY_HINTS = {
    "crop": "It is an array; use a[y1:y2, x1:x2]",
    "save": "It is an array; use cv2.imwrite(path, a) or Image.fromarray(a).save(path)",
    "size": "",
    "width": "It is an array; use a.shape: height, width, channels",
    "height": "It is an array; use a.shape: height, width, channels",
    "convert": "It is an array; use Image.fromarray(a) or cv2.cvtColor",
    "tostring": "Use a.tobytes()",
    "ptp": "Use numpy.ptp(a)",
    "itemset": "Use a[index] = value",
    "newbyteorder": "Use a.view(a.dtype.newbyteorder())",
}


def _array_hint(name: str) -> str:
    return _ARRAY_HINTS.get(name, "It is an array; Image.fromarray(a) makes a Pillow image of it")


def _none_hint(paths: Paths) -> str:
    where = f"; the input is {paths.inputs[0]}" if paths.inputs else ""
    return f"A function returned nothing; cv2.imread does so where it cannot read a file{where}"


def _type_hint(error: Any, text: str, namespace: dict[str, Any], paths: Paths) -> str:
    if "NoneType" in text:
        return _none_hint(paths)
    if "slice indices must be integers" in text or "'float' object cannot be interpreted as an integer" in text:
        return "Use int(...)"
    if text.startswith("Cannot handle this data type"):
        return "Use a.astype('uint8'); multiply by 255 first if the numbers go from 0 to 1"
    return ""


def _value_hint(error: Any, text: str, namespace: dict[str, Any], paths: Paths) -> str:
    if "cannot write empty image" in text or "must be > 0" in text:
        return "The box or slice before it has no area" + _fraction_hint(namespace)
    if "assignment destination is read-only" in text:
        return "numpy.array(image) makes an array that can be written to, numpy.asarray(image) may not"
    if "unpack" in text:
        return "cv2.findContours returns two values: contours, hierarchy" if "expected 3, got 2" in text else ""
    return ""


def _fraction_hint(namespace: dict[str, Any]) -> str:
    """Whether there is a box in fractions of the size among the variables."""
    for value in list(namespace.values()):
        is_box = isinstance(value, list | tuple) and len(value) == 4 and all(type(v) in {int, float} for v in value)
        if is_box and are_fractions(value):
            return "; boxes are in pixels, not in fractions of the size"
    return ""


def _import_hint(error: Any, text: str, namespace: dict[str, Any], paths: Paths) -> str:
    root = error.name.partition(".")[0] if isinstance(error.name, str) else ""
    if "No module" not in text or root in sys.modules:  # a part that a package does not have
        return ""
    found = [name for name in _LIBRARIES if importlib.util.find_spec(name)]
    return f"It is not installed; there are {', '.join(found)} and the standard library"


def _index_hint(error: Any, text: str, namespace: dict[str, Any], paths: Paths) -> str:
    if "image index out of range" not in text:
        return ""
    sizes = [f"{name} is {value.width}x{value.height}" for name, value in _pictures(namespace)]
    return "Pixels count from (0, 0); " + ", ".join(sizes[:3]) if sizes else ""


def _pictures(namespace: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(n, v) for n, v in list(namespace.items()) if type(v).__module__.startswith("PIL.") and hasattr(v, "width")]


def _opencv_hint(text: str) -> str:
    for sign, hint in _OPENCV_SIGNS:
        if sign in text:
            return hint
    return ""


_OPENCV_SIGNS = (
    ("is not a numpy array", "OpenCV takes arrays: numpy.array(image) makes one of a Pillow image"),
    ("empty()", "The picture is empty: the file was not read, or the slice has no area"),
    ("inv_scale_x > 0", "The new size is 0: the picture is empty, or the factor too small"),
    ("ksize", "The size of the kernel must be odd"),
    ("blockSize % 2 == 1", "The size of the block must be odd"),
    ("Bad number of channels", "Grey pictures have no channels to convert, colour pictures three"),
    ("scn", "Grey pictures have no channels to convert, colour pictures three"),
    ("neither 'array op array'", "Both pictures must have the same size and channels; use cv2.resize"),
    ("Sizes of input arguments do not match", "Both pictures must have the same size and channels; use cv2.resize"),
    ("src[i].rows == src[0].rows", "All pictures must have the same height; use cv2.resize"),
    ("src[i].cols == src[0].cols", "All pictures must have the same width; use cv2.resize"),
    ("Layout of the output array", "Drawing needs an array in one piece; use numpy.ascontiguousarray(a)"),
    ("nsupported depth", "Pictures of such numbers are not taken; use a.astype('uint8')"),
    ("Can't parse", "Points and sizes are pairs of whole numbers"),
    ("required to be an integer", "It must be a whole number; use int(...)"),
    ("can't open/read", "The file cannot be read"),
)

Hint = Callable[[Any, str, dict[str, Any], Paths], str]

_HINTS: tuple[tuple[type[BaseException], Hint], ...] = (
    (NameError, _name_hint),
    (FileNotFoundError, _file_hint),
    (AttributeError, _attribute_hint),
    (TypeError, _type_hint),
    (ValueError, _value_hint),
    (ImportError, _import_hint),
    (IndexError, _index_hint),
)
"""Where to look for a hint, by the kind of error."""
