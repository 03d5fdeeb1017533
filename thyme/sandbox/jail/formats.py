"""What a picture is saved as: a format its name does not say, or one that cannot take its mode (repair ``formats``)."""

from __future__ import annotations

import os
from typing import Any

from .paths import Paths, plain_path

FORMAT_NAMES = {"JPG": "JPEG", "JPE": "JPEG", "TIF": "TIFF", "PNEG": "PNG", "JEPG": "JPEG"}
"""Format names that code writes, and Pillow's own."""

MODES = {
    "JPEG": frozenset({"1", "L", "RGB", "RGBX", "CMYK", "YCbCr"}),
    "PNG": frozenset({"1", "L", "LA", "I;16", "I;16B", "P", "RGB", "RGBA"}),
    "BMP": frozenset({"1", "L", "P", "RGB", "RGBA"}),
    "GIF": frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "F", "I;16"}),
}
"""Modes that a format takes; other formats than these are left to Pillow."""

_GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L"})
_FALLBACK = "PNG"


def prepare(image: Any, target: Any, format: str | None, paths: Paths) -> tuple[Any, Any, str | None]:
    """What `Image.save` is to be called with.

    Args:
        image: Pillow image.
        target: Path or file object, as the code passed it.
        format: As the code passed it.
        paths: Of this session; a repair is noted there.

    Returns:
        Image, target and format; the very same objects where nothing needs to be put right.
    """
    paths.remember(image)
    if "formats" not in paths.enabled or not (format is None or isinstance(format, str)):
        return image, target, format
    kind = _named_format(format) if format is not None else None
    if kind is not None and format is not None and kind != format.upper():
        paths.note("formats", f"there is no format {format[:20]}; it is {kind}")
        format = kind
    elif format is None:
        target, kind = _format_of(target, paths)
        if kind is None:
            return image, target, format
        if not _ending(target) or _ending(target) not in _endings():
            format = kind
    return _in_mode(image, kind, paths), target, format


def prepare_array(path: Any, array: Any, paths: Paths) -> tuple[Any, str | None]:
    """What `cv2.imwrite` is to write to.

    Args:
        path: As the code passed it.
        array: What is to be written.
        paths: Of this session; a repair is noted there.

    Returns:
        The path, and the ending of the format to encode in where the path's own says none (encode with
        `cv2.imencode`, then write the bytes); the same path and None where OpenCV knows what to do.
    """
    import cv2

    paths.remember(array)
    if "formats" not in paths.enabled or not isinstance(path, str | os.PathLike):
        return path, None
    text = os.fsdecode(path)
    if cv2.haveImageWriter(text):
        return path, None
    plain = plain_path(text)
    if plain != text and cv2.haveImageWriter(plain):
        paths.note("formats", f"wrote to {plain[:200]}")
        return plain, None
    paths.note("formats", f"{text[:200]} does not say a format; wrote it as {_FALLBACK}")
    return path, f".{_FALLBACK.lower()}"


def _named_format(format: str) -> str:
    name = format.strip().lstrip(".").upper()
    return FORMAT_NAMES.get(name, name)


def _format_of(target: Any, paths: Paths) -> tuple[Any, str | None]:
    """Where to save, and the format by the name; no format for file objects, which Pillow judges itself."""
    if not isinstance(target, str | os.PathLike):
        return target, None
    text = os.fsdecode(target)
    if kind := _endings().get(_ending(text)):
        return target, kind
    plain = plain_path(text)
    if plain != text and (kind := _endings().get(_ending(plain))):
        paths.note("formats", f"saved to {plain[:200]}")
        return plain, kind
    paths.note("formats", f"{text[:200]} does not say a format; saved as {_FALLBACK}")
    return target, _FALLBACK


def _endings() -> dict[str, str]:
    from PIL import Image

    return Image.EXTENSION


def _ending(path: Any) -> str:
    return os.path.splitext(os.fsdecode(path))[1].lower()


def _in_mode(image: Any, kind: str | None, paths: Paths) -> Any:
    """The picture in a mode that the format takes."""
    taken = MODES.get(kind or "")
    mode = getattr(image, "mode", None)
    if taken is None or not isinstance(mode, str) or mode in taken:
        return image
    wanted = _mode_for(image, taken)
    paths.note("formats", f"{kind} cannot take mode {mode}; saved as {wanted}")
    return (image.convert("RGBA") if mode == "RGBa" else image).convert(wanted)


def _mode_for(image: Any, taken: frozenset[str]) -> str:
    transparent = image.mode in {"RGBA", "RGBa", "PA", "LA", "La"} or "transparency" in image.info
    if image.mode in _GREY:
        return "LA" if transparent and "LA" in taken else "L"
    return "RGBA" if transparent and "RGBA" in taken else "RGB"
