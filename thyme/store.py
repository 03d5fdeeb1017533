"""Trajectories on disk: one JSON line each, images beside the file in ``images/<id>.<ext>``.

Files are written whole or not at all: a new file under a temporary name and then put in place, an appended line by one
single write. An image is named by a hash of what it shows, so it is written once however many records hold it, and
that name is checked when it is read. Where the original bytes are known they are stored as they are; else the pixels
are written losslessly. Two encodings of the same pixels in the same format are one image: the first one written stays.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image
from pydantic import ValidationError

from thyme.errors import StoreError
from thyme.pillow import without_limit
from thyme.types import EXTENSIONS, SCHEMA_VERSION, ImageRecord, Observation, Segment, Trajectory, image_id

logger = logging.getLogger(__name__)

IMAGE_FOLDER = "images"
"""Folder of the pixels, beside the file of the records."""

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
"""Modes that PNG gives back as they were; the others go into TIFF."""


def write_trajectories(path: Path, trajectories: Iterable[Trajectory]) -> int:
    """Write a file of trajectories, in place of any that was there.

    Args:
        path: The JSON-lines file; its folder is made where missing.
        trajectories: What to write; consumed as it is written, so it may be a generator.

    Returns:
        How many were written.

    Raises:
        StoreError: An image has no pixels at hand, or its mode cannot be stored without loss.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    count = 0
    try:
        with temporary.open("xb") as file:
            for trajectory in trajectories:
                file.write(_line(path, trajectory))
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def append_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Add one trajectory at the end of a file, which is made where missing; several processes may do so at once.

    Raises:
        StoreError: As for `write_trajectories`, or the disk took only a part of the line.
    """
    append_line(path, _line(path, trajectory), "the record")


def append_line(path: Path, line: bytes, what: str = "the line") -> None:
    """Add one line by a single write at the end of a file, which is made where missing.

    Args:
        path: The file; its folder is made where missing.
        line: With its line break.
        what: What an error calls it.

    Raises:
        StoreError: The disk took only a part of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # an earlier write was cut off; its line stays damaged, ours does not become so
        if os.write(descriptor, line) != len(line):
            raise StoreError(f"{path}: {what} could not be written whole; is the disk full?")
    finally:
        os.close(descriptor)


