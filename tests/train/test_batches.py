"""Batches: padding, image tensors, kept pixels and features, and the order of samples."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import samples
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from thyme.families import Family, load_family
from thyme.families.qwen_vl_tensors import pixels
from thyme.train.batches.collate import collate
from thyme.train.batches.vision import FreshPixels, ImageSource, KeptFeatures, KeptPixels, model_inputs
from thyme.train.data.loader import NUMBERS, TOKENS, Collator
from thyme.train.data.sampling import EpochBatches, epoch_order
from thyme.train.encode import Encoded, encode


def ragged(family: Family) -> list[Encoded]:
    """No image, one in the prompt, three over prompt and observations."""
    return [
        encode(samples.trajectory([], family=family), family),
        encode(samples.trajectory([], family=family, images=[samples.picture(1, 120, 64)]), family),
        encode(samples.trajectory([samples.crop(1, images=2)], family=family, images=[samples.picture(2)]), family),
    ]


def batch_of(
    family: Family, chosen: list[Encoded], source: ImageSource | None = None, **options: Any
) -> dict[str, Any]:
    source = source or FreshPixels(family)
    return dict(collate(chosen, source, family, **options))


def test_samples_are_padded_on_the_right_and_padding_is_neither_seen_nor_trained(tiny_checkpoint: Path) -> None:
    family = load_family(tiny_checkpoint)
    chosen = ragged(family)
    batch = batch_of(family, chosen, pad_to_multiple=8)
    length = batch["input_ids"].shape[1]
    assert length % 8 == 0
    assert 0 <= length - max(map(len, chosen)) < 8
    for row, sample in enumerate(chosen):
        n = len(sample)
        assert batch["input_ids"][row].tolist() == sample.ids.tolist() + [family.tokenizer.pad_token_id] * (length - n)
        assert batch["labels"][row].tolist() == sample.labels.tolist() + [-100] * (length - n)
        assert batch["attention_mask"][row].tolist() == [1] * n + [0] * (length - n)
        assert batch["mm_token_type_ids"][row].nonzero().flatten().tolist() == [
            i for i, token in enumerate(sample.ids) if token == family.image_token_id
        ]
    images = [image for sample in chosen for image in sample.images]
    expected, grids = pixels(family, images)
    assert torch.equal(batch["pixel_values"], expected)
    assert torch.equal(batch["image_grid_thw"], grids)


def test_a_batch_without_images_brings_none_to_the_model(tiny_checkpoint: Path) -> None:
    family = load_family(tiny_checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint)
    batch = batch_of(family, ragged(family)[:1])
    assert set(batch) == {"input_ids", "labels", "attention_mask", "mm_token_type_ids"}
    model.model.visual.register_forward_hook(lambda *_: pytest.fail("the vision tower was called"))
    assert torch.isfinite(model(**batch).loss)


def test_padding_and_neighbours_change_no_logit(tiny_checkpoint: Path) -> None:
    family = load_family(tiny_checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint).eval()
    chosen = ragged(family)
    with torch.no_grad():
        together = model(**batch_of(family, chosen)).logits
        alone = [model(**batch_of(family, [sample])).logits[0] for sample in chosen]
    for row, logits in enumerate(alone):
        assert torch.allclose(together[row, : len(logits)], logits, atol=2e-4)


def test_the_models_positions_are_those_of_the_family(tiny_checkpoint: Path) -> None:
    """What the engine computes span by span is what training gets from ``mm_token_type_ids``."""
    family = load_family(tiny_checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint)
    chosen = ragged(family)
    batch = batch_of(family, chosen)
    positions, _ = model.model.get_rope_index(
        batch["input_ids"],
        batch["mm_token_type_ids"],
        image_grid_thw=batch["image_grid_thw"],
        attention_mask=batch["attention_mask"],
    )
    for row, sample in enumerate(chosen):
        own, _ = family.positions(sample.ids, sample.grids, 0)
        assert torch.equal(positions[:, row, : len(sample)], torch.from_numpy(own).long())


def test_kept_pixels_are_the_processed_ones_at_an_eighth_of_the_memory(tiny_checkpoint: Path) -> None:
    family = load_family(tiny_checkpoint)
    images = [samples.picture(i, 60 + 30 * i, 80) for i in range(3)]
    kept = KeptPixels(family)
    kept.add(images)
    expected = pixels(family, [images[2], images[0], images[2]])[0]
    assert torch.allclose(kept([images[2], images[0], images[2]]), expected, rtol=0, atol=2e-6)
    assert {entry.values.dtype for entry in kept._kept.values()} == {torch.uint8}
    assert sum(entry.values.numel() for entry in kept._kept.values()) * 8 == sum(
        p.numel() * p.element_size() for p in (pixels(family, [image])[0] for image in images)
    )


def test_pixels_that_bytes_cannot_hold_are_kept_whole(tiny_qwen2_5_vl: Path) -> None:
    kept = KeptPixels(load_family(tiny_qwen2_5_vl))
    patches = torch.randn(5, 3 * 2 * 14 * 14)
    assert torch.equal(kept._unpacked(kept._packed(patches)), patches)


def test_kept_features_give_the_logits_of_the_pixels(tiny_checkpoint: Path) -> None:
    family = load_family(tiny_checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint).eval()
    chosen = ragged(family)
    features = KeptFeatures(model, family)
    for sample in chosen:
        features.add(sample.images)
    batch = batch_of(family, chosen, features)
    assert "pixel_values" not in batch
    with torch.no_grad():
        expected = model(**batch_of(family, chosen)).logits
        model.model.visual.register_forward_hook(lambda *_: pytest.fail("the vision tower was called"))
        given = model(**model_inputs(batch, model.config.text_config.hidden_size, family.name)).logits
    assert torch.allclose(given, expected, atol=2e-4)
    assert expected.abs().max() > 1


def test_an_image_that_was_kept_needs_its_pixels_no_more(tiny_qwen2_5_vl: Path) -> None:
    image = samples.picture(3)
    kept = KeptPixels(load_family(tiny_qwen2_5_vl))
    kept.add([image])
    bare = type(image)(**image.model_dump())
    assert not bare.loaded
    assert torch.equal(kept([bare]), kept([image]))


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=300),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 3),
    grouped=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_sample_is_visited_once_an_epoch_in_an_order_of_its_own(
    lengths: list[int], batch_size: int, seed: int, grouped: bool
) -> None:
    options = {"seed": seed, "group_by_length": grouped}
    order = epoch_order(lengths, batch_size, epoch=0, **options)
    assert Counter(order) == Counter(range(len(lengths)))
    assert order == epoch_order(lengths, batch_size, epoch=0, **options)
    if len(lengths) > 60:
        assert order != epoch_order(lengths, batch_size, epoch=1, **options)


def padded(lengths: list[int], order: list[int], batch_size: int) -> int:
    batches = [[lengths[i] for i in order[k : k + batch_size]] for k in range(0, len(order), batch_size)]
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


def test_grouping_pads_far_less_and_keeps_batches_in_random_order() -> None:
    lengths = [50 + (i * 7919) % 450 for i in range(1000)]
    grouped = epoch_order(lengths, 8, seed=0, epoch=0)
    mixed = epoch_order(lengths, 8, seed=0, epoch=0, group_by_length=False)
    assert padded(lengths, grouped, 8) * 10 < padded(lengths, mixed, 8)
    firsts = [lengths[grouped[k]] for k in range(0, 1000, 8)]
    assert sum(a < b for a, b in pairwise(firsts)) in range(40, 85)


def batches_of(processes: int, **options: Any) -> list[list[list[tuple[int, ...]]]]:
    """One epoch's batches of each process."""
    lengths = [10 + (i * 7919) % 450 for i in range(203)]
    rows = [(i,) for i in range(len(lengths))]
    return [
        list(EpochBatches(rows, lengths, 4, group_by_length=True, rank=rank, processes=processes, **options))
        for rank in range(processes)
    ]


