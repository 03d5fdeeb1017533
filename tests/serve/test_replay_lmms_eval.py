"""lmms-eval's own requests, byte for byte, to the real server with the embedded model; read as lmms-eval reads.

It sends with the openai client, reads ``choices[0].message.content`` and ``usage``, and repeats whatever raises. The
openai client repeats 408, 409, 429 and 5xx by itself.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from agent_serving import error_of, served
from openai.types.chat import ChatCompletion
from replayed import Recorded, recorded, serving_nano
from waiting import until

from thyme.engines.scripted import ScriptedEngine

REQUESTS = recorded("lmms_eval")
OPEN = REQUESTS["openai_chat_open_question"]
WORDS = REQUESTS["async_openai_defaults_system"]


def read(response: httpx.Response) -> tuple[str, int, int]:
    """Text and tokens read and written, as lmms-eval takes them from the client's object."""
    assert response.status_code == 200, response.text
    completion = ChatCompletion.model_validate(response.json(), strict=True)
    assert completion.usage is not None
    text = completion.choices[0].message.content
    assert text is not None
    return text, completion.usage.prompt_tokens, completion.usage.completion_tokens


def test_a_label_that_only_a_crop_can_show(nano_url: str) -> None:
    """The picture is a PNG; the task allows 16 tokens, of which none would be left to think."""
    assert json.loads(OPEN.body)["max_tokens"] == 16
    text, tokens_read, written = read(OPEN.send(nano_url))
    assert text == "22"
    assert tokens_read > 64
    assert written > 16


def test_words_alone_and_the_tools_defaults(nano_url: str) -> None:
    assert json.loads(WORDS.body)["max_tokens"] == 1024
    assert read(WORDS.send(nano_url))[0] == "3901"


@pytest.mark.parametrize("case", sorted(REQUESTS.keys() - {OPEN.case, WORDS.case}))
def test_every_other_request_gets_a_reply_that_the_tool_takes(nano_url: str, case: str) -> None:
    """Pictures before and after the text, one and several, a system turn in parts."""
    assert read(REQUESTS[case].send(nano_url))[0]


def test_without_raising_the_limit_there_is_no_room_to_think() -> None:
    """Why the document says --min-tokens: the reply is well-formed, and cut."""
    with serving_nano() as plain:
        response = OPEN.send(plain)
    assert response.json()["choices"][0]["finish_reason"] == "length"
    assert read(response)[0] != "22"


def raised(request: Recorded, url: str, key: str = "none") -> openai.APIStatusError:
    """What the openai client makes of the reply to a request; sent once."""
    fields: dict[str, Any] = json.loads(request.body)
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.chat.completions.create(**fields)
    return caught.value


def test_refusals_are_what_the_client_knows(nano_url: str) -> None:
    unknown = raised(OPEN.changed(model="gpt-4o"), nano_url)
    assert isinstance(unknown, openai.NotFoundError)
    assert unknown.code == "model_not_found"
    broken = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
    refused = raised(OPEN.changed(messages=broken), nano_url)
    assert isinstance(refused, openai.BadRequestError)
    assert "Error code: 400" in str(refused), "what the tool keeps as the reason"


async def test_a_full_server_is_named_so_that_the_tool_slows_down() -> None:
    """It looks for 429 or ``rate limit`` in the error, and the client waits as long as ``retry-after`` says."""
    thought = " ".join(map(str, range(250)))
    engine = ScriptedEngine([f"<think>{thought}</think>\n<answer>42</answer>"], delay_s=0.01, name="nano")
    async with served(engine, max_concurrent=1, max_queued=0) as server:
        first = asyncio.create_task(asyncio.to_thread(WORDS.send, server.url))
        await until(lambda: server.runtime.running == 1)
        response = await asyncio.to_thread(WORDS.send, server.url)
        assert (response.status_code, error_of(response)["type"]) == (429, "rate_limit_error")
        assert int(response.headers["retry-after"]) >= 1
        error = await asyncio.to_thread(raised, WORDS, server.url)
        assert isinstance(error, openai.RateLimitError)
        assert "429" in str(error)
        assert read(await first)[0] == "42"


async def test_a_model_that_fails_is_an_error_that_is_repeated() -> None:
    async with served(ScriptedEngine([], name="nano")) as server:
        error = await asyncio.to_thread(raised, WORDS, server.url)
    assert isinstance(error, openai.InternalServerError)
    assert error.status_code == 502
