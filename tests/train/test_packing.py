"""Packing: every sample whole and once, and no sample sees another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import samples
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from thyme.config.sft import SFTSettings
from thyme.errors import ConfigError, UsageError
from thyme.families import Family, load_family
from thyme.train.batches.collate import collate, collate_packed
from thyme.train.batches.vision import FreshPixels
from thyme.train.data.packing import check_packable, pack, pack_stream
from thyme.train.encode import Encoded, encode
from thyme.train.sft import train_sft
from thyme.train.sft.loss import full_sums

FAMILIES = ["qwen2_5_vl", "qwen3_vl", "internvl"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"tiny_{request.param}")
    return found


def mixture(family: Family) -> list[Encoded]:
    """One without an image, two with one, one with an image in the prompt and two in an observation."""
    made = [
        samples.trajectory([], family=family),
        samples.trajectory([], family=family, images=[samples.picture(1, 120, 64)]),
        samples.trajectory([samples.crop(1, images=2)], family=family, images=[samples.picture(2)]),
        samples.trajectory([samples.crop(2)], family=family),
    ]
    return [encode(trajectory, family) for trajectory in made]


def loaded(folder: Path, attention: str = "sdpa") -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, attn_implementation=attention)


@given(
    lengths=st.lists(st.integers(1, 100), max_size=200),
    capacity=st.integers(100, 400),
    seed=st.integers(0, 2),
)
def test_every_sample_is_in_one_row_and_no_row_is_too_full(lengths: list[int], capacity: int, seed: int) -> None:
    rows = pack(lengths, capacity, seed=seed)
    assert Counter(number for row in rows for number in row) == Counter(range(len(lengths)))
    loads = sorted(sum(lengths[number] for number in row) for row in rows)
    assert all(0 < load <= capacity for load in loads)
    assert sum(loads[:2]) > capacity or len(loads) < 2  # or the two emptiest would have been one
    assert rows == pack(lengths, capacity, seed=seed)


@given(lengths=st.lists(st.integers(1, 100), max_size=100), capacity=st.integers(100, 300))
def test_a_stream_is_packed_in_its_order(lengths: list[int], capacity: int) -> None:
    rows = list(pack_stream(lengths, lambda length: length, capacity))
    assert [length for row in rows for length in row] == lengths
    assert all(0 < sum(row) <= capacity for row in rows)


def test_rows_are_nearly_full() -> None:
    lengths = [1000 + (i * 7919) % 9000 for i in range(2000)]
    rows = pack(lengths, 10240)
    assert sum(lengths) / (len(rows) * 10240) > 0.97


def test_a_sample_longer_than_a_row_is_refused_not_cut() -> None:
    with pytest.raises(UsageError, match=r"sample 1 has 12 tokens and a packed row 10"):
        pack([3, 12, 4], 10)
    with pytest.raises(UsageError, match=r"sample 2 has 12 tokens"):
        list(pack_stream([3, 4, 12], lambda length: length, 10))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_samples_have_the_loss_and_gradients_of_samples_alone(folder: Path, attention: str) -> None:
    family, model = load_family(folder), loaded(folder, attention)
    check_packable(model, SFTSettings())
    chosen, images = mixture(family), FreshPixels(family)
    packed = full_sums(model, collate_packed([chosen[:3], chosen[3:]], images, family, pad_to_multiple=8))
    packed.nll.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    alone = [full_sums(model, collate([sample], images, family)) for sample in chosen]
    total = sum(sums.nll for sums in alone)
    total.backward()  # type: ignore[union-attr]  # a tensor: there are samples
    assert packed.nll.item() == pytest.approx(total.item(), rel=1e-5)
    assert int(packed.count) == sum(int(sums.count) for sums in alone) == sum(sample.trained for sample in chosen)
    assert int(packed.right) == sum(int(sums.right) for sums in alone)
    assert gradients
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            scale = parameter.grad.abs().max().item()
            assert torch.allclose(gradients[name], parameter.grad, rtol=0, atol=1e-4 * scale + 1e-7), name


def test_what_stands_in_one_sample_changes_nothing_in_another(folder: Path) -> None:
    family, model = load_family(folder), loaded(folder).eval()
    first, middle, last = mixture(family)[:3]
    other = Encoded(ids=middle.ids.copy(), loss_mask=middle.loss_mask, images=middle.images, grids=middle.grids)
    text = other.ids != family.image_token_id
    other.ids[text] = (other.ids[text] + 7) % 200
    brighter = [samples.picture(99, image.width, image.height) for image in other.images]
    other = Encoded(ids=other.ids, loss_mask=other.loss_mask, images=tuple(brighter), grids=other.grids)
    with torch.no_grad():
        one, two = (
            model(**collate_packed([[first, changed, last]], FreshPixels(family), family)).logits[0]
            for changed in (middle, other)
        )
    start, end = len(first), len(first) + len(middle)
    assert (one[:start] - two[:start]).abs().max() < 1e-6
    assert (one[end:] - two[end:]).abs().max() < 1e-6
    assert (one[start:end] - two[start:end]).abs().max() > 0.1


def test_positions_begin_anew_with_each_sample_as_the_model_would_count_them(tiny_qwen3_vl: Path) -> None:
    family, model = load_family(tiny_qwen3_vl), loaded(tiny_qwen3_vl)
    chosen = mixture(family)[1:3]
    positions = collate_packed([chosen], FreshPixels(family), family)["position_ids"]
    assert positions.shape[:2] == (4, 1)
    start = 0
    for sample in chosen:
        batch = collate([sample], FreshPixels(family), family)
        expected, _ = model.model.get_rope_index(
            batch["input_ids"], batch["mm_token_type_ids"], image_grid_thw=batch["image_grid_thw"]
        )
        part = positions[:, 0, start : start + len(sample)]
        assert torch.equal(part[1:], expected[:, 0])
        assert part[0].tolist() == list(range(len(sample)))
        start += len(sample)


def test_the_first_token_of_a_sample_is_no_target_of_the_one_before(tiny_qwen2_5_vl: Path) -> None:
    family = load_family(tiny_qwen2_5_vl)
    all_trained = [
        Encoded(
            ids=sample.ids,
            loss_mask=torch.ones(len(sample), dtype=torch.bool).numpy(),
            images=sample.images,
            grids=sample.grids,
        )
        for sample in mixture(family)[:2]
    ]
    labels = collate_packed([all_trained], FreshPixels(family), family)["labels"][0]
    assert labels[0] == labels[len(all_trained[0])] == -100
    assert (labels != -100).sum() == sum(map(len, all_trained)) - 2


def test_an_attention_that_does_not_keep_samples_apart_is_refused(tiny_qwen2_5_vl: Path) -> None:
    model = loaded(tiny_qwen2_5_vl)
    model.config.get_text_config()._attn_implementation = "flash_attention_2"
    check_packable(model, SFTSettings(batch_size=1))
    with pytest.raises(ConfigError, match="batch_size = 1"):
        check_packable(model, SFTSettings(batch_size=2))
    model.config.get_text_config()._attn_implementation = "thyme_matmul"
    with pytest.raises(ConfigError, match="'thyme_matmul'"):
        check_packable(model, SFTSettings())
    model.config.get_text_config()._attn_implementation = "sdpa"
    model.config.get_text_config().layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ConfigError, match="linear_attention"):
        check_packable(model, SFTSettings())


def test_a_packed_step_is_the_step_of_the_same_samples(folder: Path, tmp_path: Path) -> None:
    """Rows of at most the longest sample and a bit: two or three rows; one optimiser step over all of them."""
    family = load_family(folder)
    chosen = mixture(family)
    common: dict[str, Any] = {"max_steps": 1, "learning_rate": 1e-3, "log_steps": 1, "device": "cpu"}
    room = max(map(len, chosen)) + 40
    reports = [
        train_sft(chosen, folder, SFTSettings(**common, **changes), tmp_path / str(i), family=family)
        for i, changes in enumerate(
            [{"batch_size": 4}, {"batch_size": 1, "accumulation": 4, "packing": True, "packed_tokens": room}]
        )
    ]
    plain, packed = (report.curve[0] for report in reports)
    assert packed.loss == pytest.approx(plain.loss, rel=1e-5)
    assert packed.grad_norm == pytest.approx(plain.grad_norm, rel=1e-3)
    assert packed.token_accuracy is not None
    one, two = (AutoModelForImageTextToText.from_pretrained(tmp_path / str(i)).state_dict() for i in range(2))
    # The first step of Adam is the sign of the gradient: where that is next to nothing, it may go either way.
    far = sum(int(((one[name] - two[name]).abs() > 1e-4).sum()) for name in one)
    assert far <= 2e-3 * sum(weight.numel() for weight in one.values())
