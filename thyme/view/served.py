"""What servers of pages share: headers that let nothing foreign run, and the files that pages load beside images."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing but the server's own files runs, is shown or is asked; ``blob:`` are images that a person picked."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""On every answer that does not say otherwise."""

STATIC_FILES = {
    "icon.svg": ("thyme.view", "templates/icon.svg", "image/svg+xml"),
    "page.css": ("thyme.view", "templates/page.css", "text/css"),
    "app.css": ("thyme.view", "templates/app.css", "text/css"),
}
"""Package, file and MIME type of what the pages of every server load; each adds its own."""


@cache
def packaged(package: str, path: str) -> tuple[bytes, str]:
    """A file of a package, and its entity tag: a browser that shows the tag has the file."""
    content = files(package).joinpath(path).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
