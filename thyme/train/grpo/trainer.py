"""TRL's GRPOTrainer over our rollouts: its loop, its loss and its checkpoints; our batches and log-probabilities.

What is overridden, and why, is told in docs/grpo_step.md.
"""

from __future__ import annotations

import copy
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thyme.config.grpo import NOT_OF_THE_RUN, GRPOSettings
from thyme.errors import ConfigError, MissingExtraError
from thyme.families import Family
from thyme.train.arguments import lora_config
from thyme.train.batches.dummy_vision import unseen_image
from thyme.train.batches.vision import PIXELS, model_inputs
from thyme.train.distributed import broadcast, gather, is_main, rank, sharding, world_size
from thyme.train.grpo.arguments import arguments, forwards
from thyme.train.grpo.batch import Row, collate_rows, filler, micro_batches
from thyme.train.grpo.draws import Draws, share
from thyme.train.grpo.groups import Group, Problems, Roller
from thyme.train.grpo.logprobs import TokenScores, add_token_scores
from thyme.train.grpo.records import Trained
from thyme.train.grpo.resample import roll_step
from thyme.train.grpo.step import Share, share_of, why_left_out
from thyme.train.grpo.tally import Tally, together
from thyme.train.grpo.trl_trainer import GRPOTrainer
from thyme.train.mixin import TrainerMixin, describe_run, kept_use_cache
from thyme.train.run.around import image_source
from thyme.train.run.watch import Clock, EndOnRequest, PointAtCheckpoint
from thyme.train.sharded import gather_head, is_spread, keep_precision

try:
    from datasets import Dataset
    from transformers import PrinterCallback, Trainer, TrainerCallback
    from trl.models.utils import prepare_deepspeed, prepare_fsdp
except ImportError as error:
    raise MissingExtraError("training by GRPO", "train") from error

Tell = Callable[[int, Trained, list[Group], dict[str, float]], None]
"""Told of each step: its number from 1, what it was over all processes, this process's groups, and its seconds by part:
``rollout``, ``reference``, ``train``, and ``total``, which is more than these."""
TRAINED_FILE = "trained.json"
"""In a resumable checkpoint: what the steps before it were."""


@dataclass(frozen=True)
class World:
    """What a run trains on."""

    problems: Problems
    roller: Roller
    family: Family


