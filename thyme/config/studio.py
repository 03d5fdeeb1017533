"""What can be set about the review studio, ``thyme studio``. See `docs/studio.md`."""

from __future__ import annotations

from pydantic import Field

from thyme.config.annotation import AnnotationSettings
from thyme.config.base import Config
from thyme.config.sandbox import SandboxConfig


class StudioConfig(Config):
    """The review studio. Times are seconds of wall clock."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8010, ge=0, le=65535)
    """0: any that is free."""
    public_url: str = Field("", pattern=r"^(https?://[^\s/]+/?)?$")
    """How reviewers reach the server, such as ``https://review.example.org``; links are made with it. Empty: as it
    listens."""
    lease_s: float = Field(900.0, gt=0)
    """How long a record is kept for the reviewer who has opened it; an open page renews it."""
    double: float = Field(0.0, ge=0.0, le=1.0)
    """Share of the records that two people review, independently of each other; drawn by the record's id."""
    invite_s: float = Field(7 * 86400.0, gt=0)
    """How long a link that lets a reviewer in may be used, once."""
    session_s: float = Field(30 * 86400.0, gt=0)
    """How long a browser stays let in."""
    proxy_header: str = ""
    """Header in which a reverse proxy names the person, such as ``X-Forwarded-User``; empty: nobody is believed."""
    proxy_peers: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses from which that header is believed."""
    leads: tuple[str, ...] = ()
    """Names of those people of the proxy who lead: they decide, invite and export."""
    max_body_kb: int = Field(2048, ge=1)
    """KiB of one request."""
    annotation: AnnotationSettings = AnnotationSettings()
    """Rules for questions about large images, and who checks them."""
    sandbox: SandboxConfig = SandboxConfig()
    """Where edited code runs."""
