"""Reads what a client sends: no more than allowed, no longer than allowed, and only in the two known forms."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from fastapi import Request

from thyme.sandbox import protocol
from thyme.sandbox.protocol import MalformedError, NewRun, NewSession
from thyme.sandbox.server.refusal import Refusal

M = TypeVar("M", NewRun, NewSession)


async def read_message(request: Request, kind: type[M], most_bytes: int, seconds: float) -> tuple[M, memoryview]:
    """Read a request, and the bytes behind it where it is a frame.

    Args:
        request: As it came.
        kind: What it must be.
        most_bytes: Longest body; more is refused before it is read, or as soon as it shows.
        seconds: Longest time the body may take to arrive.

    Raises:
        Refusal: It is too long, too slow, or something else.
    """
    form = request.headers.get("content-type", "").partition(";")[0].strip()
    if form not in {"application/json", protocol.FRAME}:  # a page in a browser can send neither without being asked
        raise Refusal(415, "content_type", f"the body must be application/json or {protocol.FRAME}")
    _refuse_other_protocol(request)
    data = await read_body(request, most_bytes, seconds)
    try:
        head, body = protocol.unpack(data) if form == protocol.FRAME else (data, memoryview(b""))
        return protocol.read(kind, head), body
    except MalformedError as error:
        raise Refusal(400, "malformed", str(error)) from None


async def read_body(request: Request, most_bytes: int, seconds: float) -> bytearray:
    """Read a body of any form, also one whose length was not announced.

    Args:
        request: As it came.
        most_bytes: Longest body.
        seconds: Longest time it may take to arrive.

    Raises:
        Refusal: It is too long, or too slow.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, most_bytes)
    except TimeoutError:
        raise Refusal(408, "too_slow", f"the body took longer than {seconds:g} s to arrive") from None


async def _read(request: Request, most_bytes: int) -> bytearray:
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced[:20]) > most_bytes:
        raise _too_large(most_bytes)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most_bytes:
            raise _too_large(most_bytes)
    return data


def _too_large(most_bytes: int) -> Refusal:
    message = f"the request is longer than {most_bytes} bytes; send fewer or smaller images, or raise --max-body"
    return Refusal(413, "too_large", message)


def _refuse_other_protocol(request: Request) -> None:
    spoken = request.headers.get(protocol.PROTOCOL_HEADER, str(protocol.PROTOCOL))
    if spoken != str(protocol.PROTOCOL):
        message = (
            f"the client speaks protocol {spoken[:20]}, this server {protocol.PROTOCOL}: install the same version of "
            "thyme-vl on both sides"
        )
        raise Refusal(400, "protocol", message)
