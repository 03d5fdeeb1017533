"""A problem's images as the code gets them: files with neutral names and true endings, and pixels ready to be mapped.

Both are made once for each distinct image, off the event loop, and the last ones are kept: a group of rollouts asks
about the same images at the same time.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar, cast

from PIL import Image

from thyme.sandbox.jail.shelf import PIXEL_BYTES
from thyme.sandbox.lru import ByteLru
from thyme.types import EXTENSIONS, ImageRecord, input_path

_WRITABLE_AS_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"})
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_BUFFER_BYTES = 1 << 20
_MOST_OPEN = 128
"""Images whose pixels are kept ready."""

T = TypeVar("T")


class PixelFile:
    """A memory file with the pixels of an image, which nobody can change."""

    def __init__(self, image: Image.Image) -> None:
        """Write the pixels of an image, whose mode is one of `PIXEL_BYTES`: rows from the top, without gaps."""
        image.load()
        self.descriptor = os.memfd_create("thyme-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        weakref.finalize(self, os.close, self.descriptor)
        self.size = image.width * image.height * PIXEL_BYTES[image.mode]
        # Pillow writes what it holds straight into the file: one pass, and no page of it is mapped here.
        encoder = Image._getencoder(image.mode, "raw", ("RGBX" if image.mode == "RGB" else image.mode,))
        encoder.setimage(image.im, (0, 0, *image.size))
        encoder.encode_to_file(self.descriptor, max(_BUFFER_BYTES, image.width * PIXEL_BYTES[image.mode]))
        if os.fstat(self.descriptor).st_size != self.size:
            raise OSError("the pixels of an input image could not be written to memory")
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)


class InputFiles:
    """Files and pixels of input images. Belongs to one event loop."""

    def __init__(self, most_bytes: int) -> None:
        """Remember at most `most_bytes` of what was made."""
        self._most_bytes = most_bytes
        self._known: ByteLru[Any] = ByteLru(most_bytes)
        self._making: dict[str, asyncio.Future[Any]] = {}

    async def file(self, index: int, image: ImageRecord) -> tuple[str, bytes]:
        """Virtual path and bytes of an input image.

        Args:
            index: Position among the problem's images, from 0.
            image: Given as it was stored where its bytes are known, else as PNG.
        """
        if image.encoded is not None and image.format in EXTENSIONS:
            return input_path(index, image.format), image.encoded
        return input_path(index, "PNG"), await self._once(f"file {image.id}", lambda: encode_png(image.image), len)

    async def pixels(self, image: ImageRecord) -> int | None:
        """A descriptor of the image's pixels as Pillow holds them in memory, for the caller to close.

        Returns:
            None where the mode is none of `PIXEL_BYTES`, or only the file is at hand: such an image is decoded in the
            session.
        """
        if image.mode not in PIXEL_BYTES or not image.loaded:
            return None
        least = self._most_bytes // _MOST_OPEN  # each takes a descriptor as well, however small it is
        made = await self._once(
            f"pixels {image.id}", lambda: PixelFile(image.image), lambda made: max(made.size, least)
        )
        return os.dup(made.descriptor)

    async def _once(self, key: str, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """What `make` gives, in a thread; whoever asks for the same meanwhile waits for the same."""
        found: T | None = self._known.get(key)
        if found is not None:
            return found
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.ensure_future(self._make(key, make, size))
            making.add_done_callback(_forget_failure)  # whoever waits is told
        return cast(T, await asyncio.shield(making))  # one that is cancelled leaves it to the others

    async def _make(self, key: str, make: Callable[[], T], size: Callable[[T], int]) -> T:
        made: list[T] = []
        try:
            # Not as the result of the thread's future, which lives on in a cycle when nobody wants it any more.
            await asyncio.to_thread(lambda: made.append(make()))
        finally:
            del self._making[key]
        if size(made[0]) <= self._most_bytes:
            self._known.put(key, made[0], size(made[0]))
        return made.pop()


def _forget_failure(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def encode_png(image: Image.Image) -> bytes:
    """Fast, lossless bytes of the pixels."""
    if image.mode in PIXEL_BYTES:
        return _encode_by_opencv(image)
    picture = image if image.mode in _WRITABLE_AS_PNG else image.convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _encode_by_opencv(image: Image.Image) -> bytes:
    """PNG, in a third of the time that Pillow takes at its fastest."""
    import cv2  # not at the top: the host needs it for nothing else
    import numpy as np

    pixels = np.asarray(image)
    if image.mode != "L":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if image.mode == "RGB" else cv2.COLOR_RGBA2BGRA)
    return cv2.imencode(".png", pixels)[1].tobytes()
