"""The example's family sees what Qwen2-VL sees: pixels, placeholders, logits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_model
import torch
from extend_examples import example
from PIL import Image
from transformers import AutoModelForImageTextToText, Qwen2VLConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from thyme.errors import ModelNotFoundError
from thyme.families import FAMILIES, load_family
from thyme.families.tensors import features, pixels, tower_output
from thyme.types import ImageRecord


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Qwen2-VL of random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2-vl"
    tokenizer = tiny_model.build_tokenizer()
    successor = tiny_model.build_config("qwen2_5_vl", tokenizer)
    ids = {name: getattr(successor, name) for name in ("image_token_id", "video_token_id", "vision_start_token_id")}
    vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64, "patch_size": 14}
    text = successor.text_config.to_dict() | {"model_type": "qwen2_vl_text"}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(tiny_model.TEMPLATE, encoding="utf-8")
    settings = json.dumps(tiny_model.image_settings("qwen2_5_vl"))
    (folder / "preprocessor_config.json").write_text(settings, encoding="utf-8")
    return folder


@pytest.fixture
def known() -> Iterator[Any]:
    """The example, and its line in the registry for as long as the test runs."""
    module = example("own_family")
    FAMILIES[module.MODEL_TYPE] = module.__name__
    yield module
    del FAMILIES[module.MODEL_TYPE]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_it_sees_what_the_checkpoints_own_processor_sees(checkpoint: Path, known: Any) -> None:
    family = load_family(checkpoint)
    assert isinstance(family, known.Qwen2VLFamily)
    assert (family.name, family.coordinates) == ("qwen2_vl", "per_mille")
    for size in ((120, 200), (640, 480), (9, 5)):
        reference = Qwen2VLImageProcessorPil.from_pretrained(checkpoint)(images=[noise(*size)], return_tensors="pt")
        rows, grids = pixels(family, [ImageRecord.of(noise(*size))])
        torch.testing.assert_close(rows, reference["pixel_values"], rtol=0, atol=0)
        assert grids.tolist() == reference["image_grid_thw"].tolist()


def test_features_stand_for_pixels(checkpoint: Path, known: Any) -> None:
    family = load_family(checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint).eval()
    record = ImageRecord.of(noise(100, 80))
    ids = torch.tensor([family.encode_parts(family.prompt_parts("S", "<image>\nQ", [record])).ids])
    rows, grids = pixels(family, [record])
    told = {"image_grid_thw": grids, "mm_token_type_ids": (ids == family.image_token_id).long()}
    with torch.no_grad():
        (seen,) = features(model, rows, grids)
        assert len(seen) == int((ids == family.image_token_id).sum()) == family.image_tokens(family.grid(100, 80))
        made = tower_output("qwen2_vl", seen, 64)
        given = model(input_ids=ids, mm_encoder_outputs={"image": made}, **told).logits
        expected = model(input_ids=ids, pixel_values=rows, **told).logits
    torch.testing.assert_close(given, expected)


def test_without_its_line_it_is_unknown(checkpoint: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="qwen2_vl"):
        load_family(checkpoint)
