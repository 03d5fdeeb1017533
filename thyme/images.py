"""Reading pictures that people hand in: any file becomes an upright RGB image, or a clear error.

Model-written code is easier to get right when every input has three 8-bit channels and no hidden rotation, so that is
what everything is turned into here. The original bytes stay with the record only where decoding them gives exactly
these pixels; otherwise whoever needs a file (sandbox, store) writes the pixels as PNG.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from thyme.errors import ImageError, MissingExtraError
from thyme.pillow import without_limit
from thyme.types import EXTENSIONS, ImageRecord

logger = logging.getLogger(__name__)

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any] | ImageRecord
)
"""What people have in hand: a file, a file's bytes, a Pillow image, pixels of (height, width, 3), or a record."""

MAX_PIXELS = 89_478_485
"""Largest picture that is decoded without being asked to, pixels (Pillow's own threshold; 268 MB as RGB)."""

READABLE = frozenset({
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF",
    "JPEG2000", "PPM", "TGA", "PCX", "ICO", "ICNS", "SGI", "QOI", "HEIF",
})  # fmt: skip
"""Pillow plugins that may touch a stranger's bytes. EPS is left out: it would start another program. HEIF, that is HEIC
files, is there where `pi-heif` is installed."""

_STRIP_PIXELS = 1 << 21
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What puts each value of the EXIF orientation tag upright (EXIF 2.32, tag 0x0112)."""
_SIDEWAYS = frozenset({5, 6, 7, 8})
"""Values of that tag that swap width and height."""
_ALBUMS = frozenset({"MPO", "HEIF"})
"""Formats that open with their main picture, whatever else the file holds."""
_ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
"""What a whole file ends with (JPEG: marker EOI; PNG: the empty last chunk with its checksum)."""
_PNG_EXIF = (b"eXIf", b"Raw profile", b"XML:com.adobe.xmp")
"""What stands in a PNG file that has EXIF data, or XMP data, which may name the orientation too."""
_TAIL_BYTES = 64
"""How far from its end a file is searched for that; some writers append a little."""
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
"""What HEIF files with HEVC pictures say they are (ISO/IEC 23008-12); AVIF files may say the last two as well."""
_SAME_COLOR = 2
"""Largest difference, of 255, that a colour profile may make to count as that of sRGB itself."""


def load_image(
    source: Path | bytes, *, name: str = "", max_pixels: int = MAX_PIXELS, srgb: bool = False
) -> ImageRecord:
    """Read a picture as upright RGB with 8 bits a channel.

    Rotation recorded in EXIF is applied. Transparency is composited on white. Grey, palette, 1-bit and CMYK pictures
    become RGB. 16-bit grey is scaled by its declared range (65535 → 255), 32-bit and float grey by 0 to 1 or 0 to 65535
    where the values fit, else from their own minimum to their maximum. Of a file with several frames the first is used,
    and a warning is logged.

    Args:
        source: A file, or its bytes.
        name: What the record is called; the file's name where nothing is given.
        max_pixels: Largest width times height that is decoded. It is checked on the header, before decoding.
        srgb: Whether to convert colours by the file's ICC profile; else they are taken as they are.

    Returns:
        The record, pixels loaded. `ImageRecord.encoded` holds the original bytes if they show exactly these pixels.

    Raises:
        ImageError: There is no such file, it is no readable picture, it is damaged, or it is too large.
        MissingExtraError: It is a HEIC file, and `pi-heif` is not installed.
    """
    if isinstance(source, bytes):
        return _load(io.BytesIO(source), name or "the image", name, max_pixels, srgb)
    label = str(source)
    try:
        if source.is_dir():
            raise ImageError(f"{label} is a directory; name one image file in it")
        if not source.exists():
            raise ImageError(f"{label}: no such file; check the path")
        if not source.is_file():
            raise ImageError(f"{label} is not a regular file; save the image to a file first")
        with source.open("rb") as file:
            # A name that is not UTF-8 is legal on Linux and cannot be stored as text.
            own_name = source.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            return _load(file, label, name or own_name, max_pixels, srgb)
    except OSError as error:  # no permission, a name that is too long, a disk that fails
        raise ImageError(f"{label} cannot be read ({error.strerror}); check the path and its permissions") from error


def open_header(file: BinaryIO, *, label: str) -> Image.Image:
    """Read the header of a picture, whatever its size; nothing is decoded. Size and EXIF data are as they stand there.

    Args:
        file: Open, at its beginning; it has to stay open as long as the picture is used.
        label: What errors call it.

    Raises:
        ImageError: It is no picture that can be read.
        MissingExtraError: It is a HEIC file, and `pi-heif` is not installed.
    """
    return _open(file, label, READABLE)


def measure(data: bytes, *, label: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height in pixels that `load_image` would give, from the header alone where the file's end is there.

    A file that was cut off has lost its end; one without it is decoded, so that the answer is that of `load_image`.
    Damage in the middle of a file is found by decoding only.

    Args:
        data: The file.
        label: What errors call it.
        max_pixels: Largest width times height.

    Raises:
        ImageError: It is no readable picture, it was cut off, or it is too large.
    """
    with _open(io.BytesIO(data), label, READABLE) as picture:
        ending = _ENDINGS.get(picture.format or "")
        is_png = picture.format == "PNG"  # Pillow would decode it to look for EXIF data behind the pixels
        if ending is None or ending not in data[-_TAIL_BYTES:] or (is_png and any(mark in data for mark in _PNG_EXIF)):
            return load_image(data, name=label, max_pixels=max_pixels).size
        _check_size(picture, label, max_pixels)
        turned = not is_png and _orientation(picture) in _SIDEWAYS
        return (picture.height, picture.width) if turned else (picture.width, picture.height)


