"""A recipe of supervised fine-tuning: model, stages with their data, evaluation, trackers. See `docs/sft.md`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from thyme.config.base import Config
from thyme.config.sft import SFTSettings
from thyme.config.training import DataSource, EvaluationSettings, MaskName, TrackingSettings

RESERVED = ("data", "evaluation", "tracking")
"""Folders of a run that hold something else than a stage."""


class StageRecipe(Config):
    """One stage: data and how to train on it. It starts from the end of the one before."""

    data: dict[str, DataSource] = Field(min_length=1)
    """Sources by name; an epoch goes over all of them, mixed."""
    mask: MaskName = "released"
    """Which rounds are trained on, where there are two or more observations (maths: ``all``)."""
    validation: dict[str, DataSource] = Field(default_factory=dict)
    """Sources whose loss is measured and never trained on."""
    train: SFTSettings = SFTSettings()
    """How; what a recipe says under its own ``[train]`` holds for each stage that does not say otherwise."""


class SFTRecipe(Config):
    """What ``thyme sft`` reads: the root of a recipe."""

    recipe_folder: ClassVar[str] = "sft"

    model: str
    """Where training starts: ``nano:base``, a checkpoint folder or a hub id."""
    out: str | None = None
    """Folder of the run; None is ``runs/`` and the name of the recipe."""
    prompts: str = ""
    """Folder of the prompt files that the trained model is asked with, saved with each stage; ``nano`` are those of the
    embedded model. Empty: those that the checkpoint brings, or else the package's own."""
    max_tokens: int = Field(default=10240, ge=1)
    """Longest sample; longer ones are dropped and counted, never cut (released: 10240)."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Pixels to which smaller images are enlarged; None is the checkpoint's own."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Pixels to which larger images are reduced (released: 3211264); None is the checkpoint's own."""
    streaming: bool = False
    """Read sources once, in order, instead of indexing them: for data that does not fit on the disk."""
    shuffle_buffer: int = Field(default=1000, ge=1)
    """Samples that a streaming run mixes among themselves."""
    stages: dict[str, StageRecipe] = Field(min_length=1)
    """Stages by name, in order."""
    evaluation: EvaluationSettings | None = None
    tracking: TrackingSettings = TrackingSettings()

    @classmethod
    def places(cls, path: Sequence[str], values: Mapping[str, Any]) -> list[Sequence[str]]:
        """An override of ``train`` holds for all stages, those that say it themselves included."""
        stages = values.get("stages")
        if path[0] != "train" or not isinstance(stages, Mapping):
            return [path]
        said = [name for name, stage in stages.items() if isinstance(stage, Mapping) and "train" in stage]
        return [path, *(["stages", name, *path] for name in said)]

    @field_validator("stages")
    @classmethod
    def _stages_name_folders(cls, stages: dict[str, StageRecipe]) -> dict[str, StageRecipe]:
        for name in stages:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name in RESERVED:
                raise ValueError(
                    f"a stage's name is that of its folder: letters, digits, - and _, none of {', '.join(RESERVED)}; "
                    f"'{name}' cannot be one"
                )
        return stages

    @model_validator(mode="before")
    @classmethod
    def _shared_settings(cls, values: Any) -> Any:
        """Put the recipe's own ``[train]`` under that of each stage."""
        if not isinstance(values, Mapping) or "train" not in values:
            return values
        rest = {name: value for name, value in values.items() if name != "train"}
        shared, stages = values["train"], rest.get("stages")
        if not isinstance(shared, Mapping) or not isinstance(stages, Mapping):
            return rest
        merged = {
            name: {**stage, "train": {**shared, **stage.get("train", {})}} if isinstance(stage, Mapping) else stage
            for name, stage in stages.items()
        }
        return {**rest, "stages": merged}
