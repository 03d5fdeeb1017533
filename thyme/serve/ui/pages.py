"""What playground and viewer share: templates, static files, images."""

from __future__ import annotations

import asyncio
import re
from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader

from thyme.serve.refusal import Refusal
from thyme.types import ImageRecord
from thyme.view.parts import environment
from thyme.view.pictures import MAX_SIDE, original, reduced, resized
from thyme.view.served import HEADERS, STATIC_FILES, packaged

STATIC = "/ui/static"
"""Where static files are."""
_STATIC = {
    **STATIC_FILES,
    "zoom.js": ("thyme.serve.ui", "static/zoom.js", "text/javascript"),
    "playground.js": ("thyme.serve.ui", "static/playground.js", "text/javascript"),
}
"""Package, file and MIME type of all that the pages load beside images."""
_MOST_SEEN = 4096
"""Longest side at which a model may see an image for it to be shown so, pixels."""


@cache
def templates() -> Environment:
    """The templates of both, and those of the trajectory page behind them."""
    made = environment(PackageLoader("thyme.serve.ui", "templates"))
    made.globals["static"] = STATIC
    return made


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page."""
    return HTMLResponse(templates().get_template(name).render(values), status, HEADERS)


def fragment(name: str, **values: Any) -> str:
    """A piece of a page."""
    return templates().get_template(name).render(values)


async def static(name: str, request: Request) -> Response:
    """A static file, which a browser that has it does not get again.

    Raises:
        Refusal: There is none of this name.
    """
    if name not in _STATIC:
        raise Refusal(404, f"there is no file {name[:100]!r}", code="not_found")
    package, path, kind = _STATIC[name]
    content, tag = packaged(package, path)
    headers = {**HEADERS, "cache-control": "no-cache", "etag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


async def image(record: ImageRecord, side: int | None, seen: str | None) -> Response:
    """An image, as `thyme.view.pictures.Linked` names it.

    Args:
        record: Its pixels are at hand.
        side: Longest side to reduce it to, pixels.
        seen: Size as a model sees it, ``WxH``.

    Raises:
        Refusal: The size cannot be had.
    """
    if seen is not None:
        match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", seen)
        size = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 0 < min(size) <= max(size) <= _MOST_SEEN:
            raise Refusal(400, "seen must be WIDTHxHEIGHT in pixels", code="invalid_value")
        file = await asyncio.to_thread(resized, record, size)
    elif side is not None:
        file = await asyncio.to_thread(reduced, record, max(1, min(side, MAX_SIDE)))
    else:
        file = await asyncio.to_thread(original, record)
    headers = {**HEADERS, "cache-control": "private, max-age=3600, immutable"}  # its name is a hash of what it shows
    return Response(file.data, media_type=file.type, headers=headers)
