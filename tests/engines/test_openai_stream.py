"""What a server sends is read the same however it is cut: events, stop strings, what lies beyond them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.engines.base import Request
from thyme.engines.openai_span import Limits, StringWatch, TextReader, TokenReader, overhang
from thyme.engines.openai_stream import Delta, EventParser, Token, parse_delta, parse_json
from thyme.errors import EngineError
from thyme.families import Family, load_family
from thyme.nano import checkpoint_path
from thyme.types import Generated, Prompt

STOPS = ("<code>", "</answer>")
TEXTS = st.text(alphabet="<>/codeanswrab é", max_size=30)


@pytest.fixture(scope="module")
def nano() -> Family:
    return load_family(checkpoint_path("final"))


def cut(text: str, places: list[int]) -> list[str]:
    """A text in pieces, some of them empty."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def request(**fields: object) -> Request:
    return Request("t", Prompt(system="", user="?"), **{"stop": STOPS, **fields})  # type: ignore[arg-type]  # any field


# --- events -----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.text(alphabet="ab: \u2028\x85é{}", min_size=1), max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(0, 500), max_size=8),
)
def test_events_are_the_same_however_the_bytes_are_cut(events: list[str], end: str, places: list[int]) -> None:
    stream = f": hello{end}{end}" + "".join(f"event: x{end}data: {event}{end}{end}: alive{end}" for event in events)
    sent = stream.encode()
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    parser = EventParser()
    found = [event for a, b in pairwise(edges) for event in parser.feed(sent[a:b])]
    assert found + parser.end() == events


def test_an_event_of_several_lines_or_without_an_end_is_whole() -> None:
    parser = EventParser()
    assert parser.feed(b"data:a\ndata: b\n\ndata: c") == ["a\nb"]
    assert parser.end() == ["c"]
    assert parser.end() == []


