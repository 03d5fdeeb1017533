"""VLMEvalKit's own requests, byte for byte, to the real server with the embedded model; read as VLMEvalKit reads.

It sends with ``requests``, takes any status from 200 to 299 for success, reads ``choices[0].message.content`` and calls
everything else (no such field, null, an empty text) a failure, which it repeats up to ``--retry`` times.
"""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from agent_serving import error_of, served
from replayed import recorded, serving_nano

from thyme.engines.scripted import ScriptedEngine

REQUESTS = recorded("vlmevalkit")
OPEN = REQUESTS["base_url_open_question"]
FAILED = "Failed to obtain answer via API. "
KEY = "a-key-of-thirty-two-characters-xx"


def read(response: httpx.Response) -> tuple[int, str]:
    """Return code and answer, as VLMEvalKit takes them from a reply; (0, text) is an answer."""
    code = 0 if 200 <= response.status_code < 300 else response.status_code
    try:
        if code == 0 and response.headers["content-type"].startswith("text/event-stream"):
            return code, streamed(response.text)
        return code, json.loads(response.text)["choices"][0]["message"]["content"].strip()
    except (KeyError, TypeError, AttributeError, ValueError):
        return code, FAILED


def streamed(text: str) -> str:
    """Content of the lines that begin with ``data:``; all others, such as comments that keep it alive, are passed."""
    pieces = []
    for line in filter(None, map(str.strip, text.splitlines())):
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        for choice in json.loads(data).get("choices", [])[:1]:
            pieces.append(choice.get("delta", {}).get("content") or "")
    return "".join(pieces).strip()


ANSWERS = {"base_url_open_question": "22", "config_gpt4v": "22", "base_url_words": "3901"}


@pytest.mark.parametrize("case", sorted(ANSWERS))
def test_the_model_answers_through_the_sandbox(nano_url: str, case: str) -> None:
    """The first two are pictures that the tool has encoded as JPEG, with labels that only a crop can show."""
    assert read(REQUESTS[case].send(nano_url)) == (0, ANSWERS[case])


@pytest.mark.parametrize("case", sorted(REQUESTS.keys() - ANSWERS))
def test_every_other_request_gets_a_reply_that_the_tool_takes(nano_url: str, case: str) -> None:
    """Also with fields that are not ours: ``detail``, ``n``, ``top_k``, ``top_p``, ``repetition_penalty``."""
    code, answer = read(REQUESTS[case].send(nano_url))
    assert code == 0
    assert answer not in {"", FAILED}


def test_a_stream_says_the_same(nano_url: str) -> None:
    response = OPEN.changed(stream=True).send(nano_url)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert read(response) == (0, "22")


async def test_comments_that_keep_a_stream_alive_are_passed_over() -> None:
    """They come while the model writes what is not sent, its thoughts, too."""
    thought = " ".join(map(str, range(60)))
    engine = ScriptedEngine([f"<think>{thought}</think>\n<answer>42</answer>"], delay_s=0.01, name="nano")
    async with served(engine, keep_alive_s=0.05) as server:
        response = await asyncio.to_thread(REQUESTS["base_url_stream_sampled"].send, server.url)
    assert "\n: " in response.text
    assert read(response) == (0, "42")


def test_what_cannot_be_answered_is_a_failure_for_the_tool(nano_url: str) -> None:
    """Unknown model; a picture by its path, as with --local-media; a picture that is none."""
    unknown = OPEN.changed(model="gpt-4o").send(nano_url)
    assert read(unknown) == (404, FAILED)
    assert "'gpt-4o'" in error_of(unknown)["message"]
    for image in ("file:///data/images/1.jpg", "data:image/jpeg;base64,AAAA"):
        content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "What is it?"}]
        refused = OPEN.changed(messages=[{"role": "user", "content": content}]).send(nano_url)
        assert read(refused) == (400, FAILED)
        assert error_of(refused)["param"] == "messages[0].content[0].image_url"


def test_the_key_of_the_command_line_is_looked_at() -> None:
    """``--key``; the tool's own default is ``sk-admin``."""
    with serving_nano(api_keys=[KEY]) as guarded:
        assert read(OPEN.send(guarded)) == (401, FAILED)
        assert read(REQUESTS["base_url_words"].send(guarded, Authorization=f"Bearer {KEY}")) == (0, "3901")
