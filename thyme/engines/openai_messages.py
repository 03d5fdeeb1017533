"""A trajectory as the messages of a chat request: continued in place, or in turns."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from PIL import Image

from thyme.engines.base import Request
from thyme.errors import UsageError
from thyme.markup import IMAGE, observation_parts
from thyme.types import Generated, ImageRecord, Observation, Prompt, Segment

Message = dict[str, Any]
Show = Callable[[ImageRecord], str]
"""Gives the data URL that shows an image."""
Part = str | ImageRecord

_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Formats that every server reads; any other is sent as PNG."""


def data_url(record: ImageRecord, size: tuple[int, int]) -> str:
    """An image as a data URL.

    Args:
        record: Pixels loaded. Its original bytes are sent where that is what is asked for.
        size: Width and height in pixels at which it is sent.
    """
    if size == record.size and record.encoded is not None and record.format in _AS_THEY_ARE:
        return _url(_AS_THEY_ARE[record.format], record.encoded)
    image = record.image if record.image.mode in {"L", "RGB", "RGBA"} else record.image.convert("RGB")
    if size != record.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return _url("image/png", file.getvalue())


def _url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def bounded_size(width: int, height: int, lowest: int | None, highest: int | None) -> tuple[int, int]:
    """Size of an image after it was brought within limits of its area, its shape kept.

    Args:
        width: Pixels.
        height: Pixels.
        lowest: Pixels to which smaller ones are enlarged; None: they are not.
        highest: Pixels to which larger ones are reduced; None: they are not.
    """
    area = width * height
    if highest is not None and area > highest:
        factor = math.sqrt(highest / area)
        return max(1, math.floor(width * factor)), max(1, math.floor(height * factor))
    if lowest is not None and area < lowest:
        factor = math.sqrt(lowest / area)
        return math.ceil(width * factor), math.ceil(height * factor)
    return width, height


def prompt_images(user: str, images: Sequence[ImageRecord]) -> list[Part]:
    """A user turn in parts, an image for each ``<image>``.

    Raises:
        UsageError: It does not name every image once.
    """
    texts = user.split(IMAGE)
    if len(texts) != len(images) + 1:
        raise UsageError(f"the user turn has {len(texts) - 1} {IMAGE} for {len(images)} images; it needs one for each")
    parts: list[Part] = [texts[0]]
    for image, text in zip(images, texts[1:], strict=True):
        parts += [image, text]
    return [part for part in parts if part != ""]


def continued(request: Request, show: Show) -> list[Message]:
    """System, user, and the assistant's message as far as it goes, images inside it."""
    parts = [part for segment in request.segments for part in _segment_parts(segment)]
    return _opening(request.prompt, show) + ([message("assistant", parts, show)] if parts else [])


def in_turns(request: Request, show: Show) -> list[Message]:
    """System, user, then in turn what the assistant wrote and, as a user's turn, what the sandbox gave back."""
    messages = _opening(request.prompt, show)
    written: list[Part] = []
    for segment in request.segments:
        if isinstance(segment, Generated):
            written.append(segment.text)
            continue
        messages += [message("assistant", written, show)] if written else []
        messages.append(message("user", _segment_parts(segment), show))
        written = []
    return messages


def images_of(request: Request) -> Iterable[ImageRecord]:
    """Every image of a request, in order."""
    for seen in request.prompt.images:
        yield seen.image
    for segment in request.segments:
        if isinstance(segment, Observation):
            yield from segment.execution.images


def _segment_parts(segment: Segment) -> Sequence[Part]:
    return [segment.text] if isinstance(segment, Generated) else observation_parts(segment.execution)


def _opening(prompt: Prompt, show: Show) -> list[Message]:
    user = prompt_images(prompt.user, [seen.image for seen in prompt.images])
    system = [message("system", [prompt.system], show)] if prompt.system else []
    return [*system, message("user", user, show)]


def message(role: str, parts: Sequence[Part], show: Show) -> Message:
    """A message; plain text where it shows no image, which every server and template takes."""
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, ImageRecord):
            content.append({"type": "image_url", "image_url": {"url": show(part)}})
        elif content and content[-1]["type"] == "text":
            content[-1]["text"] += part
        else:
            content.append({"type": "text", "text": part})
    if all(part["type"] == "text" for part in content):
        return {"role": role, "content": "".join(part["text"] for part in content)}
    return {"role": role, "content": content}
