"""The loss in tiles: the figures of plain logits, and never as many numbers in memory as they would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import samples
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForImageTextToText

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.families import Family, load_family
from thyme.train.batches.vision import FreshPixels
from thyme.train.data.loader import NUMBERS, TOKENS, Collator
from thyme.train.data.samples import ListSamples
from thyme.train.encode import Encoded, encode
from thyme.train.sft.trainer import Data, Trainer

# peft still asks transformers by the old name of activation checkpointing.


def mixture(family: Family) -> list[Encoded]:
    made = [
        samples.trajectory([], family=family, images=[samples.picture(1)]),
        samples.trajectory([samples.crop(1)], family=family),
        samples.trajectory([samples.crop(2), samples.crop(3)], family=family, images=[samples.picture(2)]),
    ]
    return [encode(trajectory, family) for trajectory in made]


def trainer_of(folder: Path, out: Path, model: Any = None, **changes: Any) -> tuple[Trainer, dict[str, Any]]:
    """A trainer, and a batch of three samples."""
    family = load_family(folder)
    model = model or AutoModelForImageTextToText.from_pretrained(folder)
    chosen, images = mixture(family), FreshPixels(family)
    settings = SFTSettings(device="cpu", **changes)
    trainer = Trainer(model, Data(ListSamples(chosen), None, images, family), settings, out)
    if settings.lora:  # adapters begin as nothing: give their second halves something to be wrong about
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(3))
    return trainer, Collator(images, family)([[(i, sample)] for i, sample in enumerate(chosen)])


def plain_nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum over the trained tokens, in double precision; no code of the package or of TRL."""
    logprobs = torch.log_softmax(logits[:, :-1].double(), -1)
    targets = labels[:, 1:]
    found = logprobs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -(found * (targets != -100)).sum()


@pytest.mark.parametrize("loss", ["chunked", "full"])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)], ids=["whole", "lora"])
def test_loss_gradients_and_accuracy_are_those_of_plain_logits(
    any_checkpoint: Path, tmp_path: Path, lora: LoraSettings | None, loss: str
) -> None:
    """Weighted by the trained tokens of the whole step, of which this batch is a part."""
    trainer, batch = trainer_of(any_checkpoint, tmp_path, lora=lora, loss=loss)
    model = trainer.model.train()
    items = torch.tensor(1000)
    found = trainer.compute_loss(model, dict(batch), num_items_in_batch=items)
    found.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor) and name != "labels"}
    logits = model(**inputs).logits
    expected = plain_nll(logits, batch["labels"]) / items
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    others = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == others.keys()
    assert len(gradients) == (28 if lora else len(others))
    for name, gradient in others.items():
        assert torch.allclose(gradients[name], gradient, rtol=0, atol=2e-5 * gradient.abs().max().item() + 1e-9), name
    targets = batch["labels"][:, 1:]
    right = (logits[:, :-1].argmax(-1) == targets)[targets != -100].float().mean().item()
    assert trainer._metrics["train"]["mean_token_accuracy"] == [pytest.approx(right)]


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


def with_vocabulary(folder: Path, size: int, **text: int) -> Any:
    config = AutoConfig.from_pretrained(folder)
    for name, value in {"vocab_size": size, **text}.items():
        setattr(config.text_config, name, value)
    return AutoModelForImageTextToText.from_config(config)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)], ids=["whole", "lora"])
def test_logits_of_all_tokens_never_stand_in_memory(
    tiny_qwen2_5_vl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: LoraSettings | None
) -> None:
    """With a vocabulary so large that they would be the largest tensor by far, in tiles scaled down with it."""
    vocabulary, tile = 40_000, 4096
    monkeypatch.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", tile)
    largest = {}
    for loss in ("chunked", "full"):
        model = with_vocabulary(tiny_qwen2_5_vl, vocabulary)
        trainer, batch = trainer_of(tiny_qwen2_5_vl, tmp_path, model, lora=lora, loss=loss)
        with Largest() as watch:
            trainer.compute_loss(trainer.model.train(), batch, num_items_in_batch=torch.tensor(100)).backward()
        largest[loss] = watch.numbers
        tokens = batch["input_ids"].numel()
    head = vocabulary * 64
    logits = (tokens - 3) * vocabulary
    assert largest["full"] >= logits > 5 * head
    assert largest["chunked"] <= max(head, tokens * tile)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_logits_of_ten_thousand_tokens_never_stand_in_memory(tiny_qwen2_5_vl: Path, tmp_path: Path) -> None:
    """At the vocabulary of the real models and the longest sample of the released settings: 1.6e9 logits, 6 GB."""
    tokens, vocabulary = 10240, 151936
    model = with_vocabulary(tiny_qwen2_5_vl, vocabulary, num_hidden_layers=1, max_position_embeddings=tokens)
    trainer, _ = trainer_of(tiny_qwen2_5_vl, tmp_path, model)
    ids = torch.randint(0, 300, (1, tokens), generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": ids,
        "labels": ids.clone(),
        "attention_mask": torch.ones_like(ids),
        NUMBERS: [0],
        TOKENS: tokens,
    }
    with Largest() as watch:
        trainer.compute_loss(trainer.model.train(), batch, num_items_in_batch=torch.tensor(tokens - 1)).backward()
    assert watch.numbers < tokens * vocabulary / 10
