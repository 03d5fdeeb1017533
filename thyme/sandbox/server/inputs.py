"""Input images as they arrive: read once, decoded once, kept for the sessions that ask about them again."""

from __future__ import annotations

import asyncio
import base64
import binascii

from thyme.config.sandbox_server import SandboxServerConfig
from thyme.errors import ImageError
from thyme.images import decode
from thyme.sandbox import protocol
from thyme.sandbox.lru import ByteLru
from thyme.sandbox.protocol import NewImage
from thyme.sandbox.server.refusal import Refusal
from thyme.types import ImageRecord


class Inputs:
    """Decodes input images, and remembers them by the digest of their bytes."""

    def __init__(self, limits: SandboxServerConfig, most_bytes: int) -> None:
        """Keep at most `most_bytes` of files and pixels."""
        self._limits = limits
        self._known: ByteLru[ImageRecord] = ByteLru(most_bytes)

    async def records(self, images: list[NewImage], body: memoryview) -> tuple[ImageRecord, ...]:
        """Make the records of a session's inputs.

        Args:
            images: As the request names them.
            body: The bytes that follow the request, in order.

        Raises:
            Refusal: There are too many, or one of them is unknown, unreadable or too large.
        """
        if len(images) > self._limits.max_inputs:
            message = f"{len(images)} input images; a session takes at most {self._limits.max_inputs}"
            raise Refusal(413, "too_many_inputs", message)
        missing = [i for i, image in enumerate(images) if self._is_missing(image)]
        if missing:
            raise Refusal(409, "unknown_images", "the bytes of these images are not known", missing=missing)
        records, start = [], 0
        for index, image in enumerate(images):
            size = image.size or 0
            data = bytes(body[start : start + size]) if image.data is None else _base64(image.data, index)
            start += size
            records.append(await self._record(image, data, f"input image {index + 1}"))
        if start != len(body):
            raise Refusal(400, "malformed", f"{len(body)} bytes of images, but the request names {start}")
        return tuple(records)

    def _is_missing(self, image: NewImage) -> bool:
        named = image.size is not None or image.data is not None
        return not named and (image.digest is None or self._known.get(_key(image.digest, image.format)) is None)

    async def _record(self, image: NewImage, data: bytes, label: str) -> ImageRecord:
        if not data and image.digest is not None:
            known = self._known.get(_key(image.digest, image.format))
            if known is not None:
                return known
        return await asyncio.to_thread(self._decoded, image, data, label)

    def _decoded(self, image: NewImage, data: bytes, label: str) -> ImageRecord:
        digest = protocol.digest(data)
        if image.digest not in {None, digest}:
            raise Refusal(400, "malformed", f"{label} has another digest than it is said to have")
        try:
            picture, format = decode(data, label=label, max_pixels=self._limits.max_input_pixels)
        except ImageError as error:
            raise Refusal(422, "image", str(error)) from error
        if image.format not in {None, format}:
            raise Refusal(422, "image", f"{label} is {format}, not {image.format} as the request says")
        record = ImageRecord.of(picture, format=format, encoded=data)
        self._known.put(_key(digest, image.format), record, len(data) + 4 * picture.width * picture.height)
        return record


def _key(digest: str, format: str | None) -> str:
    return f"{digest} {format or ''}"


def _base64(text: str, index: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "malformed", f"input image {index + 1} is not Base64") from None
