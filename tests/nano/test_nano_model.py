"""The lean forward pass against transformers' own class, on pixels that the shipped processor settings make."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from thyme.families import load_family
from thyme.families.qwen_vl_tensors import pixels
from thyme.nano import CHECKPOINTS
from thyme.nano.files import read_checkpoint, write_checkpoint
from thyme.nano.model import IMAGE_TOKENS, NanoConfig, NanoVL, patches, positions_of
from thyme.nano.perception.rows import Encoder, Row, collate
from thyme.nano.perception.views import look
from thyme.nano.world import problem
from thyme.types import ImageRecord


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(CHECKPOINTS / "base" / "tokenizer.json"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("random")
    write_checkpoint(folder, NanoVL(NanoConfig()), tokenizer, CHECKPOINTS / "base" / "prompts")
    return folder


@pytest.fixture(scope="module")
def images():
    scene = problem("test", 0, 0, "zoom").images[0]
    return [scene, ImageRecord.of(scene.image.crop((300, 400, 492, 592)))]


def test_the_lean_model_agrees_with_transformers(checkpoint, images, tokenizer):
    from transformers import AutoModelForImageTextToText

    lean, _ = read_checkpoint(checkpoint)
    lean.dtype = torch.float32
    encoder = Encoder(tokenizer)
    rows = [encoder.conversation([("What does the red plate say?", "K7"), ("And now?", "A3")], 0)]
    changed = encoder.encode("?")  # another row of the same length, about the other image
    rows.append(Row([*rows[0].ids[:-1], changed[0]], rows[0].trained, [1]))
    views = torch.from_numpy(np.stack([look(image.image) for image in images]))
    with torch.no_grad():
        batch = collate(rows, lean.see(views), encoder.image_id)
        ours = lean.logits(lean(batch.ids, batch.positions, batch.image_mask, batch.features))
        full = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
        values, grids = pixels(load_family(checkpoint), images)
        theirs = full(
            input_ids=batch.ids,
            attention_mask=torch.ones_like(batch.ids),
            mm_token_type_ids=batch.image_mask.int(),
            pixel_values=values,
            image_grid_thw=grids,
        ).logits
    assert ours.std() > 0.01
    length = len(rows[0].ids)  # padding has other positions in the two
    assert (ours - theirs)[:, :length].abs().max() < 1e-4


def test_our_patches_are_the_processors(checkpoint, images):
    values, _ = pixels(load_family(checkpoint), images)
    ours = patches(torch.from_numpy(np.stack([look(image.image) for image in images])))
    both = values.view(len(images), 256, 3, 2, 64)
    assert torch.equal(both[:, :, :, 0], both[:, :, :, 1])
    assert (both[:, :, :, 0].reshape(ours.shape) - ours).abs().max() < 1e-5


def test_weights_survive_the_folder_up_to_rounding(checkpoint):
    lean, _ = read_checkpoint(checkpoint)
    torch.manual_seed(0)
    made = NanoVL(NanoConfig())
    for (name, one), (_, other) in zip(lean.named_parameters(), made.named_parameters(), strict=True):
        assert torch.equal(one, other.bfloat16().float()), name


def test_the_section_list_is_plain_and_sums_to_half_a_head(checkpoint):
    text = json.loads((checkpoint / "config.json").read_text())["text_config"]
    section = text["rope_parameters"]["mrope_section"]
    assert len(section) == 3
    assert 2 * sum(section) == text["hidden_size"] // text["num_attention_heads"]


def test_positions_advance_by_the_longer_side_of_an_image():
    ids = [5, *([9] * IMAGE_TOKENS), 6, 7]
    made = positions_of(ids, 9)
    assert made[:, 0].tolist() == [0, 0, 0]
    assert made[:, 1].tolist() == [1, 1, 1]
    assert made[:, IMAGE_TOKENS].tolist() == [1, 8, 8]
    assert made[:, -2:].tolist() == [[9, 10]] * 3
