"""Reading a teacher's turn: what is text, what is code, what is cut off, what is put right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.data.scenarios.base import Refusal
from thyme.data.stages.base import Reply
from thyme.data.stages.turns import Turn, fault, read_turn
from thyme.markup import TAGS, violations


def reply(text: str, finish: str = "stop") -> Reply:
    return Reply(text, "toy", 0, 0, 0.0, recorded=False, finish=finish)


READ = {
    "a block": ("<think>a<code>x</code>", True, Turn("<think>a<code>x</code>", "<think>a<code>", "x</code>")),
    "an answer": ("b</think><answer>c</answer>", False, Turn(*["b</think><answer>c</answer>"] * 2, None)),
    "what is behind a block": ("a<code>x</code>b<code>y</code>", False, Turn("a<code>x</code>", "a<code>", "x</code>")),
    "what is behind an answer": ("<answer>c</answer><code>x</code>", True, Turn(*["<answer>c</answer>"] * 2, None)),
    "thinking that began in the prompt": (
        "a</think><answer>c</answer>",
        True,
        Turn("a</think><answer>c</answer>", "<think>a</think><answer>c</answer>", None),
    ),
    "thinking that was closed for a block": (
        "<think>a</think>\n<code>x</code>",
        True,
        Turn("<think>a</think>\n<code>x</code>", "<think>a\n<code>", "x</code>"),
    ),
    "thinking that begins again": (
        "\n<think>\nb</think><answer>c</answer>",
        False,
        Turn("\n<think>\nb</think><answer>c</answer>", "b</think><answer>c</answer>", None),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_turn_is_read_up_to_its_first_block_or_its_answer(name: str) -> None:
    text, first, expected = READ[name]
    assert read_turn(reply(text), first=first) == expected


def test_half_a_character_does_not_reach_the_record() -> None:
    turn = read_turn(reply("<think>\ud83d</think><answer>c</answer>"), first=True)
    assert isinstance(turn, Turn)
    assert turn.text.encode() == "<think>\N{REPLACEMENT CHARACTER}</think><answer>c</answer>".encode()


PIECES = st.lists(st.sampled_from([*TAGS, "a", " ", "\n", "x = 1", "<"]), max_size=12).map("".join)


@given(PIECES, st.booleans(), st.sampled_from(["stop", "length", "content_filter"]))
def test_any_text_is_a_turn_or_a_refusal_and_what_is_kept_of_it_is_its_beginning(
    text: str, first: bool, finish: str
) -> None:
    turn = read_turn(reply(text, finish), first=first)
    if isinstance(turn, Refusal):
        assert turn.reason
        return
    assert text.startswith(turn.said)
    assert turn.said.endswith("</answer>" if turn.code is None else "</code>")
    assert turn.text.endswith("</answer>" if turn.code is None else "<code>")
    assert (turn.code or "").count("</code>") == (turn.code is not None)
    assert "<sandbox_output>" not in turn.text


@given(PIECES)
def test_only_a_response_without_a_fault_is_well_formed(text: str) -> None:
    assert (fault(text) is None) == (not violations(text))
