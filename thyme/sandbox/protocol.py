"""What a client and `thyme sandbox serve` say to each other.

Whatever carries pictures is a frame: 4 bytes of length (little endian), so much JSON, then bytes that the JSON tells
apart. Inputs travel as encoded files, results as raw pixels, so that neither side decodes an image format that came
from a session. Both directions are read strictly: known fields of known types only, sizes that add up to the byte.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeVar

from PIL import Image
from pydantic import Field, ValidationError

from thyme.config.sandbox import SandboxConfig
from thyme.sandbox.jail.shelf import CHANNELS
from thyme.sandbox.wire import Message, Picture, excess_of
from thyme.types import Execution, ExecutionError, ImageRecord, Repair

PROTOCOL = 1
"""Raised when one side would misread the other."""
FRAME = "application/x-thyme-frame"
AFFINITY_HEADER = "x-thyme-affinity"
"""The same for all requests of one session, from its first: what a load balancer may hash."""
PROTOCOL_HEADER = "x-thyme-protocol"

_LENGTH = struct.Struct("<I")
_MOST_HEAD_BYTES = 64 << 20

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Format = Literal["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]

SETTINGS = frozenset({
    "repairs", "compat", "importable", "round_trip", "timeout_s", "memory_mb", "cpu_s", "file_mb", "disk_mb", "inodes",
    "open_files", "threads", "code_chars", "stdout_chars", "max_images", "max_image_pixels", "max_total_pixels",
})  # fmt: skip
"""Fields of `SandboxConfig` that a session may set for itself; what is a number, no higher than the server's own."""


class MalformedError(ValueError):
    """The other side said something that the protocol does not know."""


class Hello(Message):
    """What a server says about itself."""

    protocol: int
    version: Annotated[str, Field(max_length=100)]
    instance: Annotated[str, Field(max_length=100)]
    isolation: Literal["namespaces", "landlock"]
    max_body: Annotated[int, Field(ge=1)]
    """Bytes of one request."""


class NewImage(Message):
    """One input: its digest alone where the server has seen it, else with its bytes."""

    format: Format | None = None
    """None: whatever the bytes are."""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """BLAKE2b of the bytes, 32 bytes long."""
    size: Annotated[int, Field(ge=0)] | None = None
    """Bytes of it in the frame."""
    data: str | None = None
    """The bytes in Base64, where the request is plain JSON."""


class NewSession(Message):
    """A session that is asked for."""

    key: Key | None = None
    """Made up by the client; asked for again, the same session is meant."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    images: Annotated[list[NewImage], Field(max_length=1000)] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)
    """Fields of `SandboxConfig` that differ from the server's, out of `SETTINGS`."""


class Opened(Message):
    """A session that is open."""

    session: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
    isolation: Literal["namespaces", "landlock"]
    timeout_s: Annotated[float, Field(gt=0, le=1e6)]


class NewRun(Message):
    """Code to run."""

    code: str
    request: Key | None = None
    """Made up by the client; asked for again, the same run is meant, and never runs twice."""


class Fault(Message):
    """Why a request was refused."""

    code: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
    message: Annotated[str, Field(max_length=4000)]
    missing: Annotated[list[int], Field(max_length=1000)] = Field(default_factory=list)
    """Inputs, from 0, whose bytes the server wants to see."""


class Refused(Message):
    """The body of every answer that is no success."""

    error: Fault


class _Error(Message):
    type: Annotated[str, Field(min_length=1, max_length=200)]
    message: Annotated[str, Field(max_length=8000)]
    line: Annotated[int, Field(ge=0, le=10**9)] | None


class _Repair(Message):
    name: Annotated[str, Field(max_length=40, pattern=r"^[a-z_]+$")]
    note: Annotated[str, Field(max_length=4000)]
    count: Annotated[int, Field(ge=1, le=10**9)]


class Answer(Message):
    """What a run came to; the pixels of its images follow in order."""

    request: Key
    code: str | None
    """None: as it was sent; else what of it may be stored."""
    ran: str | None
    """None: the same as `code`."""
    stdout: str
    error: _Error | None
    images: Annotated[list[Picture], Field(max_length=1000)]
    repairs: Annotated[list[_Repair], Field(max_length=100)]
    duration_s: Annotated[float, Field(ge=0)]
    truncated: bool
    session_lost: bool
    isolation: Literal["namespaces", "landlock"]


M = TypeVar("M", bound=Message)


