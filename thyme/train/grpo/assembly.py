"""A roller as a recipe describes it."""

from __future__ import annotations

from pathlib import Path

import torch

from thyme.config.engine import EngineConfig
from thyme.config.grpo_recipe import GRPORecipe
from thyme.errors import ConfigError
from thyme.families import Family
from thyme.families.qwen_vl import QwenVLFamily
from thyme.prompts import PromptSet
from thyme.train.arguments import autocast
from thyme.train.distributed import split_weights
from thyme.train.grpo.policies import Policy, TransformersPolicy, VllmPolicy
from thyme.train.grpo.roller import GroupRoller

_WAITING = 2
"""Rollouts under way for each that is written at once: the others run code, or wait for a place."""


def make_roller(
    recipe: GRPORecipe, folder: Path, family: Family, prompts: PromptSet, *, name: str, cache: Path | None = None
) -> GroupRoller:
    """Put sampler, sandbox and rewards together; nothing is started before the first roll.

    Args:
        recipe: Says how.
        folder: Checkpoint that training starts from.
        family: Of that checkpoint, with the recipe's pixel limits.
        prompts: The words to ask with.
        name: What trajectories call the model.
        cache: Folder of judges' verdicts, where the settings name none.

    Raises:
        ConfigError: The engine cannot run this model, or not as the launcher spreads it.
    """
    return GroupRoller(
        make_policy(recipe.engine, recipe, folder, family, name=name),
        prompts,
        config=recipe.rollout,
        sandbox=recipe.sandbox,
        rewards=recipe.rewards,
        cache=cache,
        seed=recipe.train.seed,
        retries=recipe.train.retries,
        concurrency=min(_WAITING * recipe.engine.max_batch, recipe.sandbox.max_sessions),
    )


def make_policy(engine: EngineConfig, recipe: GRPORecipe, folder: Path, family: Family, *, name: str) -> Policy:
    """What generates; see `make_roller`."""
    if not isinstance(family, QwenVLFamily):
        raise ConfigError(
            f"models of type '{family.name}' are fine-tuned here but not rolled out: the engines run Qwen2.5-VL and "
            "Qwen3-VL"
        )
    config = engine.model_copy(
        update={"device": recipe.train.device, "min_pixels": recipe.min_pixels, "max_pixels": recipe.max_pixels}
    )
    if config.backend == "vllm":
        return VllmPolicy(folder, config, name=name)
    if spread := split_weights():
        raise ConfigError(
            f"engine.backend = 'transformers' needs whole weights in each process, and {spread} spreads them: set "
            "engine.backend = 'vllm', or launch with ddp or zero2"
        )
    computed = torch.bfloat16 if autocast(recipe.train) else None
    return TransformersPolicy(family, config, name=name, autocast=computed)
