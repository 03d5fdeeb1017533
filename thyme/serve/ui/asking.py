"""From what the page sends to a problem: question, images and settings, within the server's limits."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thyme.config.rollout import RolloutConfig, Temperature
from thyme.config.serve import ServeConfig
from thyme.errors import ImageError
from thyme.sandbox.server.bodies import read_body
from thyme.sandbox.server.refusal import Refusal as BodyRefusal
from thyme.serve.pictures import load_next
from thyme.serve.protocol import Seed
from thyme.serve.refusal import Refusal
from thyme.types import ImageRecord, Problem

_LONGEST_NAME = 120
_FOR_COMMANDS = ", or raise the limit with --max-pixels"
"""Where advice for those who read an image by a command begins."""


class Upload(BaseModel):
    """An image as a person picked it."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    data: str
    """The file in Base64."""


class Wish(BaseModel):
    """The body of ``POST /ui/questions``."""

    model_config = ConfigDict(extra="forbid")

    question: str
    images: list[Upload] = Field(default_factory=list)
    tools: bool = True
    text_temperature: Temperature = 0.0
    code_temperature: Temperature = 0.0
    max_rounds: Annotated[int, Field(ge=0)]
    seed: Seed = 0

    def rollout(self, limits: RolloutConfig) -> RolloutConfig:
        """How it is to be answered.

        Raises:
            Refusal: It asks for more rounds than the server allows.
        """
        if self.max_rounds > limits.max_rounds:
            message = f"rounds: this server runs at most {limits.max_rounds} code blocks a question"
            raise Refusal(400, message, code="invalid_value", param="max_rounds")
        return limits.model_copy(update=self.model_dump(exclude={"question", "images", "seed"}))


async def read_wish(request: Request, config: ServeConfig, decoding: asyncio.Semaphore) -> tuple[Wish, Problem]:
    """Read what the page asks.

    Args:
        request: Its body is JSON.
        config: Limits.
        decoding: Bounds how many requests are decoded at once.

    Returns:
        The wish without its images, and the problem with their pixels.

    Raises:
        Refusal: Something of it cannot be used; the message says what in plain words.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the body must be JSON: content-type: application/json", code="content_type")
    try:
        body = await read_body(request, config.max_body_mb << 20, config.upload_s)
    except BodyRefusal as refusal:
        raise Refusal(refusal.status, _plain(refusal, config), code=refusal.code) from None
    async with decoding:
        return await asyncio.to_thread(_read, body, config)


def _plain(refusal: BodyRefusal, config: ServeConfig) -> str:
    if refusal.status != 413:
        return refusal.message
    most = config.max_body_mb * 3 // 4
    return f"the images are too large: this server takes at most {most} MB a question; send fewer or smaller ones"


def _read(body: bytes | bytearray, config: ServeConfig) -> tuple[Wish, Problem]:
    try:
        wish = Wish.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the body"
        raise Refusal(400, f"{where.replace('_', ' ')}: {fault['msg'][:300]}", code="invalid_value") from None
    question = wish.question.strip()
    if not question:
        raise Refusal(400, "the question is empty; write what you want to know", code="no_question")
    if len(question) > config.max_text_chars:
        message = f"the question has {len(question)} characters and may have {config.max_text_chars}; shorten it"
        raise Refusal(400, message, code="text_too_long")
    if len(wish.images) > config.max_images:
        message = f"{len(wish.images)} images, and this server takes {config.max_images} a question; remove some"
        raise Refusal(400, message, code="too_many_images")
    if config.images_required and not wish.images:
        raise Refusal(400, "there is no image; add one first", code="no_image")
    images: list[ImageRecord] = []
    for upload in wish.images:
        images.append(_image(upload, images, config))
    return wish.model_copy(update={"images": []}), Problem(id="playground", question=question, images=tuple(images))


def _image(upload: Upload, before: Sequence[ImageRecord], config: ServeConfig) -> ImageRecord:
    name = (
        "".join(letter for letter in upload.name if letter.isprintable())[-_LONGEST_NAME:] or f"image {len(before) + 1}"
    )
    try:
        data = base64.b64decode(upload.data, validate=True)
        return load_next(data, before, config, name)
    except binascii.Error:
        raise Refusal(400, f"{name} arrived damaged; add it again", code="invalid_base64") from None
    except ImageError as error:
        raise Refusal(400, str(error).partition(_FOR_COMMANDS)[0], code="invalid_image") from None
