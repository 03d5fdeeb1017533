"""A problem's images as files for the code: bytes true to their ending, neutral names."""

from __future__ import annotations

import io
from collections import OrderedDict

from thyme.types import EXTENSIONS, ImageRecord, input_path

_WRITABLE_AS_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"})


class InputFiles:
    """Encodes inputs, and remembers the last ones: a group of rollouts asks about the same images."""

    def __init__(self, most_bytes: int = 128 << 20) -> None:
        """Remember at most `most_bytes` of encoded images."""
        self._most_bytes, self._bytes = most_bytes, 0
        self._known: OrderedDict[str, bytes] = OrderedDict()

    def file(self, index: int, image: ImageRecord) -> tuple[str, bytes]:
        """Virtual path and bytes of an input image.

        Args:
            index: Position among the problem's images, from 0.
            image: Given as it was stored where its bytes are known, else as PNG.
        """
        if image.encoded is not None and image.format in EXTENSIONS:
            return input_path(index, image.format), image.encoded
        return input_path(index, "PNG"), self._png(image)

    def _png(self, image: ImageRecord) -> bytes:
        if image.id in self._known:
            self._known.move_to_end(image.id)
            return self._known[image.id]
        data = encode_png(image)
        self._known[image.id] = data
        self._bytes += len(data)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._known.popitem(last=False)[1])
        return data


def encode_png(image: ImageRecord) -> bytes:
    """Fast, lossless bytes of the pixels."""
    picture = image.image
    if picture.mode not in _WRITABLE_AS_PNG:
        picture = picture.convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
