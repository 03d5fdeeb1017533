"""Which run a folder holds: what its weights depend on, so that nothing goes on from the middle of another run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from thyme.config.grpo import NOT_OF_THE_RUN
from thyme.config.grpo_recipe import NOT_OF_ENGINE, NOT_OF_JUDGE, NOT_OF_SANDBOX, GRPORecipe
from thyme.errors import ConfigError, StoreError, UsageError
from thyme.train.run.disk import write_atomically
from thyme.train.run.recipe import public_name

RUN_FILE = "grpo_run.json"
"""In the folder of a run: its recipe, as far as weights depend on it."""
REPORT_FILE = "grpo_report.json"
"""In the folder of a finished run: `thyme.train.grpo.records.GRPORunReport`."""
_LEFT_OUT: dict[str, Any] = {
    "out": True,
    "evaluation": True,
    "tracking": True,
    "train": NOT_OF_THE_RUN,
    "engine": NOT_OF_ENGINE,
    "sandbox": NOT_OF_SANDBOX,
    "rewards": {"judge": NOT_OF_JUDGE},
}
_PATHS = ("model", "prompts", "path", "function")


def identity(recipe: GRPORecipe) -> dict[str, Any]:
    """What decides about the weights, one entry a setting (``train.learning_rate``), paths reduced to names."""
    found = dict(_flat(recipe.model_dump(mode="json", exclude=_LEFT_OUT), ""))
    if recipe.rewards.judge is not None:
        found["rewards.judge.model"] = recipe.rewards.judge.name
    return found


def _flat(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", public_name(value) if key in _PATHS and isinstance(value, str) else value


def check_folder(recipe: GRPORecipe, out: Path, *, resume: bool) -> bool:
    """See whether a run may go on in a folder.

    Args:
        recipe: Of the run.
        out: Its folder.
        resume: Whether to go on with what is there.

    Returns:
        Whether it is finished already.

    Raises:
        UsageError: It holds a run that is not to be resumed.
        ConfigError: It holds another run.
        StoreError: Its file is damaged.
    """
    found = _read(out)
    if found is None:
        return False
    finished = (out / REPORT_FILE).is_file()
    if not resume:
        what = "a finished run" if finished else "the beginning of a run"
        raise UsageError(f"'{out.name}' holds {what}: go on with it (--resume), or name another folder (--out)")
    if different := _different(found, identity(recipe)):
        raise ConfigError(
            f"'{out.name}' holds a run with another recipe ({different}); go on with that one, or name another folder "
            "(--out)"
        )
    return finished


def write_identity(recipe: GRPORecipe, out: Path) -> None:
    """Say which run the folder holds from now on."""
    write_atomically(out / RUN_FILE, json.dumps(identity(recipe), indent=2, sort_keys=True) + "\n")


def _read(out: Path) -> dict[str, Any] | None:
    file = out / RUN_FILE
    if not file.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"'{out.name}/{RUN_FILE}' is damaged; remove the folder and train anew") from error
    return found


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The settings that differ, with both values."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key}: {json.dumps(old.get(key))} there, {json.dumps(new.get(key))} here" for key in keys[:5])
