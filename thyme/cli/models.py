"""From what the user calls a model to an engine, with a sandbox beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from thyme.config import EngineConfig, SandboxConfig
from thyme.engines.base import Engine
from thyme.errors import MissingExtraError, ModelNotFoundError, UsageError
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox

NANO = "nano"
SCRIPTED = "scripted:"


@asynccontextmanager
async def open_runtime(
    model: str, engine_config: EngineConfig, sandbox_config: SandboxConfig
) -> AsyncIterator[tuple[Engine, Sandbox]]:
    """Start a sandbox and load a model; both are gone when the context ends.

    Args:
        model: ``nano``, a folder, a hub id, or ``scripted:FILE``.
        engine_config: Device and number format.
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


def open_model(model: str, config: EngineConfig) -> Engine:
    """Load a model by what the user calls it; see `open_runtime`."""
    if model.startswith(SCRIPTED):
        return _scripted(Path(model.removeprefix(SCRIPTED)))
    from thyme.engines import open_engine

    if model != NANO:
        return open_engine(model, config)
    from thyme.nano import checkpoint_path

    try:
        return open_engine(str(checkpoint_path("final")), config, name=NANO)
    except MissingExtraError as error:
        raise MissingExtraError("the embedded model nano", error.extra) from error


def _scripted(path: Path) -> Engine:
    """An engine that says what a file holds: a list of continuations, or such lists by a part of the question."""
    from thyme.engines.scripted import ScriptedEngine

    try:
        script = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelNotFoundError(f"script {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"script {path} is not JSON: {error}") from error
    lists = list(script.values()) if isinstance(script, dict) else [script]
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists):
        raise UsageError(f"script {path} must be a list of texts, or an object with such a list for each question")
    return ScriptedEngine(script)
