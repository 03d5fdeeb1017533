"""Pillow's own limit of pixels, which is a global of the process, out of the way of limits that callers set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

_limit = threading.Lock()


@contextmanager
def without_limit() -> Iterator[None]:
    """Open pictures whatever their size; whoever does checks it before decoding. One thread at a time."""
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