def read_trajectories(path: Path, *, images: bool = True, skip_damaged: bool = False) -> Iterator[Trajectory]:
    """Read a file of trajectories, one at a time.

    Args:
        path: The JSON-lines file.
        images: Whether to load the pixels, and check them against their names.
        skip_damaged: Whether to go on after a line that is no record, with a warning that names it.

    Yields:
        The records, in the order of the file.

    Raises:
        StoreError: There is no such file; a line is damaged (the message says which); an image is missing or is not
            the one that was stored.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); name a trajectory file (.jsonl)") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                trajectory = read_line(path, number, line)
            except StoreError as error:
                if not skip_damaged:
                    raise StoreError(f"{error}, or read with skip_damaged=True") from error
                logger.warning("%s; skipped", error)
                continue
            yield load_images(path, trajectory) if images else trajectory


def read_line(path: Path, number: int, line: bytes) -> Trajectory:
    """Read one line of a file of trajectories, without its images.

    Args:
        path: The file, for the error.
        number: The line's, from 1, for the error.
        line: Its bytes.

    Raises:
        StoreError: It is damaged, or no record of this version.
    """
    try:
        return Trajectory.model_validate_json(line)
    except ValidationError as error:
        trouble, way_out = _diagnosis(error)
        raise StoreError(f"{path}, line {number}: {trouble}; {way_out}") from error


def load_images(path: Path, trajectory: Trajectory) -> Trajectory:
    """The same trajectory with the pixels that are stored beside its file, checked against their names.

    Raises:
        StoreError: An image is missing or is not the one that was stored.
    """
    return map_images(trajectory, lambda record: load_image_of(path, record))


def missing_images(path: Path, trajectory: Trajectory) -> list[str]:
    """Names of the images of a record that do not lie beside its file; nothing is read.

    Raises:
        StoreError: A record's image has no name or format of a stored one.
    """
    made = (image for observation in trajectory.observations for image in observation.execution.images)
    images = {*(seen.image for seen in trajectory.prompt.images), *trajectory.problem.images, *made}
    return sorted({image.id for image in images if not _image_path(path, image).is_file()})


def _line(path: Path, trajectory: Trajectory) -> bytes:
    """Store the images, and give the record as a line of JSON."""
    stored = map_images(trajectory, lambda record: _write_image(path, record))
    return stored.model_dump_json().encode() + b"\n"


def map_images(trajectory: Trajectory, change: Callable[[ImageRecord], ImageRecord]) -> Trajectory:
    """The same trajectory with every image record replaced by what `change` makes of it, once for each image."""
    known: dict[tuple[str, str, str], ImageRecord] = {}

    def changed(record: ImageRecord) -> ImageRecord:
        key = (record.id, record.format, record.name)
        if key not in known:
            known[key] = change(record)
        return known[key]

    problem = trajectory.problem.model_copy(update={"images": tuple(map(changed, trajectory.problem.images))})
    seen = tuple(s.model_copy(update={"image": changed(s.image)}) for s in trajectory.prompt.images)
    prompt = trajectory.prompt.model_copy(update={"images": seen})
    segments = map_segments(trajectory.segments, changed)
    return trajectory.model_copy(update={"problem": problem, "prompt": prompt, "segments": segments})


def map_segments(segments: Iterable[Segment], change: Callable[[ImageRecord], ImageRecord]) -> tuple[Segment, ...]:
    """The same segments with every image that the sandbox gave replaced by what `change` makes of it."""
    changed: list[Segment] = []
    for segment in segments:
        if isinstance(segment, Observation):
            images = tuple(map(change, segment.execution.images))
            execution = segment.execution.model_copy(update={"images": images})
            changed.append(segment.model_copy(update={"execution": execution}))
        else:
            changed.append(segment)
    return tuple(changed)


def _image_path(path: Path, record: ImageRecord) -> Path:
    """Where an image of a file of records lies."""
    if record.format not in EXTENSIONS:
        raise StoreError(f"image {record.id} has the format {record.format}; stored are {', '.join(EXTENSIONS)}")
    if not record.id.isalnum():  # a name made up to lead out of the folder, perhaps
        raise StoreError(f"image {record.id!r} of {path} has no name of a stored image; restore the record")
    return path.parent / IMAGE_FOLDER / f"{record.id}.{EXTENSIONS[record.format]}"


def _write_image(path: Path, record: ImageRecord) -> ImageRecord:
    """Store one image unless it is there, and give its record with the format it was stored in."""
    return write_image(record, lambda stored: _image_path(path, stored))


def write_image(
    record: ImageRecord, place: Callable[[ImageRecord], Path], encode: Callable[[ImageRecord], bytes] | None = None
) -> ImageRecord:
    """Store one image unless it is there: its own bytes where they are known, else its pixels without loss.

    Args:
        record: The image, with its pixels.
        place: Says where an image of this name and format lies.
        encode: Writes pixels without loss in the format of their record; None is Pillow's way.

    Returns:
        Its record with the format it was stored in.

    Raises:
        StoreError: It has no pixels at hand, or its mode cannot be stored without loss.
    """
    encoded = record.encoded
    if encoded is None:
        if not record.loaded:
            raise StoreError(f"image {record.id} has no pixels to store; read its record with images=True")
        record = record.model_copy(update={"format": "PNG" if record.mode in _PNG_MODES else "TIFF"})
    target = place(record)
    if target.exists():
        return record
    _put(target, encoded if encoded is not None else (encode or _encode)(record))
    return record


def _put(target: Path, data: bytes) -> None:
    """Put a file in place, whole or not at all; its folder is made where missing."""
    temporary = _temporary_name(target)
    try:
        try:
            temporary.write_bytes(data)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _encode(record: ImageRecord) -> bytes:
    """The pixels without loss, in the record's format; fast, as size matters less than time here."""
    buffer = io.BytesIO()
    try:
        record.image.save(buffer, record.format, **({"compress_level": 1} if record.format == "PNG" else {}))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"image {record.id} of mode {record.mode} cannot be stored ({error}); convert it to RGB"
        ) from error
    data = buffer.getvalue()
    if record.format != "PNG":  # TIFF takes modes that it does not give back
        stored = _decode(data, record.size)
        if stored is None or image_id(stored) != record.id:
            raise StoreError(
                f"image {record.id} of mode {record.mode} cannot be stored without loss; convert it to RGB"
            )
    return data