def test_the_batches_move_on_with_the_epoch() -> None:
    lengths = list(range(1, 50))
    batches = EpochBatches([(i,) for i in range(49)], lengths, 4, seed=1, group_by_length=True)
    first = list(batches)
    batches.set_epoch(3)
    visited = [i for batch in batches for (i,) in batch]
    assert visited == epoch_order(lengths, 4, seed=1, epoch=3) != [i for batch in first for (i,) in batch]
    assert len(batches) == len(first) == 13


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_share_an_epoch_without_loss_or_repetition(processes: int) -> None:
    made = batches_of(processes)
    assert len({len(batches) for batches in made}) == 1
    visited = [i for batches in made for batch in batches for (i,) in batch if i >= 0]
    assert sorted(visited) == list(range(203))
    assert all(batch for batches in made for batch in batches)


def test_a_process_with_nothing_left_stands_in_with_what_is_trained_elsewhere() -> None:
    rows = [(0, 1), (2,)]
    made = [list(EpochBatches(rows, [5, 5], 1, in_order=True, rank=rank, processes=3)) for rank in range(3)]
    assert made == [[[(0, 1)]], [[(2,)]], [[(~0, ~1)]]]


def test_what_stands_in_is_not_counted(tiny_qwen2_5_vl: Path) -> None:
    """Its tokens would be counted twice: where they are trained on, and here."""
    family = load_family(tiny_qwen2_5_vl)
    one, other = (encode(samples.trajectory([], name=name), family) for name in "ab")
    batch = Collator(FreshPixels(family), family)([[(7, one)], [(~3, other)]])
    assert batch["input_ids"].shape[0] == 2
    assert (batch[NUMBERS], batch[TOKENS]) == ([7], len(one))


def test_what_processes_do_in_one_forward_is_of_like_length() -> None:
    lengths = [10 + (i * 7919) % 450 for i in range(203)]
    longest = [[max(lengths[i] for (i,) in batch) for batch in batches] for batches in batches_of(4)]
    spread = [max(column) - min(column) for column in zip(*longest, strict=True)][:-1]
    assert max(spread) < 60  # of 450; four draws at random would differ by far more


def test_processes_do_together_what_one_alone_does() -> None:
    alone = list(EpochBatches([(i,) for i in range(24)], list(range(24)), 6, seed=2, group_by_length=True))
    shared = [
        list(
            EpochBatches(
                [(i,) for i in range(24)], list(range(24)), 3, seed=2, group_by_length=True, rank=r, processes=2
            )
        )
        for r in range(2)
    ]
    together = [sorted(one + other) for one, other in zip(*shared, strict=True)]
    assert together == [sorted(batch) for batch in alone]