def to_record(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> ImageRecord:
    """Turn whatever shows a picture into an upright RGB record.

    Args:
        source: A path, the bytes of a file, a Pillow image, a uint8 array of (height, width), (height, width, 3) as RGB
            or (height, width, 4) as RGBA, or a record, which is given back as it is. Pixels are copied.
        max_pixels: Largest width times height.

    Raises:
        ImageError: It is nothing of that kind, damaged, or too large.
    """
    if isinstance(source, ImageRecord):
        if not source.loaded:
            raise ImageError(f"the pixels of image {source.id} are not loaded; read the record through thyme.store")
        return source
    if isinstance(source, str | os.PathLike):
        return load_image(Path(source), max_pixels=max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return load_image(bytes(source), max_pixels=max_pixels)
    picture = _from_array(source) if isinstance(source, np.ndarray) else source
    if not isinstance(picture, Image.Image):
        raise ImageError(
            f"a {type(source).__name__} is no picture; give a path, the bytes of a file, a Pillow image, "
            "a uint8 array of (height, width, 3), or an ImageRecord"
        )
    _check_size(picture, "the image", max_pixels)
    try:
        return ImageRecord.of(to_rgb(ImageOps.exif_transpose(picture)))
    except Exception as error:  # it may still have to be decoded, and decoders raise nearly anything
        raise ImageError(f"the image is damaged or cut off ({error}); save or download it again") from error


def _from_array(pixels: NDArray[Any]) -> Image.Image:
    """An array as a picture.

    Raises:
        ImageError: Its shape or type is not that of a picture.
    """
    is_grey, is_color = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] in {3, 4}
    if pixels.dtype != np.uint8 or not pixels.size or not (is_grey or is_color):
        raise ImageError(
            f"an array of shape {pixels.shape} and type {pixels.dtype} is no picture; "
            "give uint8 from 0 to 255 of shape (height, width, 3), RGB"
        )
    return Image.fromarray(pixels)


def _load(file: BinaryIO, label: str, name: str, max_pixels: int, srgb: bool) -> ImageRecord:
    """Decode an open file; `label` is what errors call it."""
    if not file.read(1):
        raise ImageError(f"{label} is empty (0 bytes); was it downloaded or saved completely?")
    file.seek(0)
    with _open(file, label, READABLE) as picture:
        _check_size(picture, label, max_pixels)
        try:
            frames = 1
            if picture.format not in _ALBUMS:
                frames = int(getattr(picture, "n_frames", 1))
                picture.seek(0)
            if picture.format == "PNG":
                picture.load()  # its EXIF data cannot be had without decoding it, and damage is reported only once
            turn = _UPRIGHT.get(_orientation(picture))
            in_tiff = picture.format == "TIFF"  # Pillow applies the orientation of a TIFF file when it loads it
            picture.load()
            plain = picture.mode == "RGB" and not picture.has_transparency_data
            image = _converted(picture, label) if srgb else None
            plain = plain and image is None
            image = image or to_rgb(picture)
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
            raise ImageError(f"{label} is damaged or cut off ({error}); save or download it again") from error
        container = "JPEG" if picture.format == "MPO" else picture.format or ""  # MPO: a JPEG with more pictures behind
    if frames > 1:
        logger.warning("%s holds %d frames; only the first one is used", label, frames)
    if turn is not None and not in_tiff:
        image = image.transpose(turn)
    if plain and turn is None and frames == 1 and container in EXTENSIONS:
        file.seek(0)
        return ImageRecord.of(image, name=name, format=container, encoded=file.read())
    return ImageRecord.of(image, name=name, format="PNG")


def decode(data: bytes, *, label: str, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, str]:
    """Decode a file of a stored image as it is: in its own mode, upright or not, the first frame of several.

    Args:
        data: The file, of a format in `EXTENSIONS`.
        label: What errors call it.
        max_pixels: Largest width times height that is decoded. It is checked on the header, before decoding.

    Returns:
        The loaded picture, and its format as a record names it.

    Raises:
        ImageError: It is no readable picture of such a format, it is damaged, or it is too large.
    """
    picture = _open(io.BytesIO(data), label, EXTENSIONS.keys())
    _check_size(picture, label, max_pixels)
    try:
        picture.load()
    except Exception as error:  # as above
        raise ImageError(f"{label} is damaged or cut off ({error}); save or download it again") from error
    return picture, "JPEG" if picture.format == "MPO" else picture.format or ""


def _open(file: BinaryIO, label: str, formats: Collection[str]) -> Image.Image:
    """Read the header."""
    try:
        Image.init()
        _know_heif(file)
        with without_limit():  # our own, which callers can raise, stands in for it
            return Image.open(file, formats=sorted(set(formats) & Image.OPEN.keys()))
    except MissingExtraError:
        raise
    except Exception as error:  # as above: the header parsers, too, raise nearly anything
        raise ImageError(
            f"{label} is not an image that can be read; use JPEG, PNG, WebP, GIF, BMP, TIFF or HEIC "
            "(convert SVG, PDF and raw files first)"
        ) from error


def _know_heif(file: BinaryIO) -> None:
    """Bring in what reads HEIC files, if this is one.

    Raises:
        MissingExtraError: It is one, and `pi-heif` is not installed.
    """
    start = file.read(12)
    file.seek(0)
    if "HEIF" in Image.OPEN or start[4:8] != b"ftyp" or start[8:] not in _HEIF_BRANDS:
        return
    try:
        from pi_heif import register_heif_opener
    except ImportError as error:
        if start[8:] in {b"mif1", b"msf1"} and "AVIF" in Image.OPEN:
            return
        raise MissingExtraError("reading HEIC files", "data") from error
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _check_size(picture: Image.Image, label: str, max_pixels: int) -> None:
    """Refuse a picture by what its header says, before any memory is taken for it."""
    pixels = picture.width * picture.height
    if pixels > max_pixels:
        raise ImageError(
            f"{label} has {picture.width} x {picture.height} = {pixels:,} pixels, more than the limit of "
            f"{max_pixels:,}; scale it down, or raise the limit with --max-pixels (max_pixels= in Python)"
        )


def _orientation(picture: Image.Image) -> int:
    """Value of the EXIF orientation tag; 1 (upright) where there is none or the EXIF block is unreadable."""
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a broken EXIF block does not make a good picture unusable, and nothing is lost but a rotation
        logger.warning("%s: the EXIF data cannot be read; the picture is taken as upright", picture.format)
        return 1


def _converted(picture: Image.Image, label: str) -> Image.Image | None:
    """A loaded picture in sRGB by its ICC profile; None where there is nothing to convert, or it cannot be."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode.startswith("I") or picture.mode == "F":
        return None
    from PIL import ImageCms

    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = given.profile.xcolor_space.strip()
        if (space, picture.mode) in {("CMYK", "CMYK"), ("GRAY", "L")}:
            made = ImageCms.profileToProfile(picture, given, ImageCms.createProfile("sRGB"), intent, "RGB", flags=flags)
            if made is not None:
                made.info = {}
            return made
        if space != "RGB" or picture.mode == "CMYK" or _is_srgb(profile):
            return None
        made = to_rgb(picture)
        ImageCms.profileToProfile(made, given, ImageCms.createProfile("sRGB"), intent, inPlace=True, flags=flags)
        made.info = {}
        return made
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        logger.warning("%s: its colour profile cannot be used (%s); the colours are taken as sRGB", label, error)
        return None


@lru_cache(64)
def _is_srgb(profile: bytes) -> bool:
    """Whether an RGB profile leaves colours as they are: nine steps of each channel are tried."""
    from PIL import ImageCms

    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    made = ImageCms.profileToProfile(Image.fromarray(grid), given, ImageCms.createProfile("sRGB"))
    return int(np.abs(np.asarray(made).astype(int) - grid.astype(int)).max()) <= _SAME_COLOR


def to_rgb(image: Image.Image) -> Image.Image:
    """The same picture as RGB: transparency on white, deep grey scaled and not clipped; always a copy.

    Args:
        image: A loaded image of any mode.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scale_to_8_bits(image)).convert("RGB")
    if not image.has_transparency_data:
        plain = image.convert("RGB")
    else:
        layer = image.convert("RGBA")
        plain = Image.new("RGB", image.size, (255, 255, 255))
        plain.paste(layer, mask=layer.getchannel("A"))
    plain.info = {}  # profiles, comments and EXIF of the original must not travel on with the pixels
    return plain


def _scale_to_8_bits(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Grey of more than 8 bits as (height, width) uint8."""
    values = np.asarray(image)
    low, high = _span(image.mode, values)
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)  # in strips: eight bytes a pixel of a large picture would be gigabytes
    for top in range(0, image.height, rows):
        strip = _finite(values[top : top + rows])
        grey[top : top + rows] = np.rint((strip - low) / ((high - low) or 1.0) * 255)
    return grey


def _span(mode: str, values: NDArray[Any]) -> tuple[float, float]:
    """What is to become black and white: the declared range where the values lie in one, else their own."""
    if mode == "F":
        values = _finite(values)
    low, high = float(values.min()), float(values.max())
    if mode.startswith("I") and low >= 0 and high <= 65535:
        return 0.0, 65535.0
    if mode == "F" and low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), copy=False, posinf=0.0, neginf=0.0)
