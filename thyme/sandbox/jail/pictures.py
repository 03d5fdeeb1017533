"""The input images as code reads them: opened as what they are, and their pixels decoded at most once.

`Image.open` really opens the file, so that class, format, info, size and mode are the file's own. Only when the pixels
are wanted, they are those the broker has decoded already, mapped read-only, or those that were decoded here before.
Pillow copies a read-only image before it writes to it; where it trusts the caller instead, the hooks here do that.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .paths import Paths
from .shelf import PIXEL_BYTES

_KEPT_BYTES = 256 << 20
"""Decoded pixels that are kept here, at most."""
_LENT = "_pixels_are_lent"
"""Attribute of a Pillow image whose pixels others use as well."""
_WAITING = "_pixels_to_take"
"""Attribute of a Pillow image with the pixels that its next load is to take."""
_ORIENTATION = 0x0112
_GIVEN = "given"
"""Name of the decoder that has nothing to do."""

_fstat, _stat = os.fstat, os.stat


@dataclass(frozen=True)
class Input:
    """An input image, as the broker describes it."""

    path: str
    """Where code finds it."""
    format: str
    """Pillow format of the file."""
    mode: str
    """Pillow mode of its pixels."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.width, self.height


class Pictures:
    """The inputs of one session, and their pixels as far as they are known."""

    def __init__(self, paths: Paths) -> None:
        """Know of none; `paths` are those of the session."""
        self.inputs: tuple[Input, ...] = ()
        self._paths = paths
        self._files: dict[tuple[int, int], int] | None = None
        self._given: dict[int, memoryview] = {}
        self._decoded: dict[int, Any] = {}
        self._decoded_bytes = 0
        self._alike: dict[int, bool] = {}

    def bind(self, inputs: Sequence[Input]) -> None:
        """Say which inputs there are."""
        self.inputs, self._files = tuple(inputs), None

    def give(self, index: int, pixels: memoryview) -> None:
        """Take the decoded pixels of an input.

        Args:
            index: Position among the inputs, from 0.
            pixels: Read-only, in Pillow's own layout: 4 bytes a pixel for RGB (the fourth unused) and RGBA, 1 for L.
        """
        self._given[index] = pixels

    def index(self, status: os.stat_result) -> int | None:
        """Which input a file is."""
        if self._files is None:
            self._files = {}
            for index, item in enumerate(self.inputs):
                with contextlib.suppress(OSError):
                    found = _stat(self._paths.real(item.path))
                    self._files.setdefault((found.st_dev, found.st_ino), index)
        return self._files.get((status.st_dev, status.st_ino))

    def given(self, index: int) -> memoryview | None:
        """The pixels of an input that the broker gave."""
        item, pixels = self.inputs[index], self._given.get(index)
        if pixels is None or item.mode not in PIXEL_BYTES:
            return None
        return pixels[: item.width * item.height * PIXEL_BYTES[item.mode]]

    def borrow(self, index: int, mode: str, size: tuple[int, int]) -> Any:
        """The pixels of an input for one Pillow image, if they are known and are of that mode and size."""
        from PIL import _imaging

        item, pixels = self.inputs[index], self.given(index)
        if pixels is not None and (item.mode, item.size) == (mode, size):
            return _imaging.map_buffer(pixels, size, "raw", 0, (mode, 0, 1))
        core = self._decoded.get(index)
        if core is None or (core.mode, core.size) != (mode, size):
            return None
        return core.copy() if mode in {"P", "PA"} else core  # a palette can be changed without anybody asking

    def reads_alike(self, index: int) -> bool:
        """Whether OpenCV sees the same pixels in an input."""
        if index not in self._alike:
            self._alike[index] = _reads_alike(self._paths.real(self.inputs[index].path))
        return self._alike[index]

    def keep(self, index: int, image: Any) -> None:
        """Remember pixels that had to be decoded here."""
        size = image.width * image.height * 4
        if index in self._decoded or self._decoded_bytes + size > _KEPT_BYTES:
            return
        self._decoded_bytes += size
        if image.mode in {"P", "PA"}:
            self._decoded[index] = image.im.copy()
            return
        self._decoded[index] = image.im
        _mark(image)


def install(paths: Paths, pictures: Pictures) -> None:
    """Put the hooks of one session in place. Call once, in the forked process."""
    _hook_load(pictures)
    _hook_webp(pictures)
    _hook_writers()
    _hook_imread(paths, pictures)


class _Given:
    """A decoder of pixels that are there already."""

    pulls_fd = True

    def __init__(self, mode: str, *args: Any) -> None:
        """Take what Pillow hands to any decoder."""

    def setimage(self, image: Any, extents: Any = None) -> None:
        """Nothing: the image has its pixels."""

    def setfd(self, file: Any) -> None:
        """Nothing: no file is read."""

    def decode(self, data: bytes) -> tuple[int, int]:
        """Done."""
        return -1, 0

    def cleanup(self) -> None:
        """Nothing to clean up."""


def _hook_load(pictures: Pictures) -> None:
    from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, MpoImagePlugin, PngImagePlugin

    # Of these the pixels are nothing but what is decoded from the first frame, and nothing else comes of decoding.
    kinds = {
        JpegImagePlugin.JpegImageFile,
        MpoImagePlugin.MpoImageFile,
        PngImagePlugin.PngImageFile,
        BmpImagePlugin.BmpImageFile,
    }
    Image.register_decoder(_GIVEN, _Given)  # type: ignore[arg-type]  # all of a decoder that is used
    original = ImageFile.ImageFile.load

    def load(self: Any) -> Any:
        index = None
        if self.tile:
            _return(self)
            core = self.__dict__.pop(_WAITING, None)
            if core is None and type(self) in kinds and (index := _input_of(self, pictures)) is not None:
                core = pictures.borrow(index, self.mode, self.size)
            if core is not None:
                index, self.im = None, core
                self.tile = [(_GIVEN, *self.tile[0][1:])]
                _mark(self)
        pixels = original(self)
        if index is not None:
            pictures.keep(index, self)
        return _handed_out(self, pixels)

    load.__doc__ = original.__doc__
    ImageFile.ImageFile.load = load  # type: ignore[method-assign]  # that is what a hook is


