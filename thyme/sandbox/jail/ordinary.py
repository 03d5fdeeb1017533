"""Which saves are so ordinary that nothing can go wrong when the file is written later.

Everything else is written at once, so that errors arise where they would without the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LONGEST_SIDE = {"JPEG": 65_500, "PNG": 65_535, "WEBP": 16_383}
_MOST_INFO = 1 << 16


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _between(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _dpi(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(part, int | float) and 0 < part < 1 << 16 for part in value)
    )


def _png_info(value: Any) -> bool:
    from PIL import PngImagePlugin

    return type(value) is PngImagePlugin.PngInfo


_MODES = {"JPEG": {"L", "RGB"}, "PNG": {"L", "RGB", "RGBA"}, "WEBP": {"RGB", "RGBA"}}
_OPTIONS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "JPEG": {
        "quality": _between(1, 100), "optimize": _flag, "progressive": _flag, "subsampling": _between(0, 2), "dpi": _dpi
    },
    "PNG": {"compress_level": _between(0, 9), "optimize": _flag, "dpi": _dpi, "pnginfo": _png_info},
    "WEBP": {"quality": _between(0, 100), "lossless": _flag, "method": _between(0, 6)},
}  # fmt: skip

_IGNORED = {
    "JPEG": {"compress_level", "lossless", "method"},
    "PNG": {"quality", "progressive", "subsampling", "lossless", "method"},
    "WEBP": {"optimize", "progressive", "compress_level", "dpi"},
}
"""Options of other formats, which code passes all the same and Pillow does not look at."""

_ENDINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_ARRAY_MODES = {
    "JPEG": {1: "L", 3: "RGB"},
    "PNG": {1: "L", 3: "RGB", 4: "RGBA"},
    "WEBP": {3: "RGB", 4: "RGBA"},
}
_ARRAY_OPTIONS = {
    "JPEG": {"IMWRITE_JPEG_QUALITY": 100, "IMWRITE_JPEG_PROGRESSIVE": 1, "IMWRITE_JPEG_OPTIMIZE": 1},
    "PNG": {"IMWRITE_PNG_COMPRESSION": 9},
    "WEBP": {"IMWRITE_WEBP_QUALITY": 100},
}


def is_ordinary(image: Any, format: str, options: dict[str, Any]) -> bool:
    """Whether Pillow can save a loaded image in that format, with those options, at any time."""
    checks = _OPTIONS.get(format)
    return (
        checks is not None
        and image.mode in _MODES[format]
        and 0 < min(image.size) <= max(image.size) <= _LONGEST_SIDE[format]
        and all(checks[name](value) if name in checks else name in _IGNORED[format] for name, value in options.items())
        and not getattr(image, "encoderinfo", None)
        and _is_plain(image.info)
    )


def _is_plain(info: dict[Any, Any]) -> bool:
    """Whether what an image carries along can be written, too."""
    comment, profile = info.get("comment"), info.get("icc_profile")
    return (
        "transparency" not in info
        and (comment is None or (isinstance(comment, bytes) and len(comment) < _MOST_INFO - 3))
        and (profile is None or (isinstance(profile, bytes) and len(profile) < _MOST_INFO))
    )


def array_mode(array: Any, ending: str, options: Any) -> str | None:
    """The Pillow mode in which an array that OpenCV can save at any time goes back; None for any other one.

    Args:
        array: As the code passed it.
        ending: Of the file's name, with its dot.
        options: As the code passed them.
    """
    import numpy as np

    format = _ENDINGS.get(ending.lower())
    if format is None or type(array) is not np.ndarray or array.dtype != np.uint8 or array.ndim not in {2, 3}:
        return None
    if not 0 < min(array.shape[:2]) <= max(array.shape[:2]) <= _LONGEST_SIDE[format]:
        return None
    channels = 1 if array.ndim == 2 else array.shape[2]
    return _ARRAY_MODES[format].get(channels) if _are_ordinary(format, options) else None


def _are_ordinary(format: str, options: Any) -> bool:
    import cv2

    if options is None:
        return True
    if not isinstance(options, list | tuple) or len(options) % 2 or not all(type(value) is int for value in options):
        return False
    known = {getattr(cv2, name): most for name, most in _ARRAY_OPTIONS[format].items()}
    pairs = zip(options[::2], options[1::2], strict=True)
    return all(option in known and 0 <= value <= known[option] for option, value in pairs)