def load_image_of(path: Path, record: ImageRecord) -> ImageRecord:
    """Load one image of a file of trajectories, and check that it is what its name says.

    Raises:
        StoreError: It is missing, damaged, or not the one that was stored.
    """
    return read_image(_image_path(path, record), record)


def read_image(source: Path, record: ImageRecord) -> ImageRecord:
    """Load a stored image, and check that it is what its name says.

    Args:
        source: The file.
        record: The image that should be in it.

    Raises:
        StoreError: It is missing, damaged, or not the one that was stored.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise StoreError(f"{source}: an image of a record cannot be read ({error.strerror}); restore it") from error
    try:
        image = _decode(data, record.size)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise StoreError(f"{source}: damaged ({error}); restore it or delete the records that hold it") from error
    if image is None or image_id(image) != record.id:
        raise StoreError(f"{source}: shows other pixels than were stored (its name is their hash); restore it")
    return ImageRecord.of(image, name=record.name, format=record.format, encoded=data)


def _decode(data: bytes, size: tuple[int, int]) -> Image.Image | None:
    """The pixels alone, without profiles and comments; formats that are never stored start no decoder.

    Args:
        data: The file.
        size: Width and height that it should have. Only then it is decoded, however large it is.
    """
    with without_limit():
        opened = Image.open(io.BytesIO(data), formats=list(EXTENSIONS))
    with opened as picture:
        if picture.size != size:
            return None
        picture.load()
        image = picture.copy()
    image.info = {}
    return image


def _diagnosis(error: ValidationError) -> tuple[str, str]:
    """What is wrong with a line, in a few words, and the way out."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    if any(one["loc"] == ("schema_version",) for one in found):
        return f"no record of schema version {SCHEMA_VERSION}", "use the version of thyme that wrote it"
    where = ".".join(str(part) for part in found[0]["loc"])
    reason = f"{where}: {found[0]['msg']}" if where else found[0]["msg"]
    return f"damaged or not a trajectory ({reason})", "delete the line"


def write_text(path: Path, text: str) -> None:
    """Put a text in place, whole or not at all; its folder is made where missing.

    Raises:
        StoreError: It cannot be written.
    """
    temporary = _temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritten(path: Path, error: OSError, *, written: int | None = None) -> StoreError:
    """The error that says what cannot be written, why, and the way out.

    Args:
        path: File or folder, as people know it.
        error: Of the system, or of a library that passes its number on.
        written: Bytes that were written before, where somebody counted them.
    """
    number = error.errno or 0
    reason = os.strerror(number) if number else str(error)
    after = "" if written is None else f" after {written / 1e6:.1f} MB"
    return StoreError(f"{path} cannot be written ({reason}){after}; {_way_out(path, number)}")


def _way_out(path: Path, number: int) -> str:
    if number == errno.EFBIG:
        return "raise the limit on the size of a file (ulimit -f), and run the same command again"
    if number in {errno.ENOSPC, errno.EDQUOT}:
        there = next(folder for folder in path.absolute().parents if folder.is_dir())
        free = shutil.disk_usage(there).free / 1e6
        return f"{free:.1f} MB are free there: make room on the disk, and run the same command again"
    if number in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "check the permissions of its folder, or name another one"
    return "is there room on the disk?"


def bytes_in(folder: Path) -> int:
    """Bytes of the files in a folder, at any depth."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _temporary_name(path: Path) -> Path:
    """A name in the same folder that nobody else uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
