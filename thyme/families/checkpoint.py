"""Where a checkpoint lies, and the small JSON files in it. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thyme.errors import MissingExtraError, ModelNotFoundError

SMALL_FILES = ("*.json", "*.jinja", "*.txt", "prompts/*")
"""Patterns of everything in a checkpoint but its weights."""
WEIGHT_FILES = ("*.safetensors",)


def find_checkpoint(model: str | Path, *, weights: bool = True) -> Path:
    """Folder of a checkpoint, downloaded from the hub where it is not a folder here.

    Args:
        model: A folder, or a hub id such as ``Qwen/Qwen2.5-VL-7B-Instruct``.
        weights: Whether the weights are needed too.

    Raises:
        ModelNotFoundError: Neither a checkpoint folder nor to be had from the hub.
        MissingExtraError: A hub id was given and the hub client is not installed.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelNotFoundError(f"'{model}' is no checkpoint: it has no config.json; give the folder that has it")
        return folder
    if not _is_hub_id(str(model)):
        raise ModelNotFoundError(
            f"there is no model '{model}': no such folder, and a hub id has the form OWNER/NAME; "
            "give a checkpoint folder, a hub id, or 'nano'"
        )
    return _download(str(model), (*SMALL_FILES, *(WEIGHT_FILES if weights else ())))


def _is_hub_id(model: str) -> bool:
    """Whether the text can be a hub id: exactly OWNER/NAME, and not the beginning of a path."""
    owner, _, name = model.partition("/")
    return bool(owner and name) and "/" not in name and owner not in {".", "..", "~"}


def _download(hub_id: str, patterns: tuple[str, ...]) -> Path:
    """Snapshot of a hub checkpoint, from the local cache where it is complete."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(f"the hub model '{hub_id}'", "local") from error
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:
        # The client's errors (no such id, gated, offline, no connection) are OSError or ValueError, all of them.
        raise ModelNotFoundError(
            f"there is no folder '{hub_id}', and the hub did not give it ({type(error).__name__}); check the name, "
            "the network and, for a gated model, your token, or download it and give the folder"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is no such file.

    Raises:
        ModelNotFoundError: It is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"{path.name} of '{path.parent.name}' cannot be read ({error}); save or download the checkpoint again"
        ) from error
    return content if isinstance(content, dict) else {}


def image_processor_config(folder: Path) -> dict[str, Any]:
    """The image processor's settings, from either layout (``processor_config.json`` holds them nested)."""
    nested = read_json(folder / "processor_config.json").get("image_processor")
    return nested if isinstance(nested, dict) else read_json(folder / "preprocessor_config.json")


def chat_template(folder: Path) -> str | None:
    """The checkpoint's own chat template, where it lies in a file of its own; None: the tokenizer has it."""
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    for name in ("chat_template.json", "processor_config.json"):
        template = read_json(folder / name).get("chat_template")
        if isinstance(template, str):
            return template
    return None
