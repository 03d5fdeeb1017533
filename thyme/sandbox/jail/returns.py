"""What goes back to the broker: the pictures that the code named, as packed pixels in the shared memory."""

from __future__ import annotations

import builtins
from typing import Any

from .paths import Paths
from .saves import Saves
from .shelf import CHANNELS, Shelf, pack, packed_bytes

_open = builtins.open


class _TooLargeError(Exception):
    """A picture has more pixels than may come back."""


class _NoRoomError(Exception):
    """No more pictures, or pixels, may come back from this run."""


class Returns:
    """Collects the pictures of one run after the other."""

    def __init__(self, paths: Paths, saves: Saves, shelf: Shelf, limits: dict[str, Any]) -> None:
        """Collect within the `limits` of `SandboxConfig`."""
        self._paths, self._saves, self._shelf, self._limits = paths, saves, shelf, limits

    def collect(self, named: list[str]) -> tuple[list[dict[str, Any]], bool]:
        """Where the pixels of the named files lie, and whether some were left out.

        Args:
            named: Virtual paths; those that are no pictures are passed over.
        """
        images: list[dict[str, Any]] = []
        pixels, cut = 0, False
        for path in named:
            try:
                found = self._place(path, len(images), pixels)
            except _TooLargeError:
                cut = True
                continue
            except _NoRoomError:
                return images, True
            if found is not None:
                images.append(found)
                pixels += found["width"] * found["height"]
        return images, cut

    def _place(self, path: str, count: int, pixels: int) -> dict[str, Any] | None:
        real = self._paths.real(path)
        drawn = self._saves.drawn(real)
        if drawn is not None:
            self._check(drawn.size)
            self._require_room(drawn.size, count, pixels)
            return _found(path, drawn.mode, drawn.size, drawn.offset)
        picture = self._decode(real)
        if picture is None:
            return None
        self._require_room(picture.size, count, pixels)
        size = packed_bytes(picture.mode, picture.size)
        offset = self._shelf.passing(size)
        if offset is None:
            raise _NoRoomError
        pack(picture, self._shelf.view(offset, size))
        return _found(path, picture.mode, picture.size, offset)

    def _check(self, size: tuple[int, int]) -> None:
        if size[0] * size[1] > self._limits["max_image_pixels"]:
            raise _TooLargeError

    def _require_room(self, size: tuple[int, int], count: int, pixels: int) -> None:
        if count >= self._limits["max_images"] or pixels + size[0] * size[1] > self._limits["max_total_pixels"]:
            raise _NoRoomError

    def _decode(self, real: str) -> Any:
        """The picture in a file, in a mode that goes back; None where there is none."""
        from PIL import Image

        try:
            with _open(real, "rb") as file, Image.open(file) as picture:
                self._check(picture.size)
                picture.load()
                return _plain(picture)
        except _TooLargeError:
            raise
        except Exception:  # any decoder may fail in any way on a damaged file; then it is no picture
            return None


def _found(path: str, mode: str, size: tuple[int, int], offset: int) -> dict[str, Any]:
    return {"name": path, "mode": mode, "width": size[0], "height": size[1], "offset": offset}


def _plain(picture: Any) -> Any:
    """The picture as L, RGB or RGBA, usable when its file is closed."""
    if picture.mode in CHANNELS:
        return picture
    if picture.mode.startswith("I;16"):
        return picture.point(lambda value: value / 256).convert("L")
    if picture.mode in {"1", "I", "F"}:
        return picture.convert("L")
    transparent = picture.mode in {"LA", "PA", "La", "RGBa"} or "transparency" in picture.info
    return picture.convert("RGBA" if transparent else "RGB")
