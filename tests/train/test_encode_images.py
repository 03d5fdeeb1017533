"""Pixels made anew, kept pixels and kept features stand for each other, for every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import samples
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText

from thyme.families import Family, load_family
from thyme.families.tensors import pixels
from thyme.train.arguments import vision_modules
from thyme.train.batches.collate import collate
from thyme.train.batches.vision import (
    FEATURES,
    PIXELS,
    FreshPixels,
    ImageSource,
    KeptFeatures,
    KeptPixels,
    model_inputs,
)
from thyme.train.encode import Encoded, encode
from thyme.types import ImageRecord


@pytest.fixture(scope="module")
def family(any_checkpoint: Path) -> Family:
    return load_family(any_checkpoint)


@pytest.fixture(scope="module")
def model(any_checkpoint: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(any_checkpoint, dtype=torch.float32).eval()


def ragged(family: Family) -> list[Encoded]:
    """No image, a large one in the prompt, three over prompt and observations."""
    return [
        encode(samples.trajectory([], family=family), family),
        encode(samples.trajectory([], family=family, images=[samples.picture(1, 220, 94)]), family),
        encode(samples.trajectory([samples.crop(1, images=2)], family=family, images=[samples.picture(2)]), family),
    ]


def logits(model: Any, family: Family, source: ImageSource) -> torch.Tensor:
    """Of a padded batch whose images come from a source."""
    chosen = ragged(family)
    for sample in chosen:
        source.add(sample.images)
    batch = collate(chosen, source, family)
    assert (PIXELS in batch) is (source.key == PIXELS)
    del batch["labels"]
    with torch.no_grad():
        out = model(**model_inputs(batch, model.config.get_text_config().hidden_size, family.name)).logits
    return torch.cat([out[row, : len(sample)] for row, sample in enumerate(chosen)])


def alone(model: Any, family: Family) -> torch.Tensor:
    """Logits of each sample by itself, unpadded, with pixels; no source and no collation."""
    found = []
    for sample in ragged(family):
        ids = torch.from_numpy(sample.ids).long()[None]
        given_too: dict[str, torch.Tensor] = {}
        if sample.images:
            given_too[PIXELS], grids = pixels(family, sample.images)
            if family.grid_key:
                given_too[family.grid_key] = grids
        if family.token_types:
            given_too["mm_token_type_ids"] = (ids == family.image_token_id).long()
        with torch.no_grad():
            found.append(model(input_ids=ids, **given_too).logits[0])
    return torch.cat(found)


def test_whatever_the_images_come_from_the_model_says_the_same(family: Family, model: Any) -> None:
    expected = alone(model, family)
    assert expected.abs().max() > 1
    for source in (FreshPixels(family), KeptPixels(family)):
        torch.testing.assert_close(logits(model, family, source), expected, rtol=0, atol=2e-4)
    features = KeptFeatures(model, family)
    for sample in ragged(family):
        features.add(sample.images)
    hooks = [
        module.register_forward_hook(lambda *_: pytest.fail("the vision tower was called"))
        for module in vision_modules(model).values()
    ]
    try:
        torch.testing.assert_close(logits(model, family, features), expected, rtol=0, atol=2e-4)
    finally:
        for hook in hooks:
            hook.remove()


def test_features_of_other_images_give_other_logits(family: Family, model: Any) -> None:
    """What the comparison above would say of a source that mixes images up."""

    class Mixed(KeptFeatures):
        def __call__(self, images: Any) -> torch.Tensor:
            return super().__call__(images).flip(0)

    assert (logits(model, family, Mixed(model, family)) - alone(model, family)).abs().max() > 0.01


@given(sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=3), plain=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kept_pixels_are_the_processed_ones_at_a_byte_a_value(
    family: Family, sizes: list[tuple[int, int]], plain: bool
) -> None:
    images = [
        ImageRecord.of(Image.new("RGB", size, (i, 9, 200))) if plain else samples.picture(i, *size)
        for i, size in enumerate(sizes)
    ]
    kept = KeptPixels(family)
    kept.add(images)
    expected = pixels(family, [*images, images[0]])[0]
    torch.testing.assert_close(kept([*images, images[0]]), expected, rtol=0, atol=2e-6)
    assert {entry.values.dtype for entry in kept._kept.values()} == {torch.uint8}
    most = pixels(family, images)[0].numel()
    assert sum(entry.values.numel() for entry in kept._kept.values()) <= most


def test_rows_that_bytes_cannot_hold_are_kept_whole(family: Family) -> None:
    kept = KeptPixels(family)
    rows = torch.randn_like(pixels(family, [samples.picture(0)])[0])
    assert torch.equal(kept._unpacked(kept._packed(rows)), rows)


def test_features_are_rows_of_the_language_models_width(family: Family, model: Any) -> None:
    source = KeptFeatures(model, family, dtype=torch.bfloat16)
    images = [samples.picture(0, 200, 120), samples.picture(1)]
    source.add(images)
    rows = source(images)
    assert (source.key, rows.dtype, rows.requires_grad) == (FEATURES, torch.bfloat16, False)
    assert len(rows) == sum(family.image_tokens(family.grid(*image.size)) for image in images)
    assert torch.equal(source(images[::-1]), torch.cat([source(images[1:]), source(images[:1])]))
