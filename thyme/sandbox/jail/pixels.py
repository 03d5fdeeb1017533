"""Arrays that are no pixels yet, made into a picture (repair ``formats``)."""

from __future__ import annotations

from typing import Any

from .callers import expects
from .paths import Paths


def install(paths: Paths) -> None:
    """Put the hook of one session in place. Call once, in the forked process."""
    if "formats" not in paths.enabled:
        return
    from PIL import Image

    original = Image.fromarray

    def fromarray(obj: Any, mode: str | None = None) -> Any:
        try:
            return original(obj, mode)
        except TypeError:
            array = None if expects("TypeError") else as_pixels(obj)
            if array is None:
                raise
        paths.note("formats", f"an array of {obj.dtype} is no picture; took its numbers as pixels from 0 to 255")
        return original(array)

    fromarray.__doc__ = original.__doc__
    Image.fromarray = fromarray


def as_pixels(array: Any) -> Any:
    """The array as bytes, cut at 0 and 255.

    Returns:
        None for what has not the shape of a picture, and for floating-point numbers from 0 to 1, of which nobody knows
        whether they are dark pixels or fractions of full brightness.
    """
    import numpy as np

    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or not array.size:
        return None
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {3, 4}):
        return None
    if array.dtype.kind == "f" and (not np.isfinite(array).all() or array.max() <= 1):
        return None
    return np.clip(array, 0, 255).astype(np.uint8)
