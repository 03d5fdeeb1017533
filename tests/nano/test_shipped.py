"""The weights in the package: their size, that plain transformers loads them, and that they do what the card says."""

import json

import pytest

from thyme.nano import CHECKPOINTS, checkpoint_path
from thyme.nano.evaluate import ARMS, measure
from thyme.nano.world import KINDS

NAMES = ("final", "base", "undecided", "direct")
ASKED = ("easy", "zoom", "arithmetic")


def test_all_together_stay_below_24_mb():
    assert sum(f.stat().st_size for f in CHECKPOINTS.rglob("*") if f.is_file()) < 24_000_000


@pytest.mark.parametrize("name", NAMES)
def test_plain_transformers_loads_them_in_bf16_with_an_end_and_a_template(name):
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer, GenerationConfig

    folder = checkpoint_path(name)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert sum(p.numel() for p in model.parameters()) < 5_500_000
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in GenerationConfig.from_pretrained(folder).eos_token_id
    said = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert said == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert (folder / "README.md").read_text().count("world") > 1


@pytest.fixture(scope="module")
def measured():
    return measure(seed=2024, per_kind=5, kinds=ASKED, progress=False)


def test_zoom_needs_code_and_easy_does_not(measured):
    zoom, easy = measured.arms["tools"]["zoom"], measured.arms["tools"]["easy"]
    assert zoom.accuracy.value >= 0.5
    assert zoom.tool_rate.value == 1
    assert measured.rate("no_tools", "zoom").value <= 0.34
    assert measured.rate("direct", "zoom").value <= 0.34
    assert easy.accuracy.value >= 0.5
    assert easy.tool_rate.value <= 0.34
    assert measured.executable.value >= 0.9


def test_the_json_has_the_shape_that_was_promised(measured, tmp_path):
    measured.write(tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() == {"kinds", "executable_rate", "seconds"}
    assert list(figures["kinds"]) == [kind for kind in KINDS if kind in ASKED]
    for arms in figures["kinds"].values():
        assert list(arms) == list(ARMS)
        assert arms["tools"].keys() == {"accuracy", "tool_rate", "executable_rate"}
        assert arms["no_tools"].keys() == arms["direct"].keys() == {"accuracy"}
    assert figures["kinds"]["arithmetic"]["tools"]["tool_rate"] == 1
