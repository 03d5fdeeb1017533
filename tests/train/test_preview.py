"""What is shown of samples is what is in them: every token once, no character torn, nothing that acts."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import samples
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from thyme.families import Family, load_family
from thyme.train.encode import Encoded, MaskPolicy, encode, encode_turns
from thyme.train.report.preview import TOKENS_FILE, pieces, preview, tokens_page, write_tokens_page

ATTACK = "</pre><script>alert(1)</script>\x1b[31m\x00{{ 7*7 }}"


@pytest.fixture(scope="module")
def family(tiny_qwen2_5_vl: Path) -> Family:
    return load_family(tiny_qwen2_5_vl)


def two_rounds(family: Family, stdout: str = "") -> Encoded:
    made = samples.trajectory(
        [samples.crop(1), samples.crop(2, stdout=stdout)], family=family, images=[samples.picture(0)]
    )
    return encode(made, family, MaskPolicy.RELEASED)


def shown(sample: Encoded, family: Family, **options: int) -> str:
    """What a terminal gets, colours and all."""
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=200)
    console.print(preview([sample], family, **options))
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_pieces_are_the_sample_in_order(family: Family) -> None:
    sample = two_rounds(family)
    made = pieces(sample, family)
    assert sum(piece.tokens for piece in made) == len(sample)
    assert sum(piece.tokens for piece in made if piece.look == "trained") == sample.trained
    written = "".join(piece.text for piece in made if piece.look != "image")
    assert written.startswith("<|im_start|>system\nThink with code.<|im_end|>")
    assert written.endswith("<answer>2</answer><|im_end|>")
    assert [piece.look for piece in made if piece.look not in {"image", "prompt"}][:2] == ["masked", "observation"]


def test_images_are_one_mark_each(family: Family) -> None:
    """Two of them next to each other too, whose placeholders may form one run."""
    sample = two_rounds(family)
    marks = [piece for piece in pieces(sample, family) if piece.look == "image"]
    assert [mark.text for mark in marks] == ["[image 2x2 = 4 tokens]"] * 3
    start = int(np.flatnonzero(sample.ids == family.image_token_id)[0])
    pads = np.repeat(np.int32(family.image_token_id), 10)
    together = replace(sample, ids=sample.ids.copy(), grids=((1, 4, 4), (1, 4, 6)))
    together.ids[start : start + 10] = pads
    runs = [piece for piece in pieces(together, family) if piece.look == "image"][:2]
    assert [(run.text, run.tokens) for run in runs] == [("[image 2x2 = 4 tokens]", 4), ("[image 2x3 = 6 tokens]", 6)]


@settings(max_examples=40)
@given(text=st.text(st.characters(codec="utf-8"), min_size=1))
def test_no_character_is_torn(family: Family, text: str) -> None:
    """The tiny vocabulary has single bytes for most characters: each character is several tokens."""
    sample = encode_turns([("?", text)], [], family)
    answers = [piece.text for piece in pieces(sample, family) if piece.look == "trained"]
    normal = family.decode(family.encode_text(text))
    assert answers == [normal + "<|im_end|>"]


@settings(max_examples=20)
@given(border=st.integers(1, 40))
def test_a_mask_that_cuts_a_character_loses_no_token(family: Family, border: int) -> None:
    sample = encode_turns([("?", "图片图片")], [], family)
    mask = sample.loss_mask.copy()
    mask[-border:] = True
    mask[:-border] = False
    made = pieces(replace(sample, loss_mask=mask), family)
    assert sum(piece.tokens for piece in made) == len(sample)
    assert sum(piece.tokens for piece in made if piece.look == "trained") == min(border, len(sample))


def test_ids_beyond_the_vocabulary_are_named(family: Family) -> None:
    """Embeddings are padded to a round number; a broken record may hold such an id."""
    sample = encode_turns([("?", "ab")], [], family)
    ids = sample.ids.copy()
    ids[-2] = 10**6
    assert "[id 1000000]" in pieces(replace(sample, ids=ids), family)[-1].text


def test_a_terminal_gets_no_foreign_control_codes(family: Family) -> None:
    text = shown(two_rounds(family, stdout=ATTACK), family)
    assert "\x00" not in text
    own = re.compile(r"\x1b\[[0-9;]*m")
    assert "�[31m" in own.sub("", text)
    assert "\x1b" not in own.sub("", text)


def test_the_end_of_a_long_sample_is_shown(family: Family) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown(two_rounds(family), family, limit=30))
    assert "… " in text
    assert text.rstrip().endswith("<answer>2</answer><|im_end|>")
    assert "system" not in text


def test_the_page_escapes_and_stands_alone(family: Family, tmp_path: Path) -> None:
    path = write_tokens_page([two_rounds(family, stdout=ATTACK)], family, tmp_path)
    assert path.name == TOKENS_FILE
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert "\x00" not in page
    assert "\x1b" not in page
    assert "url(" not in page
    assert 'class="tok trained"' in page
    assert "There is no sample" in tokens_page([], family)


def test_the_page_says_of_which_stage_a_sample_is(family: Family) -> None:
    page = tokens_page([two_rounds(family)] * 2, family, stages=["images", "maths"])
    assert re.findall(r"<h2[^>]*>(\w+), sample (\d)", page) == [("images", "1"), ("maths", "2")]
