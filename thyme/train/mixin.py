"""What our subclasses of TRL's trainers share: our optimiser, checkpoints without paths, checks before a step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thyme.config.training import TrainingSettings
from thyme.errors import TrainingError
from thyme.train.distributed import barrier, sharding, world_size
from thyme.train.optim import build_optimizer
from thyme.train.run.checkpoint import (
    close_checkpoint,
    model_print,
    open_checkpoint,
    remove_old_checkpoints,
    save_weights,
)
from thyme.train.sharded import whole_model


class TrainerMixin:
    """Stands before a trainer of TRL's among the bases of a class, and overrides what both of ours override."""

    settings: Any
    """`TrainingSettings`, those of the trainer."""
    run_description: str
    """See `describe_run`."""
    model: Any
    args: Any
    state: Any
    control: Any
    optimizer: Any
    accelerator: Any

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Our optimiser instead of one of the library's."""
        if self.optimizer is None:
            self.optimizer = build_optimizer(self.model if model is None else model, self.settings)
        made: torch.optim.Optimizer = self.optimizer
        return made

    def _named(self, places: Sequence[Any]) -> str:
        """What a batch is made of, in words."""
        raise NotImplementedError

    def _check(self, what: str, value: Any, places: Sequence[Any]) -> None:
        """Stop before a step that would ruin the weights."""
        number = float(value.detach() if isinstance(value, torch.Tensor) else value)
        if not math.isfinite(number):
            raise TrainingError(
                f"the {what} of step {self.state.global_step + 1} is {number}, in a batch of {self._named(places)}; "
                "look at those, lower the learning rate, or train from the last checkpoint with other settings"
            )

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is left of an epoch in which a resumed run was done already; the library would take one step more."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)  # type: ignore[misc]  # of the trainer behind this class
        else:
            self.control.should_training_stop = True  # without a loader's length there would be no last epoch

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Weights only: the arguments that the base class would pickle beside them hold paths of this machine."""
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            save_weights(self.model, folder, state_dict=state_dict, for_resuming=True)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A head that is the embedding is saved once, and is not missing."""
        if load_result.unexpected_keys or not set(load_result.missing_keys) <= set(
            getattr(self.model, "all_tied_weights_keys", None) or ()
        ):
            super()._issue_warnings_after_load(load_result)  # type: ignore[misc]  # of the trainer behind this class

    def _save_beside(self, folder: Path) -> None:
        """What else belongs into a checkpoint; every process is asked."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint that counts only once all of it is there, and only then remove older ones."""
        parent = Path(str(self.args.output_dir))
        folder = parent / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            open_checkpoint(folder)
        super()._save_checkpoint(model, trial)  # type: ignore[misc]  # of the trainer behind this class
        self._save_beside(folder)
        barrier()
        if self.args.should_save:
            close_checkpoint(folder, self.run_description)
            remove_old_checkpoints(parent, keep=self.settings.keep_checkpoints)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Left to whoever publishes the model."""

    def _send_telemetry(self) -> None:
        """Nothing is sent anywhere."""

    def final_model(self) -> Any:
        """The trained model as it was before the trainer wrapped its forward; all processes must ask for it.

        Where it is spread over them only the main one gets it, on the CPU; the others get None.
        """
        if sharding():
            return whole_model(self, self.settings)
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.__dict__.pop("forward", None)
        return model


def describe_run(settings: TrainingSettings, model: Any, *, data: str, left_out: set[str], **more: str) -> str:
    """What makes a run the one it is, as JSON; a checkpoint may only be resumed by a run of the same description.

    Args:
        settings: How it trains.
        model: What it starts from.
        data: Fingerprint of what it trains on.
        left_out: Settings that may change between parts of a run.
        more: Further fingerprints.
    """
    made = {
        "data": data,
        "model": model_print(model),
        "processes": world_size(),
        "settings": settings.model_dump(mode="json", exclude=left_out),
    }
    return json.dumps(made | more, indent=2, sort_keys=True) + "\n"


@contextmanager
def kept_use_cache(model: Any) -> Iterator[None]:
    """TRL's trainers write ``use_cache = False`` into a model's configuration, for good; this puts back what it was."""
    config = vars(model.config)
    before = config.get("use_cache")
    try:
        yield
    finally:
        if before is None:
            config.pop("use_cache", None)
        else:
            config["use_cache"] = before
