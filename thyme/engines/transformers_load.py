"""Loading a checkpoint's weights, and telling one checkpoint from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from thyme.config.engine import EngineConfig
from thyme.errors import MissingExtraError, ModelNotFoundError, UsageError

_WHOLE_FILE = 64 * 2**20
"""Bytes up to which a weight file is hashed whole."""
_SAMPLES, _SAMPLE = 256, 4096
"""Number and bytes of the samples taken of a larger one."""


def load_model(folder: Path, config: EngineConfig) -> Any:
    """Load weights in eval mode.

    Args:
        folder: The checkpoint.
        config: Device, type and threads.

    Raises:
        ModelNotFoundError: The weights are missing or cannot be read.
        MissingExtraError: transformers is not installed.
        UsageError: The device asked for is not there.
    """
    try:
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText
    except ImportError as error:
        raise MissingExtraError("a local model", "local") from error
    device = _device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        with _quiet():
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                folder,
                dtype=_dtype(config.dtype, device),
                attn_implementation="sdpa",
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelNotFoundError(f"the weights of '{folder.name}' cannot be loaded: {error}") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would go on with random numbers in their place
        raise ModelNotFoundError(
            f"the weights of '{folder.name}' lack {len(missing)} tensors, {missing[0]} among them; "
            "save or download the checkpoint again"
        )
    if "sliding_attention" in (getattr(model.config.text_config, "layer_types", None) or ()):
        raise ModelNotFoundError(f"'{folder.name}' uses sliding-window attention, which this engine does not support")
    return model.to(device).eval()


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("device 'cuda' was asked for, and torch sees no GPU here; use 'cpu' or 'auto'")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bar of transformers, which would land in the middle of a transcript."""
    from transformers import utils

    logging: Any = utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def model_fingerprint(folder: Path) -> str:
    """Hash of a checkpoint's configuration and weights: small files whole, of large ones size, header and samples."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            if size <= _WHOLE_FILE:
                digest.update(file.read())
                continue
            for index in range(_SAMPLES):
                file.seek(index * (size - _SAMPLE) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