def test_an_answer_is_read_whatever_its_server_calls_things() -> None:
    vllm = {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop", "stop_reason": "</code>"}]}
    sglang = {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop", "matched_stop": "</code>"}]}
    assert parse_delta(vllm) == parse_delta(sglang) == Delta("x", finish="stop", stop_string="</code>")
    ended = {"choices": [{"message": {"content": None}, "finish_reason": "stop", "matched_stop": 151645}]}
    assert parse_delta(ended) == Delta(finish="stop")
    assert parse_delta({"choices": [], "usage": {}}) == Delta()
    assert parse_delta({"choices": [{"delta": {"reasoning_content": "hm"}}]}).reasoning == "hm"


@pytest.mark.parametrize("data", ["", "<html>", "[1]", b"\xff"])
def test_what_is_no_json_is_no_openai_server(data: str | bytes) -> None:
    with pytest.raises(EngineError, match=r"http://h/v1 answered with something that is not JSON.*/v1"):
        parse_json(data, "http://h/v1")


# --- stop strings in text ---------------------------------------------------------------------------------------------


@given(TEXTS, st.sampled_from(["", *STOPS]), TEXTS, st.lists(st.integers(0, 99), max_size=9))
def test_a_span_ends_with_the_first_stop_string_however_the_text_is_cut(
    head: str, stop: str, tail: str, places: list[int]
) -> None:
    text = head + stop + tail
    ends = [(text.find(s) + len(s), s) for s in STOPS if s in text]
    expected = (text[: min(ends)[0]], min(ends)[1]) if ends else (text, None)
    watch, got, found = StringWatch(STOPS), "", None
    for piece in cut(text, places):
        kept, found = watch.feed(piece)
        got += kept
        if found is not None:
            break
    assert (got, found) == expected


@given(TEXTS, TEXTS, st.lists(st.integers(0, 99), max_size=9))
def test_a_blocked_string_is_never_let_through(head: str, tail: str, places: list[int]) -> None:
    watch, got = StringWatch(("</answer>",), ("<code>",)), list[str]()
    text = head.replace("</answer>", "") + "<code>" + tail
    if "</answer>" in text[: text.find("<code>") + 6]:
        return

    def read() -> None:
        for piece in cut(text, places):
            got.append(watch.feed(piece)[0])

    with pytest.raises(EngineError, match="<code>, which is not allowed"):
        read()
    assert "<code>" not in "".join(got)


@given(TEXTS, st.sampled_from(STOPS), TEXTS, st.lists(st.integers(0, 99), max_size=9), st.booleans())
def test_readers_put_back_what_the_server_took_out_and_what_the_token_carries_beyond_it(
    head: str, stop: str, beyond: str, places: list[int], strips: bool
) -> None:
    """The server's tokens are any cut of the text; the last one reaches beyond the stop string."""
    if any(s in (head + stop)[:-1] for s in STOPS):
        return
    pieces = [piece for piece in cut(head + stop, places) if piece]
    pieces[-1] += beyond
    reader = TextReader(request(), Limits(99, logprobs=True), with_ids=True)
    shown = head if strips else head + stop
    chunks = []
    for number, piece in enumerate(pieces):
        last = number + 1 == len(pieces)
        text, shown = (shown, "") if last else (shown[: len(piece)], shown[len(piece) :])
        finish = {"finish": "stop", "stop_string": stop} if last else {}
        chunk = reader.feed(Delta(text, token_ids=(number,), tokens=(Token(piece, -0.5),), **finish))
        chunks += [chunk] if chunk is not None else []
    if overhang(head + stop, Token(pieces[-1], 0)) == beyond:  # else the token repeats itself and nobody can tell
        assert "".join(chunk.text for chunk in chunks) == head + stop + beyond
    assert [token for chunk in chunks for token in chunk.token_ids] == list(range(len(pieces)))
    assert sum(len(chunk.logprobs) for chunk in chunks) == len(pieces)
    assert (chunks[-1].stop, chunks[-1].stop_string) == ("stop", stop)


def test_without_ids_the_text_ends_with_the_stop_string() -> None:
    reader = TextReader(request(), Limits(99), with_ids=False)
    chunk = reader.feed(Delta("a<code>\nimport", token_ids=(5,), tokens=(Token("a<code>\nimport", 0.0),)))
    assert chunk is not None
    assert (chunk.text, chunk.token_ids, chunk.logprobs, chunk.stop) == ("a<code>", (), (), "stop")


# --- ids --------------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["<think>red", "é⌀<|x5|><|y3|>", "", "no</cod"]),
    st.sampled_from(["", *STOPS]),
    st.sampled_from(["", " 22.</think>", "<answer>é"]),
    st.lists(st.integers(0, 99), max_size=5),
)
def test_ids_give_the_same_span_however_they_are_bundled(
    nano: Family, head: str, stop: str, tail: str, places: list[int]
) -> None:
    ids = nano.encode_text(head + stop + tail)
    expected = len(nano.encode_text(head + stop)) if stop else len(ids)
    reader = TokenReader(request(), Limits(99, logprobs=True), nano)
    edges = [0, *sorted(place % (len(ids) + 1) for place in places), len(ids)]
    chunks = [
        reader.feed(Delta("", token_ids=tuple(ids[a:b]), tokens=tuple(Token("", -1.0) for _ in ids[a:b])))
        for a, b in pairwise(edges)
    ]
    until = next((n + 1 for n, chunk in enumerate(chunks) if chunk is not None and chunk.stop is not None), len(chunks))
    got = [chunk for chunk in chunks[:until] if chunk is not None]
    if not stop:
        last = reader.feed(Delta(finish="stop", token_ids=(nano.end_ids[-1],), tokens=(Token("", -1.0),)))
        assert last is not None
        assert (last.stop, last.token_ids) == ("end", (nano.end_ids[-1],))
        got.append(last)
        ids.append(nano.end_ids[-1])
        expected += 1
    assert [token for chunk in got for token in chunk.token_ids] == ids[:expected]
    assert "".join(chunk.text for chunk in got) == nano.decode(ids[:expected]) == head + stop + ("" if stop else tail)
    assert sum(len(chunk.logprobs) for chunk in got) == expected
    assert got[-1].stop == ("stop" if stop else "end")


def test_a_stop_string_may_begin_in_what_was_written_before(nano: Family) -> None:
    before = Generated(kind="text", text="<code></", temperature=0)
    reader = TokenReader(request(segments=(before,), stop=("</code>",)), Limits(9), nano)
    chunk = reader.feed(Delta(token_ids=tuple(nano.encode_text("code> x"))))
    assert chunk is not None
    assert (chunk.stop_string, chunk.text) == ("</code>", "code>")


def test_how_a_span_ends_by_the_servers_word(nano: Family) -> None:
    def stop_of(finish: str, limits: Limits, tokens: int = 1) -> str | None:
        chunk = TokenReader(request(), limits, nano).feed(Delta(token_ids=(90,) * tokens, finish=finish))
        return None if chunk is None else chunk.stop

    assert stop_of("length", Limits(2), 2) == "length"
    assert stop_of("length", Limits(3), 2) == "context"  # the server had no room for the third
    assert stop_of("length", Limits(2, capped=True), 2) == "context"
    with pytest.raises(EngineError, match="because of 'content_filter'"):
        stop_of("content_filter", Limits(2))


@pytest.mark.parametrize(
    ("delta", "problem"),
    [
        (Delta("x", reasoning=""), "left the token ids out"),
        (Delta("", reasoning="hm"), "reasoning parser"),
        (Delta(token_ids=(10**6,)), "wrote token 1000000.*name the checkpoint that is served"),
        (Delta(token_ids=(90,), finish="stop", stop_string="<code>"), "stopped at '<code>'.*name the checkpoint"),
    ],
)
def test_a_server_that_does_not_match_the_tokenizer_is_named(nano: Family, delta: Delta, problem: str) -> None:
    with pytest.raises(EngineError, match=problem):
        TokenReader(request(), Limits(9), nano).feed(delta)


def test_text_readers_say_that_reasoning_was_split_off() -> None:
    with pytest.raises(EngineError, match="--reasoning-parser"):
        TextReader(request(), Limits(9), with_ids=False).feed(Delta(reasoning="hm"))
