"""What clients write as messages becomes one question, with its pictures in order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agent_serving import picture, user
from hypothesis import given
from hypothesis import strategies as st

from thyme.serve.conversation import read_conversation
from thyme.serve.protocol import Message, read_request
from thyme.serve.refusal import Refusal


def question(*messages: dict[str, Any]) -> str:
    return read_conversation([Message.model_validate(message) for message in messages]).question


def said(role: str, *parts: Any) -> dict[str, Any]:
    return {**user(*parts)[0], "role": role}


def test_one_turn_is_the_question() -> None:
    assert question(said("user", " What? ")) == "What?"
    assert question(said("user", "What?", picture())) == "What?"
    assert question(said("user", picture(), "What?", "Say one word.")) == "What?\nSay one word."


def test_system_texts_stand_before_it() -> None:
    messages = [said("system", "Be short."), said("developer", "In French."), said("user", picture(), "What?")]
    assert question(*messages) == "Be short.\n\nIn French.\n\nWhat?"
    assert question(said("user", "What?"), said("system", "Be short.")) == "Be short.\n\nWhat?"
    assert question(said("system", ""), said("user", "What?")) == "What?"


def test_places_of_several_pictures_are_marked_where_they_matter() -> None:
    assert question(said("user", picture(), picture(), "Which?")) == "Which?"
    assert question(said("user", "A:", picture(), "B:", picture(), "Which?")) == "A:\n[Image 1]\nB:\n[Image 2]\nWhich?"
    assert question(said("user", picture(), "Which?", picture())) == "[Image 1]\nWhich?\n[Image 2]"


def test_earlier_turns_are_the_conversation_so_far() -> None:
    messages = [
        said("user", picture(), "What is it?"),
        said("assistant", "A dog."),
        said("user", picture(color="blue"), "And this?"),
    ]
    assert question(*messages) == (
        "The conversation so far:\n\nUser: [Image 1]\nWhat is it?\n\nAssistant: A dog.\n\n"
        "The user now says:\n\n[Image 2]\nAnd this?"
    )
    urls = read_conversation([Message.model_validate(message) for message in messages]).images
    assert [url.param for url in urls] == ["messages[0].content[0].image_url", "messages[2].content[0].image_url"]


def test_turns_of_one_role_in_a_row_are_one() -> None:
    """VLMEvalKit and others send a picture and its question in messages of their own."""
    assert question(said("user", picture()), said("user", "What?")) == "What?"
    assert question(said("user", "What?"), said("user", picture())) == "What?"


def test_image_url_may_be_a_string() -> None:
    part = {"type": "image_url", "image_url": "data:image/png;base64,AAAA"}
    assert read_conversation([Message.model_validate(said("user", part, "What?"))]).images[0].url.startswith("data:")


def test_assistant_without_content() -> None:
    assert "Assistant: \n" in question(said("user", "a"), {"role": "assistant", "content": None}, said("user", "b"))


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        ([said("user", "a"), said("assistant", "b")], "invalid_value", "last message must be the user's"),
        ([said("system", "a")], "invalid_value", "last message must be the user's"),
        ([said("user", picture())], "no_question", "no text"),
        ([said("user", "  ")], "no_question", "no text"),
        ([said("user", {"type": "input_audio", "input_audio": {}})], "unsupported_content", "input_audio"),
        ([said("user", {"text": "a"})], "unsupported_content", "text and image_url"),
        ([said("user", {"type": "text", "text": 4})], "invalid_value", "text must be a string"),
        ([said("user", {"type": "image_url"})], "invalid_value", "url must be a string"),
        ([said("assistant", picture()), said("user", "a")], "unsupported_content", "images belong into messages of"),
        ([said("system", picture()), said("user", "a")], "unsupported_content", "images belong into messages of"),
    ],
)
def test_what_cannot_be_read_is_named(messages: list[dict[str, Any]], code: str, words: str) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        question(*messages)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert (caught.value.param or "").startswith("messages")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "url", "x"]), inner),
    max_leaves=8,
)
FIELDS = ["model", "stream", "n", "stop", "seed", "thyme", "tools", "max_tokens", "temperature", "response_format", "x"]


@given(st.dictionaries(st.sampled_from([*FIELDS, "messages"]), json_values), st.booleans())
def test_any_json_is_read_or_refused(body: dict[str, Any], real: bool) -> None:
    """Nothing else is ever raised, and every refusal is the client's."""
    if real:
        body["messages"] = [{"role": "user", "content": [body.get("x") if isinstance(body.get("x"), dict) else {}]}]
    refusal = None
    try:
        read_conversation(read_request(json.dumps(body).encode()).messages)
    except Refusal as caught:
        refusal = caught
    assert refusal is None or (refusal.status == 400 and refusal.message)
