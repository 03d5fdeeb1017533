"""What can be set about the agent server, ``thyme serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from thyme.config.base import Config
from thyme.config.rollout import RolloutConfig

SHORTEST_KEY = 16


def _usable(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if len(text) < SHORTEST_KEY:
        raise ValueError(
            f"an API key has {len(text)} characters; take at least {SHORTEST_KEY}, e.g. openssl rand -hex 32"
        )
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("an API key must be printable ASCII without spaces, e.g. openssl rand -hex 32")
    return key


ApiKey = Annotated[SecretStr, AfterValidator(_usable)]
"""Printable ASCII, never printed by accident."""


class ServeConfig(Config):
    """The agent server. Sizes in MiB are binary, times are seconds of wall clock."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """0: any that is free."""
    api_keys: tuple[ApiKey, ...] = ()
    """Any of them lets a client in. None: everybody who reaches the server may come in."""
    model_name: str | None = None
    """What the model is called at ``/v1/models``; None takes the engine's name."""
    ui: bool = False
    """Whether the page to try it is served at ``/``."""
    cors_origins: tuple[str, ...] = ()
    """Origins of pages elsewhere whose scripts may call the API; ``*`` is any."""
    prompts: Path | None = None
    """Folder of prompt files, instead of the model's own."""

    rollout: RolloutConfig = RolloutConfig()
    """How a request is answered if it says nothing; its bounds are upper limits of what a request may ask for."""
    min_tokens: int = Field(0, ge=0)
    """What a smaller ``max_tokens`` of a request is raised to. Tools that expect a bare answer ask for a few tokens,
    which leave no room to think."""
    images_required: bool = False
    """Whether a request without an image is refused."""

    max_body_mb: int = Field(64, ge=1)
    """MiB of one request."""
    upload_s: float = Field(60.0, gt=0)
    """Seconds one request's body may take to arrive."""
    uploads: int = Field(4, ge=1)
    """Requests or images that are decoded at once; it bounds the memory they take."""
    max_text_chars: int = Field(200_000, ge=1)
    """Characters of all texts of a request together."""
    max_images: int = Field(16, ge=0)
    """Images of a request."""
    max_image_pixels: int = Field(89_478_485, ge=1)
    """Pixels of one image; looked at in its header, before it is decoded."""
    max_request_pixels: int = Field(178_956_970, ge=1)
    """Pixels of all images of a request together, 3 bytes each until it is answered; one image may always have
    `max_image_pixels`."""
    allow_http_images: bool = False
    """Whether images may be named by http(s) URLs, which the server then fetches; else only data URLs."""
    image_hosts: tuple[str, ...] = ()
    """Hosts that images may be fetched from, also on a private network. Empty: any with a public address."""
    fetch_s: float = Field(20.0, gt=0)
    """Seconds that fetching one image may take."""

    max_concurrent: int = Field(16, ge=1)
    """Requests that are answered at once."""
    max_queued: int = Field(128, ge=0)
    """Requests that wait for a place; more are refused at once (429)."""
    queue_s: float = Field(120.0, gt=0)
    """Seconds a request may wait for a place before it is refused (429)."""
    request_s: float = Field(600.0, gt=0)
    """Seconds one request may take from its place on; then it is ended (504)."""
    keep_alive_s: float = Field(10.0, gt=0)
    """Seconds of silence in a stream after which a comment is sent, so that nothing on the way closes it."""
    drain_s: float = Field(30.0, ge=0)
    """Seconds that running requests may go on after SIGTERM."""
