"""Answers of several paths."""

from __future__ import annotations

from fastapi import Response

from thyme.view.pictures import File

_KEPT = {"cache-control": "private, max-age=3600, immutable"}
"""Pictures and their tiles never change: their addresses name what they show."""


def picture(file: File) -> Response:
    """A picture, which the browser keeps."""
    return Response(file.data, media_type=file.type, headers=_KEPT)
