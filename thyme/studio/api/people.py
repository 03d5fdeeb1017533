"""Coming in and going."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from thyme.studio.api.asking import Asking, Body, Shared
from thyme.studio.security import refuse_other_origins, set_cookie

router = APIRouter()


class Join(Body):
    """A link's token, and a name where the link has none."""

    token: str = Field(max_length=200)
    name: str = Field("", max_length=400)


@router.post("/join")
def join(body: Join, request: Request, response: Response, studio: Shared) -> dict[str, Any]:
    """Let this browser in."""
    refuse_other_origins(request, studio.config)
    person, cookie = studio.accounts.join(body.token, body.name)
    set_cookie(request, response, studio.accounts.cookie, cookie, studio.config)
    return {"person": asdict(person)}


@router.post("/leave")
def leave(request: Request, response: Response, studio: Shared, person: Asking) -> dict[str, Any]:
    """Forget this browser."""
    studio.accounts.leave(request)
    response.delete_cookie(studio.accounts.cookie, path="/")
    return {}


@router.get("/me")
def me(person: Asking) -> dict[str, Any]:
    """Who one is here."""
    return {"person": asdict(person)}
