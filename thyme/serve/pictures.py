"""From the URLs of a request to upright pictures."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence

from thyme.config.serve import ServeConfig
from thyme.errors import ImageError
from thyme.images import load_image
from thyme.serve.conversation import ImageUrl
from thyme.serve.fetch import fetch
from thyme.serve.refusal import Refusal
from thyme.types import ImageRecord

_SPACES = str.maketrans("", "", " \t\r\n")


async def read_images(
    urls: Sequence[ImageUrl], config: ServeConfig, decoding: asyncio.Semaphore
) -> tuple[ImageRecord, ...]:
    """Decode the pictures of a request, one after the other.

    Args:
        urls: As the client named them.
        config: Limits.
        decoding: Bounds how many pictures are decoded at once, over all requests.

    Raises:
        Refusal: There are too many; one is no data URL, broken, no picture, too large, or may not be fetched.
    """
    if len(urls) > config.max_images:
        message = f"{len(urls)} images, and this server takes {config.max_images} in a request; send fewer"
        raise Refusal(400, message, code="too_many_images", param="messages")
    left = config.max_body_mb << 20
    records: list[ImageRecord] = []
    for url in urls:
        data = None
        if url.url[:5].lower() != "data:":
            data = await _fetched(url, config, left)
            left -= len(data)
        async with decoding:
            records.append(await asyncio.to_thread(_picture, url, data, records, config))
    return tuple(records)


def load_next(data: bytes, before: Sequence[ImageRecord], config: ServeConfig, name: str = "") -> ImageRecord:
    """Read an image of a request.

    Args:
        data: The file.
        before: The images before it, which share the limit of a request with it.
        config: Limits.
        name: What it is called.

    Raises:
        ImageError: It is no readable picture, or too large.
    """
    together = max(config.max_request_pixels, config.max_image_pixels)
    left = together - sum(image.width * image.height for image in before)
    try:
        return load_image(data, name=name, max_pixels=min(left, config.max_image_pixels))
    except ImageError as error:
        if left >= config.max_image_pixels:
            raise
        raise ImageError(f"{error}; all images of a request together may have {together:,} pixels") from None


def _decoded(url: ImageUrl) -> bytes:
    """The bytes in a data URL (RFC 2397); the media type it claims does not matter, its bytes do."""
    head, comma, text = url.url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise _unfit(url, "a data URL must be in Base64: data:image/png;base64,…", "invalid_image_url")
    try:
        return base64.b64decode(text.translate(_SPACES), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unfit(url, f"the data URL is not valid Base64 ({error}); was it cut off?", "invalid_base64") from None


async def _fetched(url: ImageUrl, config: ServeConfig, most_bytes: int) -> bytes:
    scheme = url.url.partition("://")[0].lower()
    if scheme not in {"http", "https"}:
        raise _unfit(url, "an image must be a data URL: data:image/png;base64,…", "invalid_image_url")
    if not config.allow_http_images:
        message = "this server fetches no images (--allow-http-images was not given); send a data URL instead"
        raise _unfit(url, message, "image_url_not_allowed")
    try:
        return await fetch(url.url, config, most_bytes)
    except ImageError as error:
        raise _unfit(url, str(error), "image_not_fetched") from None


def _picture(url: ImageUrl, data: bytes | None, before: Sequence[ImageRecord], config: ServeConfig) -> ImageRecord:
    try:
        return load_next(_decoded(url) if data is None else data, before, config)
    except ImageError as error:
        raise _unfit(url, str(error), "invalid_image") from None


def _unfit(url: ImageUrl, message: str, code: str) -> Refusal:
    return Refusal(400, f"{url.param}: {message}", code=code, param=url.param)
