"""Sizes and pixels are those of transformers' own image processor; odd pictures are shown, not refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_model
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as reference_resize

from thyme.errors import UsageError
from thyme.families import load_family
from thyme.families.qwen_vl_tensors import pixels, rgb
from thyme.families.sizes import smart_resize
from thyme.types import ImageRecord

sides = st.integers(1, 5000)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(sides, sides, st.sampled_from([28, 32]), st.integers(1, 200), st.integers(200, 16384))
def test_seen_size_is_that_of_transformers(width: int, height: int, factor: int, low: int, high: int) -> None:
    assume(max(width, height) <= 200 * min(width, height))
    low, high = low * factor**2, high * factor**2
    expected = reference_resize(height, width, factor, low, high)
    assert smart_resize(width, height, factor=factor, min_pixels=low, max_pixels=high) == expected[::-1]


@given(st.integers(1, 20000), st.integers(1, 20000))
def test_any_size_is_seen_in_whole_tokens(width: int, height: int) -> None:
    seen = smart_resize(width, height, factor=28, min_pixels=56 * 56, max_pixels=28 * 28 * 1280)
    assert all(side >= 28 and side % 28 == 0 for side in seen)


@pytest.mark.parametrize("size", [(120, 200), (640, 480), (9, 5), (333, 77)])
def test_pixels_are_those_of_the_checkpoints_own_processor(tiny_checkpoint: Path, size: tuple[int, int]) -> None:
    family = load_family(tiny_checkpoint)
    image = noise(*size)
    reference = Qwen2VLImageProcessorPil.from_pretrained(tiny_checkpoint)(images=[image], return_tensors="pt")
    patches, grid = pixels(family, [ImageRecord.of(image)])
    torch.testing.assert_close(patches, reference["pixel_values"], rtol=0, atol=0)
    assert grid.tolist() == reference["image_grid_thw"].tolist() == [list(family.grid(*size))]
    assert family.image_tokens(family.grid(*size)) * 4 == len(patches)


def test_several_images_come_one_behind_the_other(tiny_qwen2_5_vl: Path) -> None:
    family = load_family(tiny_qwen2_5_vl)
    records = [ImageRecord.of(noise(*size, seed=size[0])) for size in ((100, 60), (60, 200))]
    patches, grids = pixels(family, records)
    alone = [pixels(family, [record]) for record in records]
    assert torch.equal(patches, torch.cat([one for one, _ in alone]))
    assert torch.equal(grids, torch.cat([grid for _, grid in alone]))


@pytest.mark.parametrize("size", [(3000, 4), (1, 900)])
def test_a_strip_too_thin_for_the_processor_is_still_seen(tiny_checkpoint: Path, size: tuple[int, int]) -> None:
    family = load_family(tiny_checkpoint)
    patches, grid = pixels(family, [ImageRecord.of(noise(*size))])
    assert tuple(grid[0].tolist()) == family.grid(*size)
    assert len(patches) == grid[0].prod()


def test_transparency_is_shown_on_white_and_16_bits_as_8() -> None:
    half = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    half.putpixel((1, 0), (0, 0, 0, 0))
    assert [rgb(half).getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]
    deep = Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16))
    assert [rgb(deep).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    grey = deep.convert("I")
    assert [rgb(grey).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    assert rgb(Image.new("I;16B", (2, 1))).getpixel((0, 0)) == (0, 0, 0)
    share = Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32))
    assert [rgb(share).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    assert rgb(Image.new("L", (3, 3), 7)).getpixel((0, 0)) == (7, 7, 7)


def test_pixel_limits_are_the_checkpoints_own_and_can_be_overridden(tiny_qwen2_5_vl: Path) -> None:
    own = load_family(tiny_qwen2_5_vl)
    smaller = load_family(tiny_qwen2_5_vl, max_pixels=28 * 28 * 8)
    assert own.seen_size(2000, 2000) == (168, 168)
    assert smaller.seen_size(2000, 2000) == (56, 56)
    assert len(pixels(smaller, [ImageRecord.of(noise(2000, 2000))])[0]) == 16
    with pytest.raises(UsageError, match="above"):
        load_family(tiny_qwen2_5_vl, min_pixels=10**6, max_pixels=10**5)


@pytest.mark.parametrize("layout", ["nested", "flat", "old names"])
def test_every_layout_of_the_settings_is_read(tmp_path: Path, tiny_qwen3_vl: Path, layout: str) -> None:
    import json
    import shutil

    folder = Path(shutil.copytree(tiny_qwen3_vl, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors")))
    settings = tiny_model.image_settings("qwen3_vl")
    (folder / "preprocessor_config.json").unlink()
    if layout == "old names":
        size = settings.pop("size")
        settings |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    content, name = (settings, "preprocessor_config.json")
    if layout == "nested":
        content, name = {"image_processor": settings, "processor_class": "Qwen3VLProcessor"}, "processor_config.json"
    (folder / name).write_text(json.dumps(content))
    assert load_family(folder).seen_size(1999, 1500) == load_family(tiny_qwen3_vl).seen_size(1999, 1500)
