"""Saving models so that they load anywhere: the base's other files beside the weights, no path of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from thyme.errors import ConfigError
from thyme.families.checkpoint import SMALL_FILES

RUN_FILE = "thyme_run.json"
"""In a resumable checkpoint: which run it belongs to."""
REPORT_FILE = "sft_report.json"
_OWN = {"config.json", "trainer_state.json", "adapter_config.json", RUN_FILE, REPORT_FILE}
"""Files that belong to a model or a run, not to tokenizer, processor or prompts."""


def load_model(folder: Path, *, dtype: torch.dtype, attention: str) -> Any:
    """Load a checkpoint's model for training.

    Args:
        folder: The checkpoint.
        dtype: Of its weights.
        attention: Attention implementation, as transformers names it.
    """
    from transformers import AutoModelForImageTextToText

    with _no_bars():
        return AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, local_files_only=True
        )


@contextmanager
def _no_bars() -> Iterator[None]:
    """The library's own progress bars off: they would break ours."""
    from transformers.utils import logging as quiet

    logging: Any = quiet  # untyped there
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def rename(model: Any, name: str) -> None:
    """Call a model by a name that may be stored: adapters and configurations keep the path it was loaded from.

    Args:
        model: A transformers model.
        name: Hub id, or the bare name of a folder.
    """
    model.config._name_or_path = model.name_or_path = name


def copy_companions(base: Path, out: Path) -> None:
    """Copy tokenizer, processor, chat template and prompts of a checkpoint, whatever files they consist of.

    Args:
        base: The checkpoint that was trained.
        out: The new one; made if missing.
    """
    for pattern in SMALL_FILES:
        for source in base.glob(pattern):
            if source.is_file() and source.name not in _OWN and not source.name.endswith(".index.json"):
                target = out / source.relative_to(base)
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.resolve() != source.resolve():
                    shutil.copyfile(source, target)


def save_weights(
    model: Any, out: Path, *, state_dict: dict[str, Any] | None = None, for_resuming: bool = False
) -> None:
    """Save the weights and configuration of a model, or the adapters of a peft model.

    Args:
        model: A transformers or peft model.
        out: Folder.
        state_dict: Its weights, where a distributed run has gathered them.
        for_resuming: Name the weights as the modules in memory, which the trainer looks for when it resumes, not as
            published checkpoints do: it would find none of those, warn, and go on with the base's weights.
    """
    if hasattr(model, "peft_config"):
        # Adapters leave the vocabulary alone; peft would ask the hub for the base's configuration to find that out.
        options = {"save_embedding_layers": False}
    else:
        options = {"save_original_format": not for_resuming}
    with _no_bars():
        model.save_pretrained(out, state_dict=state_dict, **options)


def save_final(model: Any, base: Path, out: Path, *, dtype: torch.dtype | None) -> None:
    """Save a trained model for use: weights, configuration, companions. Adapters are merged, and kept in ``adapter``.

    Args:
        model: A transformers model, or a peft model around one. Merged and converted in place.
        base: The checkpoint it comes from.
        out: Folder.
        dtype: Of the saved weights; None leaves theirs.
    """
    if hasattr(model, "merge_and_unload"):
        save_weights(model, out / "adapter")
        model = model.merge_and_unload()
    if dtype is not None:
        model = model.to(dtype)
    save_weights(model, out)
    copy_companions(base, out)


def last_checkpoint(folder: Path) -> Path | None:
    """The resumable checkpoint with the most steps, or None."""
    found = [path for path in folder.glob("checkpoint-*") if (path / RUN_FILE).is_file()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def check_same_run(checkpoint: Path, run: str) -> None:
    """Refuse to go on with a checkpoint of another run.

    Args:
        checkpoint: A resumable checkpoint.
        run: What describes the run, as it was stored.

    Raises:
        ConfigError: Settings or samples differ.
    """
    if (checkpoint / RUN_FILE).read_text(encoding="utf-8") != run:
        raise ConfigError(
            f"'{checkpoint.parent.parent.name}/{checkpoint.parent.name}/{checkpoint.name}' belongs to a run with other "
            "settings or samples; give those, or another output folder, or do not resume"
        )
