"""The one grammar of models: what a user calls a model, everywhere in the package.

==================  ================================================================================================
``nano``            the embedded model; where training starts, also ``nano:base``, ``nano:undecided``, ``nano:direct``
``FOLDER``          a checkpoint on this machine
``HUB_ID``          one of a hub, such as ``Qwen/Qwen2.5-VL-7B-Instruct``
``URL#NAME``        one that an OpenAI-compatible server offers: ``http://localhost:8000/v1#NAME``; without ``#NAME``
                    the server's only one
``scripted:FILE``   for tests and demonstrations: a JSON list of what to say, or such lists by a part of the question
==================  ================================================================================================
"""

from __future__ import annotations

import json
from pathlib import Path

from thyme.config import EngineConfig
from thyme.engines.base import Engine
from thyme.errors import MissingExtraError, ModelNotFoundError, UsageError
from thyme.families.checkpoint import find_checkpoint
from thyme.nano import Checkpoint, checkpoint_path

NANO = "nano"
NANO_CHECKPOINTS: dict[str, Checkpoint] = {
    NANO: "final",
    "nano:base": "base",
    "nano:undecided": "undecided",
    "nano:direct": "direct",
}
"""What the embedded checkpoints are called."""
SCRIPTED = "scripted:"


def open_model(model: str, config: EngineConfig | None = None) -> Engine:
    """Load a model, or connect to its server.

    Args:
        model: See the grammar above.
        config: How it is loaded and run; None is the default.

    Raises:
        ModelNotFoundError: No such model, or one that cannot be used.
        UsageError: The script of a ``scripted:FILE`` is none.
        MissingExtraError: What it needs is not installed.
        EngineError: What it needs is installed and cannot be used.
    """
    if model.startswith(SCRIPTED):
        return _scripted(Path(model.removeprefix(SCRIPTED)))
    from thyme.engines import open_engine

    if model not in NANO_CHECKPOINTS:
        return open_engine(model, config)
    try:
        return open_engine(str(checkpoint_path(NANO_CHECKPOINTS[model])), config, name=model)
    except MissingExtraError as error:
        raise MissingExtraError("the embedded model nano", error.extra) from error


def checkpoint_folder(model: str | Path, *, weights: bool = True) -> Path:
    """Folder of the checkpoint that training starts from.

    Args:
        model: ``nano``, another checkpoint of it, a folder, or a hub id.
        weights: Whether the weights are needed too; else a hub id brings the small files only.

    Raises:
        ModelNotFoundError: No such checkpoint, or something that has no weights to train.
        MissingExtraError: A hub id was given and the hub client is not installed.
    """
    if str(model) in NANO_CHECKPOINTS:
        return checkpoint_path(NANO_CHECKPOINTS[str(model)])
    return find_checkpoint(model, weights=weights)


def _scripted(path: Path) -> Engine:
    """An engine that says what a file holds."""
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