class GRPO(TrainerMixin, GRPOTrainer):
    """TRL's trainer around a `World`."""

    model: Any  # the library says "model or nothing", and nothing more of the model

    def __init__(self, model: Any, world: World, settings: GRPOSettings, out: Path, tell: Tell | None = None) -> None:
        _check_cache(settings)
        self.world, self.settings = world, settings
        self.run_description = broadcast(_description(world, settings, model))
        self.draws = Draws(len(world.problems), settings.problems, settings.seed)
        self.trained: list[tuple[int, Trained]] = []
        """Every step so far, those before a resumed checkpoint included."""
        self.groups: list[Group] = []
        """This process's, of the step at hand."""
        self.starved: list[Counter[str]] = []
        """Why nothing could be compared, of the last steps in a row in which nothing could."""
        reference = _reference(model) if settings.beta and settings.lora is None else None
        with kept_use_cache(model):
            super().__init__(
                model=model,
                reward_funcs=_no_rewards,
                args=arguments(settings, out, steps=settings.max_steps or self.draws.steps(settings.epochs)),
                train_dataset=Dataset.from_dict({"index": [0]}),  # looked into here and there; ours come from a roller
                processing_class=world.family.tokenizer,
                peft_config=lora_config(model, settings) if settings.lora else None,
            )
        self.remove_callback(PrinterCallback)
        self.clock, self.ending = Clock(), EndOnRequest()
        for callback in (self.clock, _AfterStep(self, tell), self.ending, PointAtCheckpoint()):
            self.add_callback(callback)
        add_token_scores(self._inner())
        keep_precision(self.accelerator)
        # TRL was told 0, for it would load a reference by the model's name.
        self.beta, self.ref_model = settings.beta, None if reference is None else self._prepared(reference)
        self._scores: TokenScores | None = None
        self._keep_images(())
        self._start_step()

    def _inner(self) -> Any:
        """The model without adapters and whatever is wrapped around it."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _prepared(self, reference: nn.Module) -> Any:
        if self.is_deepspeed_enabled:
            return prepare_deepspeed(reference, self.accelerator)
        if self.is_fsdp_enabled:
            return prepare_fsdp(reference, self.accelerator)
        return self.accelerator.prepare_model(reference, evaluation_mode=True)

    def _start_step(self) -> None:
        self.tally, self._share, self._tokens, self._members = Tally(), Share((), 0, 0, 0), 0, 0
        self._norm: float | None = None
        self._rate = 0.0
        self._seconds = dict.fromkeys(("rollout", "reference", "train"), 0.0)
        self._began = time.perf_counter()

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] += time.perf_counter() - started

    def get_train_dataloader(self) -> Any:
        """Nothing: `get_batch_samples` rolls out what a step is trained on."""
        return _Nothing()

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """Roll out, and cut what is in the loss into the micro-batches of one step; empty ones where nothing is."""
        self.clock.start()
        self._start_step()
        with self._timed("rollout"):
            self.groups = self._rolled()
        own = share_of(self.groups, self.world.family, self.settings)
        told = gather((own.tokens, own.members, len(own.rows), own.compared, why_left_out(self.groups, self.settings)))
        self._share, self._tokens, self._members = own, sum(t[0] for t in told), sum(t[1] for t in told)
        if any(t[3] for t in told):
            self.starved.clear()
        else:
            self.starved.append(sum((t[4] for t in told), Counter()))
        if not self._tokens:
            return [[] for _ in range(num_batches)], None
        self._keep_images(own.rows)
        # As many rows in every process: TRL compares theirs.
        rows = max(num_batches, *(t[2] for t in told))
        return micro_batches([*own.rows, *repeat(self._filler(), rows - len(own.rows))], num_batches), None

    def _rolled(self) -> list[Group]:
        """This process's groups; those that teach nothing replaced by others, where that is wanted."""
        world, settings = self.world, self.settings
        places = share(settings.problems, rank(), world_size())
        step = self.state.global_step
        return roll_step(world.roller, self.model, world.problems, self.draws, settings, step=step, places=places)

    def _filler(self) -> Row:
        return Row(filler(self.world.family), 0.0, "")

    def _keep_images(self, rows: Sequence[Row]) -> None:
        """For one step only: most of them are never seen again. Those of a group are processed once."""
        self._images = images = image_source(self._inner(), self.world.family, self.settings)
        self._look = images.key == PIXELS and (is_spread(self.accelerator) or not self.settings.freeze_vision)
        self.model.eval()
        with self.accelerator.autocast():
            images.add(image for row in rows for image in row.rollout.images)
        if self._look:
            images.add([unseen_image()])

    def _prepare_inputs(self, inputs: Any) -> Any:
        """A micro-batch's tensors, made when its turn comes; TRL would generate here."""
        batch = collate_rows(
            inputs,
            self._images,
            self.world.family,
            tokens=self._tokens,
            pad_to_multiple=self.settings.pad_to_multiple,
            always_an_image=self._look,
        )
        return Trainer._prepare_inputs(self, batch)

    @torch.no_grad()
    def _reference_logprobs(self, batch: dict[str, Any]) -> torch.Tensor:
        """Under the start of the run, at the same taus; with adapters, the model without them."""
        if self.ref_model is not None:
            return self._score(self.ref_model, batch).logprobs
        self.model.eval()  # nothing is recomputed here
        try:
            with self.accelerator.unwrap_model(self.model).disable_adapter():
                return self._score(self.model, batch).logprobs
        finally:
            self.model.train()

    def _score(self, model: nn.Module, batch: dict[str, Any]) -> TokenScores:
        family = self.world.family
        forward = model_inputs(batch["forward"], self._inner().config.get_text_config().hidden_size, family.name)
        gather_head(model)
        with self.accelerator.autocast():
            scores: TokenScores = model(**forward, wanted=batch["wanted"], taus=batch["taus"])
        return scores

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward; without anything in the loss neither, so that no weight moves."""
        if not inputs:
            return torch.zeros((), device=self.args.device)
        before = self._seconds["reference"]
        with self._timed("train"):
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[no-untyped-call]  # as TRL has it
        self._seconds["train"] -= self._seconds["reference"] - before
        return loss

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """TRL's loss on our log-probabilities.

        Raises:
            TrainingError: It is not a number.
        """
        if self.beta:
            with self._timed("reference"):
                inputs["ref_per_token_logps"] = self._reference_logprobs(inputs)
        self._scores = self._score(model, inputs)
        weighed = inputs | {"advantages": self._advantages(inputs, self._scores)}
        loss: torch.Tensor = super().compute_loss(model, weighed)
        self._check("loss", loss, inputs["names"])
        self.tally.add(inputs, self._scores, loss)
        self._scores = None
        return loss

    def _advantages(self, inputs: dict[str, Any], scores: TokenScores) -> torch.Tensor:
        """(B, 1), or (B, L - 1) where tokens are weighed by trainer's over sampler's probability."""
        advantages: torch.Tensor = inputs["advantages"][:, None]
        if self.settings.sampler_correction == "none":
            return advantages
        return advantages * importance(
            scores.logprobs.detach(), inputs["sampled"], inputs["greedy"], self.settings.sampler_cap
        )

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        """Those of `compute_loss`; TRL would divide all logits by one temperature, and pad prompts on the left."""
        scores = self._scores
        assert scores is not None  # only asked inside the loss
        return scores.logprobs, scores.entropies, None

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]  # as it is there
        self._check("gradient", norm, [row.name for row in self._share.rows])
        self._norm = float(norm)
        self._rate = float(self._get_learning_rate())
        return norm

    def _named(self, places: Sequence[Any]) -> str:
        return f"rollouts of problems {', '.join(sorted(set(places))) or '(of other processes)'}"

    def finish_step(self) -> tuple[Trained, dict[str, float]]:
        """What the step was, over all processes, and its seconds by part in this one; all processes ask together."""
        tally = together(gather(self.tally))
        trained = Trained(
            loss=tally.loss,
            learning_rate=self._rate,
            grad_norm=self._norm,
            kl=tally.kl / self._tokens if self.beta and self._tokens else None,
            entropy=tally.mean_entropies(),
            tokens=self._tokens,
            members=self._members,
            gaps=tally.gaps(),
        )
        self.trained.append((self.state.global_step, trained))
        seconds = self._seconds | {"total": time.perf_counter() - self._began}
        return trained, {part: round(value, 6) for part, value in seconds.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Without TRL's own figures: what is clipped is always 0 here, and the rest is in `Trained`."""
        self._metrics["train"].clear()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def go_on_from(self, checkpoint: Path) -> None:
        """Take the steps before a checkpoint that `train` will be told to resume."""
        stored = json.loads((checkpoint / TRAINED_FILE).read_text(encoding="utf-8"))
        self.trained = [(step, Trained.model_validate(trained)) for step, trained in stored]

    def _save_beside(self, folder: Path) -> None:
        if is_main():
            stored = [(step, trained.model_dump(mode="json")) for step, trained in self.trained]
            (folder / TRAINED_FILE).write_text(json.dumps(stored), encoding="utf-8")


