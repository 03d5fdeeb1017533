"""Models that FSDP2 or DeepSpeed spread over processes: what is asked of a run, and the whole model in the end."""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from torch import nn

from thyme.config.training import TrainingSettings
from thyme.errors import ConfigError
from thyme.train.arguments import lora_config
from thyme.train.distributed import is_main, sharding, split_weights


def prepare_to_spread(settings: TrainingSettings) -> None:
    """Before a model is loaded: see whether a run can be spread as the launcher asks, if it does.

    Raises:
        ConfigError: It cannot.
    """
    if not sharding():
        return
    if settings.optimizer == "muon":
        raise ConfigError("muon needs whole matrices, and FSDP and DeepSpeed cut them: use adamw, or launch with ddp")
    if split_weights() == "fsdp" and os.environ.get("FSDP_VERSION") != "2":
        raise ConfigError("only version 2 of FSDP works here: set fsdp_version: 2, as the launch recipe fsdp2 does")
    if settings.cache == "features":
        # Each process needs the tower's real weights, not only the first one.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    _load_whole()


def _load_whole() -> None:
    """Let transformers make models whole: after the first run with ZeRO-3 it would spread each new one at once."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]  # as transformers has it


def keep_precision(accelerator: Any) -> None:
    """Under FSDP2 with bf16: compute in it, but add gradients up and hand log-probabilities out in 32 bits.

    accelerate's own choice rounds the loss of each token, and the sums of gradients, to 8 bits.

    Args:
        accelerator: The trainer's, before it prepares the model.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy

    if accelerator.is_fsdp2 and accelerator.mixed_precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        accelerator.state.fsdp_plugin.mixed_precision_policy = policy


def is_spread(accelerator: Any) -> bool:
    """Whether processes hold parts of the weights, so that all of them must go through each module together."""
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    return bool(accelerator.is_fsdp2 or (plugin is not None and plugin.zero_stage == 3))


def gather_head(model: nn.Module) -> None:
    """Put the output head together before a forward that reads its weights without calling it: TRL's tiled loss.

    TRL would gather the weights itself, and each process would keep the gradient of its own batch.

    Args:
        model: Whatever stands around the model in training; only that of FSDP2 needs this.
    """
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        wrapped: Any = model
        head = wrapped.get_output_embeddings()
        if isinstance(head, FSDPModule):
            head.unshard()


def whole_model(trainer: Any, settings: TrainingSettings) -> Any:
    """The trained model put together from its parts, on the CPU of the main process; None in the others.

    Args:
        trainer: transformers' trainer after training. All processes must call this.
        settings: Those of the run.
    """
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    _load_whole()  # in all of them: what is evaluated next is loaded by each
    if not is_main():
        return None
    from torch.distributed.fsdp import FSDPModule

    trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    inner = trained.get_base_model() if hasattr(trained, "get_base_model") else trained
    # FSDP2 gives a model a class of its own.
    kind: Any = next(kind for kind in type(inner).__mro__ if not issubclass(kind, FSDPModule))
    with torch.device("meta"):
        model: Any = kind(copy.deepcopy(inner.config))
        if settings.lora is not None:
            from peft import get_peft_model

            model = get_peft_model(model, lora_config(model, settings))
    model.load_state_dict(state, assign=True)
    fresh = model.get_base_model() if settings.lora is not None else model
    fresh.tie_weights()
    fresh.generation_config = inner.generation_config
    return model
