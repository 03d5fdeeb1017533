"""What goes over the wire to a session, and the strict reading of what comes back.

A session is not trusted: a reply is at most so long, it is JSON of exactly this shape, it answers exactly the request
that was made, and the pictures it names are raw pixels at plausible places of a memory file that we own. Nothing is
unpickled, no path of the session's is opened, and no image format is decoded on this side.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import mmap
import os
import re
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from thyme.config.sandbox import SandboxConfig
from thyme.sandbox.jail.shelf import CHANNELS
from thyme.types import ExecutionError, ImageRecord, Repair

LENGTH = struct.Struct("<I")
LONGEST_SIDE = 65_535
KEPT_BYTES = 64 << 20
"""First part of the shared memory, a session's own as long as it lives: pictures wait there whose files are still to be
written. The pages behind it are given back after every run."""
_MOST_TOKENS = 20_000
"""Strings, commas and opening brackets in a reply; an honest one has fewer, and to read a million takes long."""
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{,]', re.DOTALL)


class ProtocolError(Exception):
    """A session said something that no honest session says."""


class Message(BaseModel):
    """Base of what is read from somebody who is not trusted: strictly."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Picture(Message):
    """A picture whose raw pixels come beside it."""

    name: Annotated[str, Field(max_length=4096, pattern=r"^/mnt/data/[^\x00-\x1f\x7f]+$")]
    mode: Literal["L", "RGB", "RGBA"]
    width: Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
    height: Annotated[int, Field(ge=1, le=LONGEST_SIDE)]

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    @property
    def size_bytes(self) -> int:
        """Bytes its pixels take."""
        return self.pixels * CHANNELS[self.mode]


class WireImage(Picture):
    """A picture in the shared memory."""

    offset: Annotated[int, Field(ge=0)]


class WireError(Message):
    """Why the code did not finish."""

    type: Annotated[str, Field(min_length=1, max_length=100)]
    message: Annotated[str, Field(max_length=2000)]
    line: Annotated[int, Field(ge=0, le=10**9)] | None


class WireRepair(Message):
    """One repair."""

    name: Annotated[str, Field(max_length=40, pattern=r"^[a-z_]+$")]
    note: Annotated[str, Field(max_length=2000)]
    count: Annotated[int, Field(ge=1, le=10**9)]


class Reply(Message):
    """What a session answers to a run."""

    id: Annotated[str, Field(max_length=64)]
    ran: str | None
    stdout: str
    truncated: bool
    error: WireError | None
    images: Annotated[list[WireImage], Field(max_length=1000)]
    repairs: Annotated[list[WireRepair], Field(max_length=50)]

    def execution_error(self) -> ExecutionError | None:
        """The error as the record has it."""
        return ExecutionError(**self.error.model_dump()) if self.error else None

    def repair_records(self) -> tuple[Repair, ...]:
        """The repairs as the record has them."""
        return tuple(Repair(**repair.model_dump()) for repair in self.repairs)


def read_reply(data: bytes, request_id: str, config: SandboxConfig) -> Reply:
    """Read a session's answer.

    Args:
        data: One message.
        request_id: What the answer must carry.
        config: The limits it must keep.

    Raises:
        ProtocolError: It is not an honest answer to that request.
    """
    if len(data) > _MOST_TOKENS and next(itertools.islice(_TOKEN.finditer(data), _MOST_TOKENS, None), None):
        raise ProtocolError("more values than in any honest reply")
    try:
        reply = Reply.model_validate(from_json(data))
    except ValidationError as error:
        raise ProtocolError(f"malformed reply ({error.error_count()} faults)") from None
    except ValueError:
        raise ProtocolError("malformed reply (no JSON)") from None
    if reply.id != request_id:
        raise ProtocolError("the reply belongs to another request")
    if excess := excess_of(reply.images, config):
        raise ProtocolError(excess)
    if any(image.offset + image.size_bytes > shared_bytes(config) for image in reply.images):
        raise ProtocolError("a picture lies outside of the shared memory")
    if len(reply.stdout) > config.stdout_chars + 200:
        raise ProtocolError("more printed text than allowed")
    return reply


def excess_of(pictures: Sequence[Picture], config: SandboxConfig) -> str:
    """By what the pictures of one run go beyond the limits, in words; empty where they do not."""
    pixels = [picture.pixels for picture in pictures]
    if len(pixels) > config.max_images or sum(pixels) > config.max_total_pixels:
        return "more pictures or pixels than allowed"
    if any(count > config.max_image_pixels for count in pixels):
        return "a picture has more pixels than allowed"
    return ""


def pack(message: dict[str, Any]) -> bytes:
    """One message to a session."""
    data = json.dumps(message).encode()
    return LENGTH.pack(len(data)) + data


def shared_bytes(config: SandboxConfig) -> int:
    """Size of the memory that pictures come back through: `KEPT_BYTES`, and what may come back from one run."""
    return KEPT_BYTES + max(mmap.PAGESIZE, config.max_total_pixels * max(CHANNELS.values()))


def shared_memory(size: int) -> int:
    """A memory file of fixed size, shared with one session; pages are taken only when they are written."""
    descriptor = os.memfd_create("thyme-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return descriptor


def sealed_file(data: bytes) -> int:
    """A memory file that nobody can change.

    Raises:
        OSError: There is no memory for it, or no descriptor.
    """
    descriptor = os.memfd_create("thyme-input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def take_images(memory: mmap.mmap, images: Sequence[WireImage]) -> tuple[ImageRecord, ...]:
    """Copy pictures out of the shared memory, and give back its pages behind `KEPT_BYTES`."""
    records = []
    for image in images:
        data = memory[image.offset : image.offset + image.size_bytes]
        picture = Image.frombytes(image.mode, (image.width, image.height), data)
        records.append(ImageRecord.of(picture, name=image.name, pixels=data))
    if any(image.offset + image.size_bytes > KEPT_BYTES for image in images):
        memory.madvise(mmap.MADV_REMOVE, KEPT_BYTES)
    return tuple(records)
