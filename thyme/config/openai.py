"""How a server is asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from thyme.config.base import Config

Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class OpenAIConfig(Config):
    """Settings of the engine over an OpenAI-compatible server; see docs/engines.md.

    The API key is no setting: it comes from the environment (``THYME_API_KEY``, else ``OPENAI_API_KEY``).
    """

    style: Literal["auto", "continue", "chat"] = "auto"
    """``continue``: the assistant's message is continued in place, images inside it. ``chat``: an observation is a
    user's turn. ``auto`` asks the server what it can do."""
    tokenizer: str | None = None
    """Checkpoint folder, or hub id, of the served model (its weights are not needed): sizes, token ids and
    fingerprints are then as exact as those of a local model. Needs the extra ``local``."""
    max_concurrent: int = Field(default=16, ge=1)
    """Requests that are open at once; more wait."""
    connect_timeout_s: Seconds = 10.0
    first_token_timeout_s: Seconds = 600.0
    """Until the first token, the server's queue and its reading of the images included; without streaming, until the
    whole answer."""
    token_timeout_s: Seconds = 120.0
    """From one token to the next."""
    retries: int = Field(default=4, ge=0)
    """How often a request is sent again that was refused for load (429), failed on the server (5xx) or did not get
    through, as long as no token had come."""
    backoff_s: Seconds = 0.5
    """Pause before the first repetition; it doubles with each, up to a minute, and is spread at random."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Fields to add to every request, such as ``reasoning_effort``; one that is None is taken out of it instead."""
