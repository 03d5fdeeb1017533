"""The byte table of a vocabulary is the tokenizer's own decoding, for whole texts and for broken characters."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from thyme.errors import ModelNotFoundError
from thyme.families import load_family
from thyme.families.byte_level import vocabulary_bytes

TOKENIZER = tiny_model.build_tokenizer(tags_as_tokens=True)
TABLE = vocabulary_bytes(TOKENIZER)


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40))
def test_bytes_of_any_ids_decode_as_the_tokenizer_does(ids: list[int]) -> None:
    expected = TOKENIZER.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert b"".join(TABLE[index] for index in ids).decode("utf-8", "replace") == expected


@given(st.text())
def test_text_comes_back_from_its_ids(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    nfc = TOKENIZER.backend_tokenizer.normalizer.normalize_str(text)
    assert b"".join(TABLE[index] for index in ids) == nfc.encode("utf-8", "surrogatepass")


def test_every_byte_is_in_the_table() -> None:
    assert {entry for entry in TABLE if len(entry) == 1} == {bytes([byte]) for byte in range(256)}


def test_the_end_of_a_turn_has_no_text_other_special_tokens_do(tiny_qwen2_5_vl: Path) -> None:
    family = load_family(tiny_qwen2_5_vl)
    end, start = (family.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|im_start|>"))
    assert end in family.end_ids
    assert family.decode([*family.encode_text("so"), end]) == "so"
    assert family.decode([start]) == "<|im_start|>"


def test_a_tokenizer_that_is_not_byte_level_is_refused() -> None:
    plain = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    plain.decoder = decoders.WordPiece()
    with pytest.raises(ModelNotFoundError, match="WordPiece"):
        vocabulary_bytes(PreTrainedTokenizerFast(tokenizer_object=plain))