def digest(data: bytes) -> str:
    """Name of a file by its bytes."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def read(kind: type[M], data: bytes | bytearray | memoryview) -> M:
    """Read a message.

    Raises:
        MalformedError: It is no such message; says in short where.
    """
    try:
        return kind.model_validate(json.loads(bytes(data)))  # the standard reader takes lone surrogates, as code may
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the message"
        raise MalformedError(f"{where[:200]}: {fault['msg'][:200]}") from None
    except (ValueError, RecursionError):
        raise MalformedError("the message is not JSON") from None


def pack(head: dict[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """One frame."""
    data = json.dumps(head).encode()
    return b"".join((_LENGTH.pack(len(data)), data, *parts))


def unpack(frame: bytes | bytearray, most_head: int = _MOST_HEAD_BYTES) -> tuple[memoryview, memoryview]:
    """Head and body of a frame.

    Raises:
        MalformedError: It is no frame.
    """
    view = memoryview(frame)
    if len(view) < _LENGTH.size:
        raise MalformedError("the frame is cut off")
    (length,) = _LENGTH.unpack_from(view)
    if length > most_head or _LENGTH.size + length > len(view):
        raise MalformedError("the frame's head is longer than the frame, or than allowed")
    end = _LENGTH.size + length
    return view[_LENGTH.size : end], view[end:]


def answer_head(request: str, sent: str, execution: Execution) -> bytes:
    """The beginning of the frame that carries an execution: `pixel_chunks` of its images follow.

    Args:
        request: What it is the answer to.
        sent: The code as the client sent it, which need not travel back.
        execution: What it came to.
    """
    images = [{"name": i.name, "mode": i.mode, "width": i.width, "height": i.height} for i in execution.images]
    code = None if execution.code == sent else execution.code
    return pack({**outcome(execution), "request": request, "code": code, "images": images})


def pixel_bytes(image: ImageRecord) -> int:
    """Bytes of an image that a session saved, as it travels."""
    return image.width * image.height * CHANNELS[image.mode]


def pixel_chunks(image: ImageRecord, chunk_bytes: int = 1 << 18) -> Iterator[bytes]:
    """The pixels of an image that a session saved, rows from the top, in pieces: none of it is held twice."""
    rows = max(1, chunk_bytes // (image.width * CHANNELS[image.mode]))
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        yield image.image.crop(box).tobytes()


def outcome(execution: Execution) -> dict[str, Any]:
    """What a run came to, without its code and its images."""
    return {
        "ran": None if execution.ran == execution.code else execution.ran,
        "stdout": execution.stdout,
        "error": execution.error.model_dump() if execution.error else None,
        "repairs": [repair.model_dump() for repair in execution.repairs],
        "duration_s": execution.duration_s,
        "truncated": execution.truncated,
        "session_lost": execution.session_lost,
        "isolation": execution.isolation,
    }


def most_answer_bytes(config: SandboxConfig) -> int:
    """Size of the largest answer that `config` allows."""
    return config.message_bytes + config.max_total_pixels * max(CHANNELS.values()) + _LENGTH.size


def read_answer(frame: bytes | bytearray, request: str, code: str, config: SandboxConfig) -> Execution:
    """The execution that a frame carries.

    Args:
        frame: As it came.
        request: What the answer must be to.
        code: That was sent.
        config: The limits it must keep.

    Raises:
        MalformedError: No honest server answers that.
    """
    head, body = unpack(frame, config.message_bytes)
    answer = read(Answer, head)
    if answer.request != request:
        raise MalformedError("the answer belongs to another request")
    if excess := excess_of(answer.images, config):
        raise MalformedError(excess)
    if sum(image.size_bytes for image in answer.images) != len(body):
        raise MalformedError("the pictures are not as long as they are said to be")
    if not math.isfinite(answer.duration_s):
        raise MalformedError("a duration that is no number")
    code = code if answer.code is None else answer.code
    return Execution(
        code=code,
        ran=code if answer.ran is None else answer.ran,
        images=_take_images(answer.images, body),
        error=ExecutionError(**answer.error.model_dump()) if answer.error else None,
        repairs=tuple(Repair(**repair.model_dump()) for repair in answer.repairs),
        **answer.model_dump(include={"stdout", "duration_s", "truncated", "session_lost", "isolation"}),
    )


def _take_images(pictures: Sequence[Picture], body: memoryview) -> tuple[ImageRecord, ...]:
    records, start = [], 0
    for picture in pictures:
        data = body[start : start + picture.size_bytes]
        start += picture.size_bytes
        image = Image.frombytes(picture.mode, (picture.width, picture.height), data)
        records.append(ImageRecord.of(image, name=picture.name, pixels=data))
    return tuple(records)