def _handed_out(image: Any, pixels: Any) -> Any:
    """The pixels for whoever called `load`: Pillow itself asks before it writes to them, others do not."""
    from PIL import Image

    if not image.__dict__.get(_LENT):
        return pixels
    image.readonly = 1
    if sys._getframe(2).f_globals.get("__name__", "").startswith("PIL."):
        return pixels
    _own(image)
    return Image.Image.load(image)


class _Still:
    """A WebP decoder of one frame whose pixels are there already."""

    def get_next(self) -> tuple[bytes, int]:
        """Nothing to unpack, and when the frame ends, milliseconds."""
        return b"", 0


def _hook_webp(pictures: Pictures) -> None:
    """Lend pixels to WebP images, whose decoder is asked before `ImageFile.load` is."""
    from PIL import WebPImagePlugin

    original = WebPImagePlugin.WebPImageFile.load

    def load(self: Any) -> Any:
        core = None
        if self._im is None and self.n_frames == 1 and (index := _file_of(self, pictures)) is not None:
            core = pictures.borrow(index, self.mode, self.size)
        if core is None:
            return _handed_out(self, original(self))
        decoder, self._decoder = self._decoder, _Still()
        self.__dict__[_WAITING] = core
        try:
            return _handed_out(self, original(self))
        finally:
            self._decoder = decoder

    load.__doc__ = original.__doc__
    WebPImagePlugin.WebPImageFile.load = load  # type: ignore[method-assign]  # that is what a hook is


def _input_of(image: Any, pictures: Pictures) -> int | None:
    """Which input an opened image is, where the whole first frame of it is about to be decoded as it is."""
    if len(image.tile) != 1 or image.tell() or image.decoderconfig not in {(), (1, 0)}:
        return None
    return None if image.format == "PNG" and image.is_animated else _file_of(image, pictures)


def _file_of(image: Any, pictures: Pictures) -> int | None:
    """Which input an opened image is read from."""
    if not isinstance(image.fp, io.BufferedReader):
        return None
    try:
        return pictures.index(_fstat(image.fp.fileno()))
    except (OSError, ValueError):  # no real file, or a closed one: Pillow says what is wrong with it
        return None


def _mark(image: Any) -> None:
    image.__dict__[_LENT] = True
    image.readonly = 1


def _own(image: Any) -> None:
    """Give an image pixels of its own."""
    if image.__dict__.pop(_LENT, False) and image.readonly:
        image._copy()


def _return(image: Any) -> None:
    """Let go of lent pixels, because others are about to be decoded in their place."""
    if image.__dict__.pop(_LENT, False) and image.readonly:
        image.im = None
        image.readonly = 0


def _hook_writers() -> None:
    """Let the methods of Pillow that write without asking, or hand out the memory, see pixels of the image's own."""
    from PIL import Image

    for name in ("frombytes", "getim", "__arrow_c_array__"):
        if hasattr(Image.Image, name):
            setattr(Image.Image, name, _owning(getattr(Image.Image, name)))


def _owning(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def hooked(self: Any, *args: Any, **kwargs: Any) -> Any:
        _own(self)
        return original(self, *args, **kwargs)

    return hooked


def _hook_imread(paths: Paths, pictures: Pictures) -> None:
    """Let OpenCV read where the code's paths really lead, and take pixels that are known where it asks for colour."""
    import cv2

    original = cv2.imread

    @functools.wraps(original)
    def imread(filename: Any, *args: Any, **kwargs: Any) -> Any:
        real = paths.read(filename)
        flags = kwargs.get("flags", cv2.IMREAD_COLOR) if not args else args[0]
        plain = len(args) + len(kwargs) == int(bool(args) or "flags" in kwargs)
        if plain and isinstance(flags, int) and flags == cv2.IMREAD_COLOR and isinstance(real, str | os.PathLike):
            array = _colour(os.fspath(real), pictures)
            if array is not None:
                return array
        return original(real, *args, **kwargs)

    cv2.imread = imread


def _colour(path: str, pictures: Pictures) -> Any:
    """An input as OpenCV reads it by default: 8 bits, blue, green, red; None where it has to decode it."""
    import cv2
    import numpy as np

    try:
        index = pictures.index(_stat(path))
    except (OSError, ValueError):
        return None
    if index is None or (pixels := pictures.given(index)) is None or not pictures.reads_alike(index):
        return None
    item = pictures.inputs[index]
    array = np.frombuffer(pixels, np.uint8).reshape(item.height, item.width, -1)
    return cv2.cvtColor(array, cv2.COLOR_GRAY2BGR if item.mode == "L" else cv2.COLOR_RGBA2BGR)


def _reads_alike(path: str) -> bool:
    """Whether OpenCV decodes a file to the very pixels that Pillow does: 8 bits, stored upright, no other decoder."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            upright = image.getexif().get(_ORIENTATION, 1) == 1
            kind, raw = image.format, image.tile[0][3]
            return upright and (kind in {"JPEG", "MPO"} or (kind == "PNG" and raw == image.mode))
    except Exception:  # OpenCV may read it all the same
        return False
