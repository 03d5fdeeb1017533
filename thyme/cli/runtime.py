"""A model and a sandbox beside it, for as long as a command runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext

from rich.console import Console

from thyme.config import EngineConfig, SandboxConfig
from thyme.engines.base import Engine
from thyme.models import open_model
from thyme.sandbox.base import Sandbox
from thyme.sandbox.facade import opened


@asynccontextmanager
async def open_runtime(
    model: str, engine_config: EngineConfig, sandbox_config: SandboxConfig, sandbox_url: str | None = None
) -> AsyncIterator[tuple[Engine, Sandbox]]:
    """Start a sandbox and load a model; both are gone when the context ends.

    Args:
        model: See `thyme.models`.
        engine_config: Device and number format, or style and time-outs.
        sandbox_config: Isolation and limits.
        sandbox_url: A ``thyme sandbox serve`` that runs the code; None runs it here.

    Raises:
        UsageError: There is no such model, or no such isolation here.
        MissingExtraError: What it needs is not installed.
    """
    async with opened(sandbox_config, sandbox_url, None) as sandbox:
        with _told(f"loading {model}"):
            loaded = open_model(model, engine_config)
        async with aclosing(loaded) as engine:
            yield engine, sandbox


def _told(what: str) -> AbstractContextManager[object]:
    """Say on a terminal what takes a while."""
    console = Console(stderr=True)
    return console.status(what) if console.is_terminal else nullcontext()
