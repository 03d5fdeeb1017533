"""The memory shared with the broker: where pictures wait that were saved, and where those lie that go back."""

from __future__ import annotations

from typing import Any

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
"""Modes in which pictures go back, and bytes a pixel of each."""
PIXEL_BYTES = {"L": 1, "RGB": 4, "RGBA": 4}
"""Modes in which the pixels of inputs come decoded, and bytes a pixel in Pillow's own layout of each."""

_PART_BYTES = 1 << 16
"""A part of a packed picture stays in the processor's cache between Pillow and the shared memory."""


class Shelf:
    """Places in the shared memory.

    Its first part belongs to the session as long as it lives: saved pictures wait there. What lies behind is for what
    goes back from one run, after which the broker gives those pages back.
    """

    def __init__(self, passing: int) -> None:
        """Without any memory; of what `move_in` brings, the last `passing` bytes are for what goes back from a run."""
        self._passing, self._places = passing, dict[int, int]()
        self.move_in(memoryview(b""))

    def move_in(self, memory: memoryview) -> None:
        """Take the memory shared with the broker."""
        self._memory, self._kept = memory, max(0, len(memory) - self._passing)
        self._next = self._kept

    def reserve(self, size: int) -> int | None:
        """Offset of a place for a picture that waits; None where there is no room."""
        start = 0
        for offset in sorted(self._places):
            if offset - start >= size:
                break
            start = offset + self._places[offset]
        if start + size > self._kept:
            return None
        self._places[start] = size
        return start

    def free(self, offset: int) -> None:
        """Give a reserved place back."""
        del self._places[offset]

    def start_run(self) -> None:
        """Forget what went back."""
        self._next = self._kept

    def passing(self, size: int) -> int | None:
        """Offset of a place for a picture that goes back from this run; None where there is no room."""
        if self._next + size > len(self._memory):
            return None
        self._next += size
        return self._next - size

    def view(self, offset: int, size: int) -> memoryview:
        """The bytes of a place."""
        return self._memory[offset : offset + size]


def packed_bytes(mode: str, size: tuple[int, int]) -> int:
    """Bytes of a packed picture: rows from the top, channels side by side, without gaps."""
    return size[0] * size[1] * CHANNELS[mode]


def pack(image: Any, target: memoryview) -> None:
    """Write the pixels of a loaded Pillow image, whose mode is one of `CHANNELS`, into `target`."""
    from PIL import Image

    encoder = Image._getencoder(image.mode, "raw", (image.mode,))
    encoder.setimage(image.im, (0, 0, *image.size))
    offset = done = 0
    while not done:
        _, done, data = encoder.encode(max(_PART_BYTES, 4 * image.width))
        target[offset : offset + len(data)] = data
        offset += len(data)
    if offset != len(target):
        raise OSError(f"{offset} bytes of pixels instead of {len(target)}")
