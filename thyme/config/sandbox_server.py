"""What can be set about the sandbox's server, beside the sandbox's own limits."""

from __future__ import annotations

from pydantic import Field

from thyme.config.base import Config


class SandboxServerConfig(Config):
    """Limits of ``thyme sandbox serve``. Sizes in MiB are binary, times are seconds of wall clock."""

    session_ttl_s: float = Field(600.0, gt=0)
    """Seconds a session may stand idle before it is ended."""
    queue_s: float = Field(5.0, ge=0)
    """Seconds a new session waits in line for a place before it is refused (429)."""
    max_waiting: int = Field(64, ge=0)
    """New sessions that wait in line at once; more are refused at once."""
    max_body_mb: int = Field(64, ge=1)
    """MiB of one request."""
    upload_s: float = Field(60.0, gt=0)
    """Seconds one request's body may take to arrive."""
    uploads: int = Field(8, ge=1)
    """Requests with images that are read and decoded at once; it bounds the memory they take."""
    max_inputs: int = Field(64, ge=0)
    """Input images of a session."""
    max_input_pixels: int = Field(89_478_485, ge=1)
    """Pixels of one input image; looked at in its header, before it is decoded."""
    max_settings: int = Field(4, ge=1)
    """Different settings of sessions served at once; each has a zygote of its own."""
    answers_mb: int = Field(256, ge=0)
    """MiB of answers kept for clients that lose one and ask again."""
    drain_s: float = Field(30.0, ge=0)
    """Seconds that sessions may go on after SIGTERM."""
    instance: str = Field("", pattern=r"^[A-Za-z0-9_.-]{0,64}$")
    """Name of this server among several; made up at start when empty. It is part of each session's id."""
