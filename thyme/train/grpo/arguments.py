"""Settings of GRPO in the words of TRL, and the sizes of a step."""

from __future__ import annotations

from pathlib import Path

from thyme.config.grpo import GRPOSettings
from thyme.errors import ConfigError, MissingExtraError
from thyme.train.arguments import on_one_device, shared_arguments
from thyme.train.distributed import rank, world_size
from thyme.train.grpo.draws import share

try:
    from trl.trainer.grpo_config import GRPOConfig
except ImportError as error:
    raise MissingExtraError("training by GRPO", "train") from error


def forwards(settings: GRPOSettings) -> int:
    """Forward passes of each process in one optimiser step.

    Raises:
        ConfigError: The rollouts of a step cannot be shared out evenly, whole groups to each process.
    """
    rollouts = len(share(settings.problems, rank(), world_size())) * settings.group
    if rollouts % settings.batch_size:
        raise ConfigError(
            f"{rollouts} rollouts of each process make no whole number of forward passes of {settings.batch_size}: "
            f"let train.batch_size divide {rollouts}"
        )
    return rollouts // settings.batch_size


def arguments(settings: GRPOSettings, out: Path, *, steps: int) -> GRPOConfig:
    """The settings in TRL's words; on-policy: one optimiser step a batch of fresh rollouts.

    Args:
        settings: Ours.
        out: Folder of the run.
        steps: Optimiser steps.
    """
    accumulation = forwards(settings)
    made = on_one_device(
        GRPOConfig(
            num_generations=settings.group,
            steps_per_generation=accumulation,
            num_iterations=1,
            loss_type="dapo",  # the sum over the tokens of the step, by their number
            scale_rewards=settings.scale,
            use_bias_correction_kl=False,  # True, which is the default, changes the gradient
            beta=0.0,  # else TRL would load a reference by the model's name; the trainer sets its own
            disable_dropout=True,  # the sampler drops nothing out
            ignore_data_skip=True,  # what a step asks follows from its number
            **shared_arguments(settings, out, steps=steps, accumulation=accumulation),
        )
    )
    assert made.num_iterations == 1
    assert made.steps_per_generation == made.gradient_accumulation_steps
    return made