def _no_rewards(**_: Any) -> list[float | None]:
    """TRL wants a source of rewards; ours come with the rollouts."""
    raise NotImplementedError


class _Nothing:
    """A loader without end and without content."""

    def __iter__(self) -> Iterator[None]:
        return repeat(None)


class _AfterStep(TrainerCallback):
    """Tells of each step, and ends a run in which nothing can be scored any more."""

    def __init__(self, trainer: GRPO, tell: Tell | None) -> None:
        self._trainer, self._tell = trainer, tell

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before any checkpoint of the step."""
        trainer = self._trainer
        trained, seconds = trainer.finish_step()
        if self._tell is not None:
            self._tell(state.global_step, trained, trainer.groups, seconds)
        if len(trainer.starved) >= trainer.settings.patience:
            control.should_save = control.should_training_stop = True


def importance(trainer: torch.Tensor, sampler: torch.Tensor, greedy: torch.Tensor, cap: float) -> torch.Tensor:
    """Truncated importance weights, (B, T): min(p / q, `cap`); 1 where the token was greedy or q is not known.

    Args:
        trainer: log p, (B, T).
        sampler: log q, (B, T), not a number where unknown.
        greedy: (B, T), boolean.
        cap: Largest weight.
    """
    weights = torch.exp(trainer - sampler).clamp(max=cap)
    return torch.where(greedy | sampler.isnan(), torch.ones_like(weights), weights)


def _reference(model: nn.Module) -> nn.Module:
    """A copy of the start, before anything is wrapped around it or loaded into it."""
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    add_token_scores(reference)
    return reference


def _check_cache(settings: GRPOSettings) -> None:
    if settings.cache == "features" and sharding():
        raise ConfigError(
            "cache = 'features' needs the whole vision tower in each process at every step, and FSDP and DeepSpeed "
            "spread it: set cache = 'none', or launch with ddp"
        )
    forwards(settings)


def _description(world: World, settings: GRPOSettings, model: Any) -> str:
    """See `describe_run`; rollers of others' making may have no fingerprint."""
    rollouts = str(getattr(world.roller, "fingerprint", ""))
    return describe_run(settings, model, data=world.problems.fingerprint, left_out=NOT_OF_THE_RUN, rollouts=rollouts)
