"""The stages of a run on disk: which are finished, where each starts, and which folder may be written.

A stage is finished when its record is there, which is written last. The record says of which run the stage is, the
stages before it included, so that nothing goes on from the end of another run.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from thyme.config.sft import NOT_OF_THE_RUN
from thyme.config.sft_recipe import SFTRecipe
from thyme.errors import ConfigError, StoreError, UsageError
from thyme.train.run.checkpoint import STAGE_FILE
from thyme.train.run.disk import write_atomically
from thyme.train.run.records import StageReport


class StageRecord(BaseModel):
    """What a finished stage leaves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """Hash of all that its weights depend on; see `prints`."""
    report: StageReport


@dataclass(frozen=True)
class Plan:
    """What a call has to do, and what is there already."""

    todo: tuple[str, ...]
    """Stages to train, in order."""
    finished: dict[str, StageReport]
    """Stages that are done, in order."""


def make_plan(recipe: SFTRecipe, out: Path, *, resume: bool, only: str | None) -> Plan:
    """Decide what to do in the folder of a run.

    Args:
        recipe: The recipe.
        out: Folder of the run.
        resume: Whether finished stages are skipped and an unfinished one is gone on with.
        only: The one stage to do.

    Raises:
        ConfigError: There is no such stage, or the folder holds another run.
        UsageError: The folder holds a run that is not to be resumed, or the stage before is not finished.
    """
    names = list(recipe.stages)
    found = {name: record for name in names if (record := read_record(out / name)) is not None}
    wanted = names if only is None else [check_stage(recipe, only)]
    if not resume:
        _refuse_used(out, wanted)
    finished = _of_this_run(recipe, found, names[: names.index(wanted[-1]) + 1], out)
    before = names[: names.index(wanted[0])]
    if before and before[-1] not in finished:
        raise UsageError(
            f"stage '{wanted[0]}' starts from the end of '{before[-1]}', which is not finished in '{out.name}'; "
            f"do that first (--stage {before[-1]}), or all of them in one command"
        )
    return Plan(tuple(name for name in wanted if name not in finished), finished)


def check_stage(recipe: SFTRecipe, name: str) -> str:
    """The name of a stage, if it is one.

    Raises:
        ConfigError: It is none.
    """
    if name not in recipe.stages:
        near = difflib.get_close_matches(name, list(recipe.stages), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"its stages: {', '.join(recipe.stages)}"
        raise ConfigError(f"the recipe has no stage '{name}'; {hint}")
    return name


def prints(recipe: SFTRecipe) -> dict[str, str]:
    """For each stage, a hash of all that its end depends on: the recipe's part of it, and the stage before."""
    before = json.dumps(recipe.model_dump(mode="json", include=_OF_ALL_STAGES), sort_keys=True)
    found = {}
    for name, stage in recipe.stages.items():
        own = stage.model_dump(mode="json", exclude={"train": NOT_OF_THE_RUN, "validation": True})
        text = json.dumps([before, name, own], sort_keys=True)
        found[name] = before = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return found


_OF_ALL_STAGES = {"model", "prompts", "max_tokens", "min_pixels", "max_pixels", "streaming", "shuffle_buffer"}


def read_record(folder: Path) -> StageRecord | None:
    """Record of a finished stage, or None.

    Raises:
        StoreError: It is damaged.
    """
    path = folder / STAGE_FILE
    if not path.is_file():
        return None
    try:
        return StageRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"'{folder.name}/{STAGE_FILE}' is damaged; remove the folder and train the stage anew"
        ) from error


def finish(folder: Path, record: StageRecord) -> None:
    """Say that a stage is finished."""
    write_atomically(folder / STAGE_FILE, record.model_dump_json(indent=2) + "\n")


def _refuse_used(out: Path, wanted: Sequence[str]) -> None:
    for name in wanted:
        folder = out / name
        if folder.is_dir() and any(folder.iterdir()):
            what = "a finished stage" if (folder / STAGE_FILE).is_file() else "the beginning of a stage"
            raise UsageError(
                f"'{out.name}' holds a run: '{name}' in it is {what}; go on with it (--resume), or name another "
                "folder (--out)"
            )


def _of_this_run(
    recipe: SFTRecipe, found: dict[str, StageRecord], names: Sequence[str], out: Path
) -> dict[str, StageReport]:
    """Reports of the finished stages up to the last that is wanted.

    Raises:
        ConfigError: One is of another run.
    """
    expected = prints(recipe)
    for name in names:
        if name in found and found[name].run != expected[name]:
            raise ConfigError(
                f"stage '{name}' in '{out.name}' was trained with another recipe ({_different(recipe, found, name)}); "
                "go on with that one, or name another folder (--out)"
            )
    return {name: found[name].report for name in names if name in found}


def _different(recipe: SFTRecipe, found: dict[str, StageRecord], name: str) -> str:
    """What differs, as far as the record tells."""
    old, new = found[name].report.settings, recipe.stages[name].train
    names = [key for key in type(new).model_fields if key not in NOT_OF_THE_RUN]
    different = [key for key in names if getattr(old, key) != getattr(new, key)]
    return ", ".join(f"train.{key}" for key in different) or "another model, data, mask or limit, or a stage before it"
