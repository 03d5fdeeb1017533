"""What the studio's pages share: templates and static files."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader

from thyme.studio.accounts import Person
from thyme.studio.refusal import missing
from thyme.view.parts import environment
from thyme.view.served import STATIC_FILES, packaged

STATIC = "/ui/static"
"""Where static files are."""
_SCRIPTS = ("studio.js", "record.js", "edit.js", "deepzoom.js", "lead.js", "join.js")
_ANNOTATE = ("page.js", "picture.js", "draft.js", "faults.js", "choices.js", "author.js", "judge.js", "desk.js")
_STATIC = {
    **STATIC_FILES,
    "studio.css": ("thyme.studio.ui", "static/studio.css", "text/css"),
    "openseadragon.min.js": ("thyme.studio.ui", "static/openseadragon/openseadragon.min.js", "text/javascript"),
    "annotorious.min.js": ("thyme.studio.ui", "static/annotorious/annotorious.min.js", "text/javascript"),
    "annotorious.css": ("thyme.studio.ui", "static/annotorious/annotorious.css", "text/css"),
    "annotate.css": ("thyme.studio.ui", "static/annotate/annotate.css", "text/css"),
    **{name: ("thyme.studio.ui", f"static/{name}", "text/javascript") for name in _SCRIPTS},
    **{f"annotate_{name}": ("thyme.studio.ui", f"static/annotate/{name}", "text/javascript") for name in _ANNOTATE},
}
"""Package, file and MIME type of all that the pages load beside images."""


@cache
def templates() -> Environment:
    """The studio's templates, and those of the trajectory page behind them."""
    made = environment(PackageLoader("thyme.studio.ui", "templates"))
    made.globals["static"] = STATIC
    return made


def page(name: str, me: Person | None, here: str = "", status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page.

    Args:
        name: Of its template.
        me: Who asks; None: somebody who is not let in.
        here: The place in the studio that it belongs to.
        status: Of the answer.
        **values: What the template shows.
    """
    shown = {"me": me, "csrf": me.csrf if me else "", "here": here, **values}
    return HTMLResponse(templates().get_template(name).render(shown), status)


def static(name: str, request: Request) -> Response:
    """A static file, which a browser that has it does not get again.

    Raises:
        Refusal: There is none of this name (404).
    """
    if name not in _STATIC:
        raise missing("file")
    package, path, kind = _STATIC[name]
    content, tag = packaged(package, path)
    headers = {"cache-control": "no-cache", "etag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
