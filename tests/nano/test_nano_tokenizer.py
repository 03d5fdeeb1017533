"""The embedded model's tokenizer: labels, tags, places and digits are the tokens they are meant to be."""

from itertools import product

import pytest
from tokenizers import Tokenizer

from thyme.markup import TAGS
from thyme.nano import CHECKPOINTS
from thyme.nano.perception.questions import COORDINATE_TOKENS
from thyme.nano.tokenizer import SPECIAL, VOCABULARY, token_id
from thyme.nano.world import CHARACTERS, COLORS


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(CHECKPOINTS / "final" / "tokenizer.json"))


def test_every_label_is_two_tokens_wherever_it_stands(tokenizer):
    for label in map("".join, product(CHARACTERS, repeat=2)):
        assert len(tokenizer.encode(label).ids) == 2, label
        assert tokenizer.encode(f"I see red {label}.").ids[-3:-1] == tokenizer.encode(label).ids


def test_tags_are_one_token_and_survive_decoding(tokenizer):
    for tag in TAGS:
        if tag != "<image>":
            assert len(tokenizer.encode(tag).ids) == 1
            assert tokenizer.decode(tokenizer.encode(tag).ids, skip_special_tokens=True) == tag


def test_control_tokens_are_special_and_do_not(tokenizer):
    for token in (*SPECIAL, *COORDINATE_TOKENS):
        assert len(tokenizer.encode(token).ids) == 1
        assert tokenizer.decode(tokenizer.encode(token).ids, skip_special_tokens=True) == ""


def test_digits_are_single_and_colours_whole(tokenizer):
    assert [t.strip("Ġ") for t in tokenizer.encode("(640, 32)").tokens] == ["(", "6", "4", "0", ",", "", "3", "2", ")"]
    for color in COLORS:
        assert len(tokenizer.encode(f" {color}").ids) == 1


@pytest.mark.parametrize("text", ["Grüße, 世界! \n\t x<y", "<code>\nprint(1)\n</code>", ""])
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_it_fits_the_embedding_and_is_the_same_for_all():
    texts = {(CHECKPOINTS / name / "tokenizer.json").read_text() for name in ("final", "base", "undecided", "direct")}
    assert len(texts) == 1
    made = Tokenizer.from_str(texts.pop())
    assert made.get_vocab_size() <= VOCABULARY


def test_an_unknown_token_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="lacks"):
        token_id(tokenizer, "<|nowhere|>")
