"""The answer and the reasoning come out the same however the text was cut, and as `extract_answer` finds them."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.events import ExecutionEvent, FinishedEvent, GeneratedEvent
from thyme.markup import TAGS, extract_answer, observation_text
from thyme.serve.answer import AnswerReader, Delta
from thyme.types import Execution, Observation

words = st.text(st.sampled_from("ab 1<>/\n&é"), max_size=12)
responses = st.lists(st.one_of(words, st.sampled_from(TAGS)), max_size=14).map("".join)


def read(response: str, cuts: list[int] | None = None, stops: tuple[str, ...] = ()) -> tuple[AnswerReader, list[Delta]]:
    reader = AnswerReader(stops)
    borders = sorted({0, len(response), *(cut % (len(response) + 1) for cut in cuts or [])})
    deltas = [delta for a, b in pairwise(borders) for delta in reader.feed_text(response[a:b])]
    return reader, [*deltas, *reader.close()]


def said(deltas: list[Delta], channel: str) -> str:
    return "".join(delta.text for delta in deltas if delta.channel == channel)


@given(responses, st.lists(st.integers(0, 200), max_size=20), st.lists(words.filter(bool), max_size=3))
def test_cuts_change_nothing(response: str, cuts: list[int], stops: list[str]) -> None:
    whole, one = read(response, stops=tuple(stops))
    pieces, many = read(response, cuts, tuple(stops))
    assert (pieces.content, pieces.reasoning) == (whole.content, whole.reasoning)
    for channel in ("content", "reasoning"):
        assert said(many, channel) == said(one, channel)
    assert said(many, "reasoning") == pieces.reasoning
    assert said(many, "content").endswith(pieces.content)


@given(responses)
def test_a_closed_answer_is_the_one_that_everybody_else_finds(response: str) -> None:
    expected = extract_answer(response)
    reader, deltas = read(response)
    if expected is not None:
        assert reader.content == expected
        if response.count("<answer>") == 1:
            assert said(deltas, "content") == expected


@given(words, words)
def test_nothing_of_the_answer_waits_that_is_certain(thought: str, answer: str) -> None:
    """While it is being written: all of it but blanks at its end, and what may be the beginning of a tag."""
    reader = AnswerReader()
    reader.feed_text(f"<think>{thought}</think><answer>")
    reader.feed_text(answer)
    held = answer.strip()[len(reader.content) :]
    assert answer.strip().startswith(reader.content)
    assert not held.strip() or any(tag.startswith(held.strip()) for tag in TAGS)


@pytest.mark.parametrize(
    ("response", "content"),
    [
        ("<think>a</think><answer> 7 </answer>", "7"),
        ("<think>a</think> It is 7. ", "It is 7."),  # no tag: what follows the thinking
        ("<think>It is 7.", "It is 7."),  # cut short: what there is
        ("It is 7.", "It is 7."),
        ("<think>a</think>", "a"),
        ("", ""),
        ("<answer></answer>", ""),
        ("<think>a</think><answer>sev", "sev"),  # cut inside the answer
        ("<think>a<code>print('<answer>no</answer>')</code>", "a"),  # a tag in code is only text
        ("x<code>1</code>\n<sandbox_output>\n&lt;answer>\n</sandbox_output>\nIt is 7.", "It is 7."),
        ("<answer>a<code>1</code><sandbox_output>1</sandbox_output><answer>b</answer>", "b"),
        ("<answer>7</answer> and <answer>8</answer>", "7"),
        ("<answer>a <think>b</think></answer>", "a <think>b</think>"),
    ],
)
def test_content(response: str, content: str) -> None:
    assert read(response)[0].content == content


@pytest.mark.parametrize(
    ("stops", "content"),
    [
        ((".",), "one"),
        (("two", "one. t"), ""),
        ((" three",), "one. two."),
        (("four",), "one. two. three"),
        (("e",), "on"),
    ],
)
def test_stop_strings_cut_the_answer(stops: tuple[str, ...], content: str) -> None:
    response = "<think>one. two. three</think><answer>one. two. three</answer>"
    reader, deltas = read(response, [40, 45, 47, 51], stops)
    assert reader.content == said(deltas, "content") == content
    assert reader.reasoning == "one. two. three"


def test_long_stop_strings_cost_no_time() -> None:
    """All stop strings that a request may have, compared with every piece of an answer, do not hold up the others."""
    reader = AnswerReader(tuple(f"{n:02}" + "x" * 998 for n in range(16)))
    began = time.process_time()
    for piece in ["<answer>", *["word "] * 2000, "</answer>"]:
        reader.feed_text(piece)
    assert time.process_time() - began < 2


def test_events() -> None:
    """Text, code and observations are reasoning; the last event says nothing new."""
    execution = Execution(code="1", stdout="9\n")
    observation = Observation(execution=execution, text=observation_text(execution))
    reader = AnswerReader()
    for event in (
        GeneratedEvent("text", "<think>Look: <code>"),
        GeneratedEvent("code", "1</code>"),
        ExecutionEvent(observation),
        GeneratedEvent("text", "nine</think><answer>9</answer>"),
    ):
        reader.feed(event)
    assert reader.feed(FinishedEvent(None)) == []  # type: ignore[arg-type]  # what it carries is not looked at
    assert reader.reasoning == "Look: <code>1</code>\n<sandbox_output>\n9\n</sandbox_output>\nnine"
    assert reader.content == "9"
