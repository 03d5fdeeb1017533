"""TRL's SFTTrainer with our batches, optimisers and losses, image features, and checkpoints without paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thyme.config.sft import NOT_OF_THE_RUN, SFTSettings
from thyme.errors import MissingExtraError, TrainingError
from thyme.families import Family
from thyme.train.arguments import lora_config
from thyme.train.batches.dummy_vision import unseen_image
from thyme.train.batches.vision import PIXELS, ImageSource, model_inputs
from thyme.train.data.loader import (
    NUMBERS,
    TOKENS,
    Collator,
    StreamLoader,
    errors_of_workers,
    training_loader,
    validation_loader,
)
from thyme.train.data.packing import check_packable
from thyme.train.data.samples import Samples, Stream, is_stream
from thyme.train.distributed import broadcast, gather, world_size
from thyme.train.encode import IGNORED
from thyme.train.mixin import TrainerMixin, describe_run, kept_use_cache
from thyme.train.run.checkpoint import load_stream_state, save_stream_state
from thyme.train.run.records import SourceReport
from thyme.train.run.watch import Clock, EndOnRequest, PointAtCheckpoint
from thyme.train.sft.arguments import arguments, steps_of
from thyme.train.sft.loss import full_sums
from thyme.train.sharded import gather_head, is_spread, keep_precision

try:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.trainer.sft_trainer import SFTTrainer
except ImportError as error:
    raise MissingExtraError("supervised fine-tuning", "train") from error


@dataclass(frozen=True)
class Data:
    """What a run trains on and measures its loss on."""

    train: Samples | Stream
    validation: Samples | None
    images: ImageSource
    family: Family


class Trainer(TrainerMixin, SFTTrainer):
    """TRL's trainer around `Data`."""

    model: Any  # the library says "model or nothing", and nothing more of the model

    def __init__(self, model: Any, data: Data, settings: SFTSettings, out: Path) -> None:
        if settings.packing:
            check_packable(model, settings)
        self.data, self.settings = data, settings
        self.run_description = broadcast(
            describe_run(settings, model, data=data.train.fingerprint, left_out=NOT_OF_THE_RUN)
        )
        self.seen = (0, 0, 0)
        """Samples, tokens and trained tokens that this process has read in this part of the run."""
        self._numbers: list[int] = []
        self._all_look = False
        """Whether each batch goes through the vision tower, images or not."""
        self._stream: StreamLoader | None = None
        self._stream_state: dict[str, Any] | None = None
        # The library looks into its dataset's rows here and there; ours come from our own loaders.
        unused = Dataset.from_dict({"index": [0]})
        # Each forward of a step is told not to keep a cache anyway.
        with kept_use_cache(model):
            super().__init__(
                model=model,
                args=arguments(
                    settings,
                    out,
                    steps=steps_of(data.train, settings),
                    streamed=is_stream(data.train),
                    validated=data.validation is not None,
                ),
                data_collator=self._collator(packed=settings.packing),
                train_dataset=unused,
                eval_dataset=unused if data.validation is not None else None,
                processing_class=data.family.tokenizer,
                peft_config=lora_config(model, settings) if settings.lora else None,
            )
        self.remove_callback(PrinterCallback)
        self.clock, self.ending = Clock(), EndOnRequest()
        for callback in (self.clock, self.ending, PointAtCheckpoint()):
            self.add_callback(callback)
        # Qwen's classes say they cannot, but TRL computes the loss itself: mean over the tokens of the whole step.
        self.model_accepts_loss_kwargs = True
        self._hidden = self.model.config.get_text_config().hidden_size
        keep_precision(self.accelerator)
        self._all_look = data.images.key == PIXELS and (is_spread(self.accelerator) or not settings.freeze_vision)
        if self._all_look:
            data.images.add([unseen_image()])

    def _collator(self, *, packed: bool) -> Collator:
        return Collator(self.data.images, self.data.family, self.settings.pad_to_multiple, packed, self._all_look)

    def get_train_dataloader(self) -> Any:
        """Our own batches: `EpochLoader`, or `StreamLoader` where they come from a stream."""
        collator = self._collator(packed=self.settings.packing)
        samples = self.data.train
        if not is_stream(samples):
            return training_loader(samples, collator, self.settings)
        self._stream = StreamLoader(samples, collator, self.settings)
        if self._stream_state is not None:
            self._stream.resume(self._stream_state)
        return self._stream

    def sources(self) -> tuple[SourceReport, ...]:
        """What became of the rows of a stream so far; nothing is known here of samples by place."""
        return () if self._stream is None else self._stream.reports()

    def go_on_from(self, checkpoint: Path) -> None:
        """Take the place in the stream, if there is one, from a checkpoint that `train` will be told to resume."""
        self._stream_state = load_stream_state(checkpoint)

    @errors_of_workers()
    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """The batches of one step; what they hold is noted for messages and for the report."""
        self.clock.start()
        found = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._numbers = [number for batch in found[0] for number in batch[NUMBERS]]
        tokens = sum(batch[TOKENS] for batch in found[0])
        trained = sum(int((batch["labels"] != IGNORED).sum()) for batch in found[0])
        self.seen = (self.seen[0] + len(self._numbers), self.seen[1] + tokens, self.seen[2] + trained)
        return found

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The mean over the step's trained tokens.

        Raises:
            TrainingError: It is not a number.
        """
        own = {name: value for name, value in inputs.items() if name not in (NUMBERS, TOKENS)}
        prepared = model_inputs(own, self._hidden, self.data.family.name)
        if self.settings.loss == "full":
            loss = self._full_loss(model, prepared, kwargs.get("num_items_in_batch"))
        else:
            gather_head(model)
            loss = super().compute_loss(model, prepared, *args, **kwargs)  # type: ignore[no-untyped-call]  # as TRL has it
        if self.model.training:
            self._check("loss", loss, inputs[NUMBERS])
            self._metrics["train"]["num_tokens"] = [self.seen[1]]
        return loss

    def _full_loss(self, model: nn.Module, inputs: dict[str, Any], items: torch.Tensor | None) -> torch.Tensor:
        sums = full_sums(model, inputs)
        right, count = (self.accelerator.gather(part).sum() for part in (sums.right, sums.count))
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["mean_token_accuracy"].append((right / count.clamp(min=1)).item())
        if items is None:
            return sums.nll / sums.count.clamp(min=1)
        # The step's tokens are those of all processes, over which gradients are averaged later.
        return sums.nll / torch.as_tensor(items).clamp(min=1) * world_size()

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]  # as it is there
        self._check("gradient", norm, self._numbers)
        return norm

    def _named(self, places: Sequence[int]) -> str:
        """Where samples come from, if they know; else their numbers."""
        naming = getattr(self.data.train, "name", None)
        if naming is None:
            return f"samples {', '.join(map(str, places))} (numbers in the order given, from 0)"
        return f"samples {', '.join(map(naming, places))}"

    @errors_of_workers()
    @torch.no_grad()
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The loss on the validation samples: the mean over all their trained tokens, whatever batches they are in.

        Every process takes its share, and all get the same figure.
        """
        if self.data.validation is None:
            raise TrainingError("there are no validation samples")
        training = self.model.training
        self.model.eval()
        # Summed as the loss of a "step" with one token; each process's is multiplied by their number.
        one = torch.tensor(world_size(), device=self.args.device)
        total, count = 0.0, 0
        for batch in validation_loader(self.data.validation, self._collator(packed=False), self.settings):
            inputs = self._prepare_inputs(batch)
            with self.compute_loss_context_manager():
                total += float(self.compute_loss(self.model, inputs, num_items_in_batch=one))
            count += int((batch["labels"][:, 1:] != IGNORED).sum())
        metrics = {"eval_loss": sum(gather(total)) / sum(gather(count))}
        self.log(dict(metrics))
        self.model.train(training)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_beside(self, folder: Path) -> None:
        """The place in the stream."""
        if self._stream is not None:
            save_stream_state(folder, self._stream.state)
