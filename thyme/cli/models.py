"""A model and a sandbox beside it, for as long as a command runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext

from rich.console import Console

from thyme.config import EngineConfig, SandboxConfig
from thyme.engines.base import Engine
from thyme.models import NANO, open_model
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox

__all__ = ["NANO", "open_runtime"]


@asynccontextmanager
async def open_runtime(
    model: str, engine_config: EngineConfig, sandbox_config: SandboxConfig
) -> AsyncIterator[tuple[Engine, Sandbox]]:
    """Start a sandbox and load a model; both are gone when the context ends.

    Args:
        model: See `thyme.models`.
        engine_config: Device and number format, or style and time-outs.
        sandbox_config: Isolation and limits.

    Raises:
        UsageError: There is no such model, or no such isolation here.
        MissingExtraError: What it needs is not installed.
    """
    async with open_sandbox(sandbox_config) as sandbox:
        with _told(f"loading {model}"):
            loaded = open_model(model, engine_config)
        async with aclosing(loaded) as engine:
            yield engine, sandbox


def _told(what: str) -> AbstractContextManager[object]:
    """Say on a terminal what takes a while."""
    console = Console(stderr=True)
    return console.status(what) if console.is_terminal else nullcontext()
