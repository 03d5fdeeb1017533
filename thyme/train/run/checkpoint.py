"""Saving models so that they load anywhere: the base's other files beside the weights, no path of this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from thyme.errors import ConfigError
from thyme.families.checkpoint import SMALL_FILES
from thyme.train.distributed import rank
from thyme.train.run.disk import write_atomically

_NAME = "checkpoint-"
"""Of a resumable checkpoint's folder, before the number of its step."""
_PRINTED = 32
"""Values of each parameter that a model is known by."""
RUN_FILE = "thyme_run.json"
"""In a resumable checkpoint: which run it belongs to."""
REPORT_FILE = "sft_report.json"
STAGE_FILE = "thyme_stage.json"
"""In a finished stage's folder: its record."""
_OWN = {"config.json", "trainer_state.json", "adapter_config.json", RUN_FILE, REPORT_FILE, STAGE_FILE}
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
        for part in (model.config, *(getattr(model.config, name) for name in model.config.sub_configs)):
            part.dtype = dtype  # of its parts the library would write the type that was loaded
    save_weights(model, out)
    copy_companions(base, out)


def model_print(model: Any) -> str:
    """Hash of a model's parameters: their names and shapes, and the first values of each.

    Args:
        model: Any module; parameters without values (on ``meta``) count by name and shape.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in model.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        if not parameter.is_meta:
            few = parameter.detach().reshape(-1)[:_PRINTED].float().cpu()
            digest.update(few.numpy().tobytes())
    return digest.hexdigest()


def open_checkpoint(folder: Path) -> None:
    """Say that a checkpoint is being written: from now on it is none, until `close_checkpoint`."""
    (folder / RUN_FILE).unlink(missing_ok=True)


def close_checkpoint(folder: Path, run: str) -> None:
    """Say that a checkpoint is whole.

    Args:
        folder: Of the checkpoint.
        run: What describes the run.
    """
    write_atomically(folder / RUN_FILE, run)


def remove_old_checkpoints(folder: Path, *, keep: int) -> None:
    """Remove all whole checkpoints but the last ones, and whatever is not whole.

    Args:
        folder: Of the checkpoints.
        keep: How many stay.
    """
    kept = set(_whole(folder)[-keep:])
    for path in folder.glob(f"{_NAME}*"):
        if path not in kept:
            open_checkpoint(path)  # never half a checkpoint that looks whole
            shutil.rmtree(path)


def last_checkpoint(folder: Path) -> Path | None:
    """The resumable checkpoint with the most steps, or None. One that was not written to its end is none."""
    return next(reversed(_whole(folder)), None)


def _whole(folder: Path) -> list[Path]:
    """Checkpoints that are whole, by steps."""
    found = [path for path in folder.glob(f"{_NAME}*") if (path / RUN_FILE).is_file()]
    return sorted(found, key=steps_done)


def steps_done(checkpoint: Path | None) -> int:
    """Optimiser steps before a resumable checkpoint; 0 where there is none."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix(_NAME))


def save_stream_state(folder: Path, state: dict[str, Any]) -> None:
    """Keep where this process stands in its stream.

    Args:
        folder: Of the checkpoint; made if missing.
        state: `StreamLoader.state`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"stream_{rank()}.json").write_text(json.dumps(state), encoding="utf-8")


def load_stream_state(folder: Path) -> dict[str, Any] | None:
    """Where this process stood in its stream; None where there was none."""
    file = folder / f"stream_{rank()}.json"
    if not file.is_file():
        return None
    state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return state


def check_same_run(checkpoint: Path, run: str) -> None:
    """Refuse to go on with a checkpoint of another run.

    Args:
        checkpoint: A resumable checkpoint.
        run: What describes the run, as it was stored.

    Raises:
        ConfigError: Data, model, settings or number of processes differ.
    """
    stored = (checkpoint / RUN_FILE).read_text(encoding="utf-8")
    if stored != run:
        name = f"{checkpoint.parent.parent.name}/{checkpoint.parent.name}/{checkpoint.name}"
        raise ConfigError(
            f"'{name}' belongs to a run with {_differences(stored, run)}; give those, or another output folder, or do "
            "not resume"
        )


def _differences(stored: str, run: str) -> str:
    """What differs between two descriptions, in words."""
    try:
        old, new = json.loads(stored), json.loads(run)
        settings = [key for key in new["settings"] if old["settings"].get(key, None) != new["settings"][key]]
    except (ValueError, KeyError, AttributeError):
        return "other settings or samples"
    named = {
        "data": "other samples",
        "model": "another model to start from",
        "processes": "another number of processes",
        "rollouts": "other rollouts or rewards",
    }
    found = [words for key, words in named.items() if old.get(key) != new.get(key)]
    if settings:
        found.append(f"other settings ({', '.join(settings)})")
    return " and ".join(found) or "other settings"
