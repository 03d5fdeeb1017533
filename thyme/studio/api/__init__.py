"""The paths that the pages use, as JSON; docs/studio.md lists them."""

from __future__ import annotations

from fastapi import APIRouter

from thyme.studio.annotation import routes, routes_more
from thyme.studio.api import leading, people, records, reviewing

router = APIRouter(prefix="/api")
"""All paths."""
for _part in (people, records, reviewing, leading):
    router.include_router(_part.router)
for _part in (routes, routes_more):
    router.include_router(_part.router, prefix="/annotation")
