"""InternVL: canvas, placeholders, ids and pixels are those of transformers' own processor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_model
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoTokenizer, InternVLProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)

from thyme.config import EngineConfig
from thyme.engines.local import LocalCheckpoint
from thyme.errors import ModelNotFoundError, UsageError
from thyme.families import Control, Family, load_family
from thyme.families.internvl import InternVLFamily
from thyme.families.sizes import tiled_canvas
from thyme.families.tensors import pixels
from thyme.types import ImageRecord

sides = st.integers(1, 5000)
SYSTEM = "You think with images.\nWrite <code> when it helps."
USER = "<image> What stands in the corner of\n<image>? Über 图片 1234 🙂"


class OwnProcessor(InternVLProcessor):  # type: ignore[misc]  # the library has no types
    """Transformers' own processor without its video half (which needs torchvision)."""

    def __init__(self, image_processor=None, tokenizer=None, image_seq_length=4, chat_template=None, **_):  # type: ignore[no-untyped-def]  # read by the library
        super().__init__(image_processor, tokenizer, image_seq_length=image_seq_length, chat_template=chat_template)


def own_processor(folder: Path, **settings: Any) -> Any:
    template = (folder / "chat_template.jinja").read_text()
    images = GotOcr2ImageProcessorPil.from_pretrained(folder, **settings)
    return OwnProcessor(images, AutoTokenizer.from_pretrained(folder), chat_template=template)


def noise(width: int, height: int) -> ImageRecord:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return ImageRecord.of(Image.fromarray(values))


def changed(folder: Path, target: Path, name: str, **settings: Any) -> Path:
    """A copy without weights, one of whose JSON files says something else."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors"))
    content = json.loads((target / name).read_text()) if (target / name).exists() else {}
    (target / name).write_text(json.dumps(content | settings))
    return target


@pytest.fixture(scope="module")
def family(tiny_internvl: Path) -> Family:
    return load_family(tiny_internvl)


@given(sides, sides, st.sampled_from([56, 448]), st.integers(1, 8), st.integers(0, 40))
def test_canvas_is_that_of_transformers(width: int, height: int, tile: int, fewest: int, more: int) -> None:
    most = fewest + more
    expected = get_optimal_tiled_canvas((height, width), (tile, tile), fewest, most)
    assert tiled_canvas(width, height, tile=tile, fewest=fewest, most=most) == expected


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 200), st.integers(1, 40))
def test_canvas_is_that_of_transformers_where_shapes_tie(columns: int, rows: int, unit: int, most: int) -> None:
    width, height = columns * unit, rows * unit
    expected = get_optimal_tiled_canvas((height, width), (56, 56), 1, most)
    assert tiled_canvas(width, height, tile=56, fewest=1, most=most) == expected


@given(sides, sides)
def test_placeholders_are_as_many_as_transformers_foresees(family: Family, width: int, height: int) -> None:
    processor = GotOcr2ImageProcessorPil(**tiny_model.image_settings("internvl"))
    tiles = processor.get_number_of_image_patches(height, width, {"crop_to_patches": True})
    grid = family.grid(width, height)
    assert grid[0] == tiles
    assert family.image_tokens(grid) == tiles * 4


def test_prompt_and_pixels_are_those_of_transformers_own_processor(tiny_internvl: Path, family: Family) -> None:
    images = [noise(200, 120), noise(64, 333)]
    processor = own_processor(tiny_internvl)
    content: list[dict[str, Any]] = []
    for index, text in enumerate(USER.split("<image>")):
        content += [{"type": "image"}] if index else []
        content += [{"type": "text", "text": text}]
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
    rendered = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    reference = processor(text=[rendered], images=[image.image for image in images], return_tensors="pt")
    span = family.encode_parts(family.prompt_parts(SYSTEM, USER, images))
    assert list(span.ids) == reference["input_ids"][0].tolist()
    assert span.ids.count(family.image_token_id) == sum(map(family.image_tokens, span.grids)) > 8
    rows, grids = pixels(family, images)
    torch.testing.assert_close(rows, reference["pixel_values"], rtol=0, atol=0)
    assert [tuple(grid) for grid in grids.tolist()] == list(span.grids)


def test_an_image_in_the_models_own_turn_is_written_as_a_server_would_write_it(
    tiny_internvl: Path, family: Family
) -> None:
    """Servers render an observation's images by the chat template, which puts a line break behind each."""
    processor, images = own_processor(tiny_internvl), [noise(90, 90), noise(150, 60)]
    parts = ["look <sandbox_output>", images[0], images[1], "seven</sandbox_output> so"]
    content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": content}]
    rendered = processor.apply_chat_template(messages, tokenize=False)
    reference = processor(text=[rendered], images=[image.image for image in images], return_tensors="np")
    ours = family.encode_parts([*family.prompt_parts("", "What?", []), *parts, Control("<|im_end|>\n")])
    assert list(ours.ids) == reference["input_ids"][0].tolist()


