"""The masks in the loss, for every family: exactly no gradient at masked targets, and the loss of a manual NLL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import samples
import torch
from transformers import AutoModelForImageTextToText

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.families import Family, load_family
from thyme.families.tensors import pixels
from thyme.train.arguments import vision_modules
from thyme.train.encode import Dialogue, Encoded, MaskPolicy, encode_item
from thyme.train.sft import train_sft

# peft still asks transformers by the old name of activation checkpointing.


@pytest.fixture(scope="module")
def family(any_checkpoint: Path) -> Family:
    return load_family(any_checkpoint)


def mixture(family: Family, policy: MaskPolicy) -> list[Encoded]:
    """Zero to three rounds, with and without images, of several tiles or patches, and a dialogue."""
    items = [
        samples.trajectory([samples.crop(1), samples.crop(2)], family=family, images=[samples.picture(0, 220, 94)]),
        samples.trajectory([samples.crop(3, images=2)], family=family),
        samples.trajectory([samples.crop(i, images=0, stdout="7") for i in range(3)], family=family),
        samples.trajectory([], family=family, images=[samples.picture(4), samples.picture(5)]),
        Dialogue((("read it", "42"), ("colour?", "red")), (samples.picture(1),)),
    ]
    return [encode_item(item, family, policy) for item in items]


def nll(folder: Path, family: Family, chosen: list[Encoded]) -> float:
    """Nats a trained token, from plain forwards of one unpadded sample each; no code of the trainer is used."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    total, count = 0.0, 0
    for sample in chosen:
        ids = torch.from_numpy(sample.ids).long()[None]
        extra: dict[str, torch.Tensor] = {}
        if family.token_types:
            extra["mm_token_type_ids"] = (ids == family.image_token_id).long()
        if sample.images:
            extra["pixel_values"], grids = pixels(family, sample.images)
            if family.grid_key:
                extra[family.grid_key] = grids
        with torch.no_grad():
            logprobs = torch.log_softmax(model(input_ids=ids, **extra).logits[0].double(), -1)
        for at, trained in enumerate(sample.loss_mask.tolist()):
            if trained:
                total -= logprobs[at - 1, sample.ids[at]].item()
                count += 1
    return total / count


def quick(**changes: Any) -> SFTSettings:
    settings: dict[str, Any] = {"batch_size": 5, "learning_rate": 2e-3, "log_steps": 1, "device": "cpu", "max_steps": 1}
    return SFTSettings(**(settings | changes))


@pytest.mark.parametrize(
    ("policy", "loss"), [*((policy, "chunked") for policy in MaskPolicy), (MaskPolicy.RELEASED, "full")]
)
def test_no_gradient_reaches_a_masked_target(
    any_checkpoint: Path, family: Family, tmp_path: Path, policy: MaskPolicy, loss: str
) -> None:
    """A target's gradient enters by the last hidden state before it: all other states get exactly none."""
    model = AutoModelForImageTextToText.from_pretrained(any_checkpoint, dtype=torch.float32)
    fed: list[torch.Tensor] = []
    states: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        states.append(output)

    model.get_input_embeddings().register_forward_hook(lambda _module, inputs, _output: fed.append(inputs[0]))
    model.model.language_model.norm.register_forward_hook(keep)
    chosen = mixture(family, policy)
    train_sft(chosen, model, quick(loss=loss), tmp_path, base=any_checkpoint)
    strength = states[0].grad.abs().sum(-1)
    assert len(strength) == len(chosen)
    for ids, row in zip(fed[0], strength, strict=True):  # the trainer has its own order
        sample = next(one for one in chosen if ids[: len(one)].tolist() == one.ids.tolist())
        targets = torch.zeros(len(row), dtype=torch.bool)
        targets[: len(sample) - 1] = torch.from_numpy(sample.loss_mask[1:])
        assert (row[~targets] == 0).all()
        assert (row[targets] > 0).all()
        for span in sample.spans:
            if span.kind in {"prompt", "observation"}:
                assert row[max(span.start - 1, 0) : span.end - 1].sum() == 0


@pytest.mark.parametrize("policy", list(MaskPolicy))
def test_the_loss_of_a_step_is_the_manual_nll(
    any_checkpoint: Path, family: Family, tmp_path: Path, policy: MaskPolicy
) -> None:
    chosen = mixture(family, policy)
    report = train_sft(chosen, any_checkpoint, quick(), tmp_path, family=family)
    assert report.curve[0].loss == pytest.approx(nll(any_checkpoint, family, chosen), rel=2e-5)


@pytest.mark.parametrize("cache", ["none", "pixels", "features"])
def test_a_third_family_trains_whatever_keeps_its_images(tiny_internvl: Path, tmp_path: Path, cache: str) -> None:
    family = load_family(tiny_internvl)
    chosen = mixture(family, MaskPolicy.ALL)
    plan = quick(batch_size=2, accumulation=3, max_steps=4, cache=cache)
    report = train_sft(chosen, tiny_internvl, plan, tmp_path, family=family)
    assert report.curve[0].loss == pytest.approx(nll(tiny_internvl, family, chosen), rel=0.2)
    assert nll(tmp_path, family, chosen) < nll(tiny_internvl, family, chosen) - 0.5
    before, after = (AutoModelForImageTextToText.from_pretrained(folder) for folder in (tiny_internvl, tmp_path))
    for old, new in zip(vision_modules(before).values(), vision_modules(after).values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))


def test_vision_is_everything_but_the_language_model(any_checkpoint: Path) -> None:
    """What `freeze_vision` freezes is what kept features stand for."""
    model = AutoModelForImageTextToText.from_pretrained(any_checkpoint)
    vision = {id(p) for module in vision_modules(model).values() for p in module.parameters()}
    language = {id(p) for p in (*model.model.language_model.parameters(), *model.lm_head.parameters())}
    assert vision
    assert not vision & language
    assert vision | language == {id(p) for p in model.parameters()}


def test_packed_samples_of_a_third_family_see_nothing_of_each_other(tiny_internvl: Path, tmp_path: Path) -> None:
    family = load_family(tiny_internvl)
    chosen = mixture(family, MaskPolicy.ALL)
    report = train_sft(chosen, tiny_internvl, quick(packing=True), tmp_path, family=family)
    assert report.curve[0].loss == pytest.approx(nll(tiny_internvl, family, chosen), rel=2e-5)


def test_a_third_family_trains_with_adapters_and_with_its_tower(tiny_internvl: Path, tmp_path: Path) -> None:
    family = load_family(tiny_internvl)
    chosen = mixture(family, MaskPolicy.ALL)
    lora = quick(lora=LoraSettings(rank=4, alpha=8), max_steps=3)
    train_sft(chosen, tiny_internvl, lora, tmp_path / "lora", family=family)
    train_sft(chosen, tiny_internvl, quick(freeze_vision=False, max_steps=3), tmp_path / "tower", family=family)
    start = nll(tiny_internvl, family, chosen)
    assert nll(tmp_path / "lora", family, chosen) < start
    assert nll(tmp_path / "tower", family, chosen) < start
    before, after = (
        AutoModelForImageTextToText.from_pretrained(folder) for folder in (tiny_internvl, tmp_path / "tower")
    )
    for old, new in zip(vision_modules(before).values(), vision_modules(after).values(), strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
    assert load_family(tmp_path / "lora").fingerprint == family.fingerprint
