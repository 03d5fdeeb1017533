"""Engines: what generates text, in this process or on a server. See `thyme.engines.base` for the contract."""

from __future__ import annotations

from thyme.config.engine import EngineConfig
from thyme.engines.base import Engine
from thyme.errors import EngineError, MissingExtraError

__all__ = ["open_engine"]


def open_engine(model: str, config: EngineConfig | None = None, *, name: str | None = None) -> Engine:
    """Load a model, or connect to its server, and return the engine over it.

    Args:
        model: Checkpoint folder, hub id, or ``URL#NAME``. Whoever calls resolves ``nano`` to its folder.
        config: How it is loaded and run; None is the default.
        name: What records call it; None is the folder's own name, the hub id, or ``NAME``.

    Raises:
        ModelNotFoundError: No such model, or one that cannot be used.
        MissingExtraError: What it needs is not installed.
        EngineError: What it needs is installed and cannot be used, or the server cannot be asked.
        UsageError: The URL is none.
    """
    if "://" in model:
        from thyme.engines.openai import OpenAIEngine

        return OpenAIEngine.open(model, config, name=name)
    try:
        from thyme.engines.transformers import TransformersEngine
        from thyme.engines.vllm import VllmEngine
    except ModuleNotFoundError as error:
        raise MissingExtraError("a local model", "local") from error
    except (ImportError, OSError) as error:  # installed, but broken or of a version that does not fit
        raise EngineError(f"torch or transformers cannot be used ({error}); reinstall thyme-vl[local]") from error
    if config is not None and config.backend == "vllm":
        return VllmEngine.load(model, config, name=name)
    return TransformersEngine.load(model, config, name=name)
