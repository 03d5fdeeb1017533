"""The paths that the pages use, as JSON; docs/studio.md and docs/annotation.md list them."""

from __future__ import annotations

from fastapi import APIRouter

from thyme.studio.api import annotating, annotation_lists, leading, people, records, reviewing

router = APIRouter(prefix="/api")
"""All paths."""
for _part in (people, records, reviewing, leading):
    router.include_router(_part.router)
for _part in (annotating, annotation_lists):
    router.include_router(_part.router, prefix="/annotation")
