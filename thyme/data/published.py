"""Rows of the published Thyme-SFT data as trajectories, and back.

A row has three columns: ``image`` (a list of base64 texts: the original, then what code made of it, in the order of
``<image>``), ``question`` and ``response``. A trajectory of it holds its response character for character, so what
is trained on is the published text. Rows that cannot be used are rejected with a reason that can be counted: one of
`REASONS`.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from thyme.errors import EncodeError, ImageError
from thyme.images import MAX_PIXELS, load_image, measure
from thyme.markup import (
    ANSWER_CLOSE,
    CODE_CLOSE,
    CODE_OPEN,
    IMAGE,
    OBSERVATION_CLOSE,
    OBSERVATION_OPEN,
    Reason,
    TagScanner,
    extract_answer,
    extract_code,
    unescape,
    violations,
)
from thyme.types import (
    Execution,
    Generated,
    GeneratedKind,
    ImageRecord,
    Observation,
    Problem,
    Prompt,
    Sampling,
    SeenImage,
    Segment,
    StopReason,
    Trajectory,
)

COLUMNS = ("image", "question", "response")
"""Columns of the published data."""

MISSING_FIELD = "missing_field"
"""A column is missing, empty, or no text, such as half a surrogate pair."""
IMAGE_COUNT = "image_count"
"""Question and response together do not name every image once."""
IMAGE_MISSING = "image_missing"
"""A path leads to no file, or out of the folder where paths start."""
IMAGE_DAMAGED = "image_damaged"
"""Not base64, no picture, cut off, or too large."""

TOLERATED: Final = frozenset(
    {
        Reason.MISSING_THINK,
        Reason.TEXT_BEFORE_THINK,
        Reason.SECOND_THINK,
        Reason.CODE_OUTSIDE_THINK,
        Reason.TEXT_BEFORE_ANSWER,
        Reason.TEXT_AFTER_ANSWER,
    }
)
"""Ways of breaking the grammar that leave blocks and answer where they are; such rows are used as they are."""

REASONS: Final = (
    MISSING_FIELD,
    IMAGE_COUNT,
    IMAGE_MISSING,
    IMAGE_DAMAGED,
    *(str(reason) for reason in Reason if reason not in TOLERATED),
)
"""Why rows are rejected; most are the names of `thyme.markup.Reason`."""

_DATA_URL = re.compile(r"\s*data:[^,]{0,200},")
_LONGEST_PATH = 4096
_LOOKS_LIKE_A_PATH = re.compile(r"\.\w{2,5}\s*$")
HALF_A_PAIR = re.compile("[\ud800-\udfff]")
"""JSON can spell such a character, UTF-8 and tokenizers cannot."""
_UNKNOWN_SAMPLING = Sampling(
    text_temperature=1.0, code_temperature=0.0, max_rounds=0, max_round_tokens=0, max_tokens=0, tools=True
)
"""Nobody recorded how the published text was sampled."""


def to_trajectory(row: Mapping[str, Any], *, name: str, folder: Path | None = None, pixels: bool = True) -> Trajectory:
    """Make a trajectory of a row.

    The user turn is the row's question, the system turn is empty (the chat template may put its own). An observation
    takes the whitespace before it and one line break behind it, as those that the runtime feeds to a model.

    Args:
        row: ``image``, ``question`` and ``response``. An image may be base64 text, a data URL, bytes, what `datasets`
            gives for an undecoded image, or a path; texts may be nested in lists.
        name: Identifier of the trajectory, which errors name too.
        folder: Where paths start, and which they cannot leave; None: no image is a path.
        pixels: Whether to decode the images. If not, their sizes are read from their headers (`thyme.images.measure`),
            and the records have neither pixels nor a name.

    Raises:
        EncodeError: The row cannot be used; `reason` is one of `REASONS`.
    """
    question, response = (row_text(row, column, name) for column in ("question", "response"))
    for violation in violations(response):
        if violation.reason not in TOLERATED:
            raise EncodeError(f"{name}: the response has {violation}", reason=str(violation.reason))
    entries = image_entries(row, "image")
    asked, made = question.count(IMAGE), response.count(IMAGE)
    if asked + made != len(entries):
        raise EncodeError(
            f"{name}: question and response name {asked + made} images, the row has {len(entries)}", reason=IMAGE_COUNT
        )
    images = [row_image(entry, f"{name}, image {i + 1}", folder, pixels) for i, entry in enumerate(entries)]
    segments = tuple(_segments(split_response(response), images[asked:]))
    return Trajectory(
        id=name,
        problem=Problem(id=name, question=question, images=tuple(images[:asked]), answer=extract_answer(response)),
        prompt=Prompt(
            system="",
            user=question,
            images=tuple(SeenImage(image=i, seen_width=i.width, seen_height=i.height) for i in images[:asked]),
        ),
        segments=segments,
        stop=StopReason.ANSWER if ANSWER_CLOSE in response else StopReason.END,
        sampling=_UNKNOWN_SAMPLING,
    )


def images_of(trajectory: Trajectory) -> list[ImageRecord]:
    """All pictures, in the order in which ``<image>`` stands for them: those asked about, then those that code made."""
    made = (image for observation in trajectory.observations for image in observation.execution.images)
    return [*(seen.image for seen in trajectory.prompt.images), *made]


def to_row(trajectory: Trajectory) -> dict[str, Any]:
    """Make a row of a trajectory: its user turn, its response, its images as base64 of their files.

    The system turn has no place in a row.

    Args:
        trajectory: Its images must be loaded.

    Raises:
        EncodeError: An image has no file of its own to write; store the trajectory first, which gives it one.
    """
    return {
        "image": [_base64(image, trajectory.id) for image in images_of(trajectory)],
        "question": trajectory.prompt.user,
        "response": trajectory.response,
    }


def split_response(response: str) -> list[tuple[GeneratedKind | None, str]]:
    """Cut a response into its segments, which put together are the response.

    A border lies behind the tag that opens or closes a block. One line break behind an observation belongs to it.

    Args:
        response: Blocks must be closed; see `thyme.markup.violations`.

    Returns:
        Kind and text of each segment; None is an observation.
    """
    segments: list[tuple[GeneratedKind | None, str]] = []
    start = 0
    for piece in TagScanner().all(response):
        if piece.tag in _CLOSES:
            end = piece.end
            if piece.tag == OBSERVATION_CLOSE and response.startswith("\n", end):
                end += 1
            segments.append((_CLOSES[piece.tag], response[start:end]))
            start = end
    if start < len(response):
        segments.append(("text", response[start:]))
    return segments


_CLOSES: Final[dict[str | None, GeneratedKind | None]] = {
    CODE_OPEN: "text",
    CODE_CLOSE: "code",
    OBSERVATION_CLOSE: None,
}
"""The tags that end a segment, and the kind of the segment that they end."""


def _segments(parts: Sequence[tuple[GeneratedKind | None, str]], images: Sequence[ImageRecord]) -> list[Segment]:
    remaining = iter(images)
    segments: list[Segment] = []
    code = ""
    for kind, text in parts:
        if kind is not None:
            segments.append(Generated(kind=kind, text=text, temperature=0.0 if kind == "code" else 1.0))
            code = text if kind == "code" else code
            continue
        shown = tuple(next(remaining) for _ in range(text.count(IMAGE)))
        printed = text.strip().removeprefix(OBSERVATION_OPEN).removesuffix(OBSERVATION_CLOSE).replace(IMAGE, "")
        execution = Execution(code=extract_code(code), stdout=unescape(printed).strip("\n"), images=shown)
        segments.append(Observation(execution=execution, text=text, seen_sizes=tuple(i.size for i in shown)))
    return segments


def row_text(row: Mapping[str, Any], column: str, name: str) -> str:
    """A column of text.

    Raises:
        EncodeError: It is missing, empty, or no text.
    """
    value = row.get(column)
    if not isinstance(value, str) or not value.strip() or HALF_A_PAIR.search(value):
        raise EncodeError(f"{name}: '{column}' is missing or no text", reason=MISSING_FIELD)
    return value


def image_entries(row: Mapping[str, Any], column: str) -> list[Any]:
    """The images of a row, however deep in lists; rows without images say so in several ways."""
    found: list[Any] = []
    left = [row.get(column)]
    while left:
        one = left.pop()
        if isinstance(one, list | tuple):
            left.extend(reversed(one))
            continue
        if isinstance(one, Mapping):
            one = one.get("bytes") or one.get("path")
        if one is not None and one not in ("", b""):
            found.append(one)
    return found


def row_image(
    entry: Any, label: str, folder: Path | None, pixels: bool, *, max_pixels: int = MAX_PIXELS
) -> ImageRecord:
    """An image of a row; the arguments are those of `to_trajectory`.

    Args:
        entry: One of `image_entries`.
        label: What errors call it.
        folder: Where paths start.
        pixels: Whether to decode it.
        max_pixels: Largest width times height.

    Raises:
        EncodeError: There is none, or it is damaged.
    """
    data = _bytes(entry, label, folder)
    try:
        if pixels:
            return load_image(data, name=label.rpartition(", ")[2], max_pixels=max_pixels)
        width, height = measure(data, label=label, max_pixels=max_pixels)
    except ImageError as error:
        raise EncodeError(f"{label}: {error}", reason=IMAGE_DAMAGED) from error
    return ImageRecord(id="", width=width, height=height, mode="RGB")


def row_images(
    entries: Sequence[Any],
    name: str,
    folder: Path | None,
    *,
    pixels: bool = True,
    max_pixels: int = MAX_PIXELS,
    known: Sequence[ImageRecord] = (),
) -> tuple[ImageRecord, ...]:
    """All images of a row; see `row_image`.

    Args:
        entries: What `image_entries` gives.
        name: Of the row, for errors.
        folder: Where paths start.
        pixels: Whether to decode them.
        max_pixels: Largest width times height.
        known: What decoding them gave before, as many as there are, or nothing: only their files are read then.
    """
    labels = [f"{name}, image {place}" for place in range(1, len(entries) + 1)]
    named = list(zip(entries, labels, strict=True))
    if known and len(known) == len(entries):
        return tuple(
            image.with_file(_file_of(image, entry, label, folder))
            for image, (entry, label) in zip(known, named, strict=True)
        )
    return tuple(row_image(entry, label, folder, pixels, max_pixels=max_pixels) for entry, label in named)


def _file_of(image: ImageRecord, entry: Any, label: str, folder: Path | None) -> bytes:
    """The file of an image that was decoded before; of it the header is looked at."""
    data = _bytes(entry, label, folder)
    try:
        size = measure(data, label=label, max_pixels=image.width * image.height)
    except ImageError as error:
        raise EncodeError(f"{label}: {error}", reason=IMAGE_DAMAGED) from error
    if size != image.size:
        raise EncodeError(f"{label} has {size[0]} x {size[1]} pixels, not {image.size}", reason=IMAGE_DAMAGED)
    return data


def _bytes(entry: Any, label: str, folder: Path | None) -> bytes:
    if isinstance(entry, bytes):
        return entry
    if not isinstance(entry, str):
        raise EncodeError(f"{label} is a {type(entry).__name__}, not base64 text", reason=IMAGE_DAMAGED)
    if folder is not None and len(entry) <= _LONGEST_PATH and not _DATA_URL.match(entry):
        try:
            return _file(entry, folder).read_bytes()
        except OSError as error:
            if _LOOKS_LIKE_A_PATH.search(entry):
                message = f"{label}: {entry!r} cannot be read ({error.strerror})"
                raise EncodeError(message, reason=IMAGE_MISSING) from error
    prefix = _DATA_URL.match(entry)
    try:
        return _decoded(entry[prefix.end() :] if prefix else entry)
    except (binascii.Error, ValueError) as error:
        raise EncodeError(f"{label} is not base64 ({error})", reason=IMAGE_DAMAGED) from error


def _file(entry: str, folder: Path) -> Path:
    """The file that a row names.

    Raises:
        FileNotFoundError: It is no regular file, or lies outside of the folder: rows may come from a stranger, and
            could name any picture of this machine, or a device that never ends.
    """
    path = Path(os.path.abspath(folder / entry))
    if not path.is_relative_to(os.path.abspath(folder)):
        raise FileNotFoundError(errno.ENOENT, f"it leads out of the folder '{folder.name}'")
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file")
    return path


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:  # seldom, and megabytes: broken into lines, without its padding, or with another alphabet
        text = re.sub(r"\s+", "", text).rstrip("=").translate(_URL_SAFE)
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


_URL_SAFE = str.maketrans("-_", "+/")


def _base64(image: ImageRecord, name: str) -> str:
    if image.encoded is None:
        raise EncodeError(f"{name}: image {image.id} has no file of its own; store the trajectory and read it again")
    return base64.b64encode(image.encoded).decode("ascii")