@given(width=st.integers(1, 400), height=st.integers(1, 400))
def test_tiles_of_any_size_are_those_of_transformers(
    tiny_internvl: Path, family: Family, width: int, height: int
) -> None:
    image = noise(width, height)
    reference = GotOcr2ImageProcessorPil.from_pretrained(tiny_internvl, crop_to_patches=True)
    rows, grid = pixels(family, [image])
    assert torch.equal(rows, reference(images=[image.image], return_tensors="pt")["pixel_values"])
    assert tuple(grid[0].tolist()) == family.grid(width, height)
    assert rows.shape == (grid[0, 0], 3, tiny_model.TILE, tiny_model.TILE)


def test_transparency_is_shown_on_white(family: Family) -> None:
    clear = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    assert torch.equal(*(pixels(family, [ImageRecord.of(i)])[0] for i in (clear, Image.new("RGB", (30, 30), "white"))))


def test_published_settings_make_256_tokens_a_tile(tmp_path: Path, tiny_internvl: Path) -> None:
    folder = changed(tiny_internvl, tmp_path / "large", "preprocessor_config.json", size={"height": 448, "width": 448})
    (folder / "processor_config.json").write_text(json.dumps({"image_seq_length": 256}))
    large = load_family(folder)
    assert large.grid(300, 300) == (1, 32, 32)
    assert large.image_tokens(large.grid(300, 300)) == 256
    assert large.seen_size(1000, 500) == (896, 448)


def test_pixel_limits_bound_the_canvas(tiny_internvl: Path, family: Family) -> None:
    area = tiny_model.TILE**2
    assert isinstance(family, InternVLFamily)
    assert (family.fewest_tiles, family.most_tiles) == (1, 6)
    smaller, larger = (load_family(tiny_internvl, max_pixels=most * area + 1) for most in (2, 12))
    assert smaller.grid(2000, 2000)[0] == 1
    assert smaller.grid(2000, 1000)[0] == 3  # two tiles and the thumbnail
    assert larger.grid(2000, 2000)[0] == 10
    assert load_family(tiny_internvl, min_pixels=3 * area + 1).grid(5, 5)[0] == 5
    reference = own_processor(tiny_internvl, max_patches=2)
    made = reference(images=[noise(200, 100).image], text=["<IMG_CONTEXT>"], return_tensors="pt")
    assert torch.equal(pixels(smaller, [noise(200, 100)])[0], made["pixel_values"])


def test_limits_that_cannot_be_kept_are_refused(tiny_internvl: Path) -> None:
    area = tiny_model.TILE**2
    with pytest.raises(UsageError, match=f"max_pixels {area - 1} .* no less than {area}"):
        load_family(tiny_internvl, max_pixels=area - 1)
    with pytest.raises(UsageError, match=r"at least 4 and at most 3 .*lower min_pixels"):
        load_family(tiny_internvl, min_pixels=4 * area, max_pixels=3 * area)


def test_files_that_contradict_each_other_are_refused(tmp_path: Path, tiny_internvl: Path) -> None:
    for index, (name, settings, said) in enumerate(
        [
            ("config.json", {"downsample_ratio": 0.25}, "make the 4 tokens a tile"),
            ("processor_config.json", {"image_seq_length": 9}, "9 tokens a tile"),
            ("preprocessor_config.json", {"size": {"height": 60, "width": 60}}, "tiles of 60 pixels"),
            ("preprocessor_config.json", {"size": {"height": 56, "width": 112}}, "only squares"),
        ]
    ):
        with pytest.raises(ModelNotFoundError, match=said):
            load_family(changed(tiny_internvl, tmp_path / str(index), name, **settings))


def test_engines_that_cannot_run_it_name_the_way_out(tiny_internvl: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"internvl.* OpenAI-compatible server.*http"):
        LocalCheckpoint.find(tiny_internvl, EngineConfig())


@pytest.mark.parametrize("written", ["<image>", "<IMG_CONTEXT><IMG_CONTEXT>", "<IMG_CONTEXT>{{ loop.index }}"])
def test_a_template_that_writes_images_otherwise_is_refused(tmp_path: Path, tiny_internvl: Path, written: str) -> None:
    folder = changed(tiny_internvl, tmp_path / "odd", "config.json")
    template = tiny_model.INTERNVL_TEMPLATE.replace("{{ '<IMG_CONTEXT>\\n' }}", written)
    assert written in template
    (folder / "chat_template.jinja").write_text(template)
    odd = load_family(folder)
    with pytest.raises(ModelNotFoundError, match="does not write images as models of type 'internvl'"):
        odd.prompt_parts("", "<image> and <image>", [noise(9, 9), noise(9, 8)])
    assert odd.prompt_parts("", "no image", [])


def test_a_tokenizer_without_the_image_tokens_is_refused(tmp_path: Path, tiny_internvl: Path) -> None:
    folder = changed(tiny_internvl, tmp_path / "bare", "config.json")
    tiny_model.build_tokenizer("qwen2_5_vl").save_pretrained(folder)
    with pytest.raises(ModelNotFoundError, match=r"no special token <img>, <IMG_CONTEXT>, </img>"):
        load_family(folder)
