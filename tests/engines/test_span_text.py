"""The text of a span: equal to decoding everything at once, with strings found wherever token borders fall."""

from __future__ import annotations

from itertools import pairwise

import tiny_model
from hypothesis import given
from hypothesis import strategies as st

from thyme.engines.span_text import SpanText
from thyme.families.byte_level import vocabulary_bytes

TABLE = vocabulary_bytes(tiny_model.build_tokenizer())
TAGS = ("<code>", "</code>", "</answer>", "图片")
pieces = st.lists(st.sampled_from([*TAGS, "<", "</", "code", ">", "a", "ü", "🙂", "图", "</co"]), max_size=12).map(
    "".join
)


def cut(text: str, borders: list[int]) -> list[bytes]:
    """The text's bytes as tokens, cut anywhere, inside characters too."""
    data = text.encode()
    places = sorted({0, len(data), *(border % (len(data) + 1) for border in borders)})
    return [data[a:b] for a, b in pairwise(places)]


def first_end(data: bytes, strings: tuple[str, ...], after: int) -> int | None:
    """Naive oracle: where the first of the strings to end behind `after` ends."""
    ends = [
        at + len(s.encode())
        for s in strings
        for at in range(len(data))
        if data.startswith(s.encode(), at) and at + len(s.encode()) > after
    ]
    return min(ends, default=None)


@given(st.lists(st.integers(0, len(TABLE) - 1), max_size=30))
def test_pieces_join_to_the_decoding_of_all_ids(ids: list[int]) -> None:
    text = SpanText(TABLE)
    joined = "".join(text.push(token)[0] for token in ids) + text.flush()
    assert joined == b"".join(TABLE[token] for token in ids).decode("utf-8", "replace")


@given(pieces, pieces, st.lists(st.integers(0, 200), max_size=8))
def test_stop_strings_are_found_across_any_borders(before: str, after: str, borders: list[int]) -> None:
    tokens = cut(after, borders)
    text = SpanText(tokens, stop=TAGS, before=before)
    expected = first_end((before + after).encode(), TAGS, len(before.encode()))
    fed = len(before.encode())
    for index, token in enumerate(tokens):
        stop_string = text.push(index)[1]
        fed += len(token)
        if stop_string is not None:
            assert expected is not None
            assert fed - len(token) < expected <= fed
            assert (before + after).encode()[:expected].endswith(stop_string.encode())
            return
    assert expected is None


@given(pieces, pieces, st.lists(st.integers(0, 200), max_size=8))
def test_blocked_strings_are_seen_coming(before: str, after: str, borders: list[int]) -> None:
    tokens = cut(after, borders)
    text = SpanText(tokens, blocked=TAGS, before=before)
    fed = len(before.encode())
    for index, token in enumerate(tokens):
        end = first_end((before + after).encode()[: fed + len(token)], TAGS, fed)
        assert text.completes_blocked(index) == (end is not None)
        text.push(index)
        fed += len(token)


def test_a_character_is_held_back_until_it_is_whole() -> None:
    tokens = ["🙂".encode()[:2], "🙂".encode()[2:], "ü".encode()[:1]]
    text = SpanText(tokens)
    assert [text.push(index)[0] for index in range(3)] == ["", "🙂", ""]
    assert text.flush() == "\ufffd"


def test_a_tag_that_was_complete_before_the_span_does_not_stop_it() -> None:
    text = SpanText([b"print"], stop=("<code>", "</answer>"), blocked=("<code>",), before="<code>")
    assert not text.completes_blocked(0)
    assert text.push(0) == ("print", None)


def test_the_first_string_to_end_is_the_one_reported() -> None:
    assert SpanText([b"</code></answer>"], stop=("</answer>", "</code>")).push(0)[1] == "</code>"


def test_strings_of_one_byte_are_looked_for_too() -> None:
    text = SpanText([b"a", b"xb"], stop=("b",), blocked=("a",))
    assert [text.push(index)[1] for index in range(2)] == [None, "b"]
    assert [text.completes_blocked(index) for index in range(2)] == [True, False]
