"""Requests byte by byte: what is wrong gets a 4xx that says so in OpenAI's shape, never a 500."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from agent_serving import (
    ANSWER,
    Served,
    data_url,
    encoded,
    error_of,
    events_of,
    picture,
    served,
    user,
)
from PIL import Image

from thyme.engines.base import Capabilities
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import EngineError

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY, OTHER_KEY = "a-key-of-enough-length", "b-key-of-enough-length"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Served]:
    engine = ScriptedEngine([ANSWER], capabilities=Capabilities(token_ids=True, max_context=100_000))
    async with served(engine, max_images=3, max_text_chars=5000) as serving:
        yield serving


def image(url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


# --- what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
async def test_formats(server: Served, format: str) -> None:
    reply = await server.chat(user(picture(format), "What?"), thyme={"trajectory": True})
    assert (reply.status_code, reply.json()["choices"][0]["message"]["content"]) == (200, "forty two")
    record = reply.json()["thyme"]["trajectory"]["problem"]["images"][0]
    assert (record["width"], record["height"], record["mode"]) == (40, 30, "RGB")


async def test_first_frame_of_an_animation(server: Served) -> None:
    frames, buffer = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")], io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    wish = {"trajectory": "images"}
    reply = (await server.chat(user(image(data_url(buffer.getvalue())), "What?"), thyme=wish)).json()
    (shown,) = reply["thyme"]["images"].values()
    pixels = Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))).convert("RGB")
    assert pixels.getpixel((4, 4)) == (255, 0, 0)  # type: ignore[comparison-overlap]  # RGB


async def test_no_image_and_several(server: Served) -> None:
    assert (await server.chat("What?")).status_code == 200
    reply = await server.chat(user(picture(), "a", picture(), picture("JPEG"), "b"), thyme={"trajectory": True})
    problem = reply.json()["thyme"]["trajectory"]["problem"]
    assert len(problem["images"]) == 3
    assert problem["question"] == "[Image 1]\na\n[Image 2]\n[Image 3]\nb"


async def test_twenty_megabytes(server: Served) -> None:
    data = encoded("BMP", (2700, 2700))
    assert len(data) > 20 << 20
    reply = await server.chat(user(image(data_url(data)), "What?"))
    assert reply.status_code == 200, reply.text[:300]


async def test_fields_of_other_servers_are_ignored(server: Served) -> None:
    extra = {
        "top_p": 0.9, "top_k": 1, "presence_penalty": 0, "user": "me", "reasoning_effort": "low", "metadata": {"a": 1},
        "n": 1, "tools": [], "tool_choice": "none", "logprobs": False, "modalities": ["text"], "store": None,
        "response_format": {"type": "text"}, "max_tokens": None, "stop": None, "stream": None, "extra": [[{}]],
    }  # fmt: skip
    assert (await server.chat("What?", **extra)).status_code == 200


async def test_base64_with_line_breaks_and_any_media_type(server: Served) -> None:
    text = base64.encodebytes(encoded()).decode()
    for head in ("data:image/png;base64,", "data:;base64,", "DATA:application/octet-stream;charset=x;BASE64,"):
        assert (await server.chat(user(image(head + text), "What?"))).status_code == 200


# --- what is refused --------------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG of a few kilobytes whose header claims 50 000 x 50 000 pixels."""
    data = bytearray(encoded())
    head = b"IHDR" + (50_000).to_bytes(4, "big") * 2 + data[24:29]
    data[12:33] = head + zlib.crc32(head).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("data:image/png;base64,@@@@", "invalid_base64", "not valid Base64"),
        ("data:image/png;base64,AAAAA", "invalid_base64", "was it cut off"),
        ("data:image/png;base64,", "invalid_image", "empty"),
        ("data:image/png,abc", "invalid_image_url", "must be in Base64"),
        ("data:", "invalid_image_url", "must be in Base64"),
        (data_url(b"just some text"), "invalid_image", "not an image"),
        (data_url(encoded("JPEG", (400, 300))[:700]), "invalid_image", "damaged or cut off"),
        (data_url(bomb()), "invalid_image", "more than the limit"),
        ("", "invalid_image_url", "must be a data URL"),
        ("iVBORw0KGgo", "invalid_image_url", "must be a data URL"),
        ("file:///etc/hostname", "invalid_image_url", "must be a data URL"),
        ("http://127.0.0.1/a.png", "image_url_not_allowed", "send a data URL"),
        ("https://example.com/a.png", "image_url_not_allowed", "send a data URL"),
    ],
)
async def test_bad_pictures(server: Served, url: str, code: str, words: str) -> None:
    for streamed in (False, True):
        reply = await server.chat(user(picture(), image(url), "What?"), stream=streamed)
        assert reply.status_code == 400
        error = error_of(reply)
        assert (error["code"], error["param"]) == (code, "messages[0].content[1].image_url")
        assert error["type"] == "invalid_request_error"
        assert words in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**70}, "seed"),
        ({"stop": [3]}, "stop[0]"),
        ({"stop": ["a"] * 40}, "stop"),
        ({"stop": "a" * 1001}, "stop[0]"),
        ({"stop": ["a", "b" * 1001]}, "stop[1]"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"thyme": {"trajectory": "all"}}, "thyme.trajectory"),
        ({"thyme": {"trajektory": True}}, "thyme.trajektory"),
        ({"thyme": {"max_rounds": 99}}, "thyme.max_rounds"),
        ({"thyme": {"max_tokens": 10**9}}, "thyme.max_tokens"),
        ({"thyme": {"text_temperature": 11}}, "thyme.text_temperature"),
    ],
)
async def test_bad_fields_are_named(server: Served, fields: dict[str, Any], param: str) -> None:
    messages = fields.pop("messages", user("What?"))
    reply = await server.client.post("/v1/chat/completions", json={"messages": messages, **fields})
    assert reply.status_code == 400
    assert error_of(reply)["param"] == param
    assert error_of(reply)["message"].startswith(param)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"[]", 400, "invalid_value"),
        (b"null", 400, "invalid_value"),
        (b"{}", 400, "invalid_value"),
        (b'{"messages": [{"role": "user", "content": NaN}]}', 400, "invalid_json"),
    ],
)
async def test_bad_bodies(server: Served, body: bytes, status: int, code: str) -> None:
    headers = {"content-type": "application/json"}
    reply = await server.client.post("/v1/chat/completions", content=body, headers=headers)
    assert reply.status_code == status, reply.text
    assert error_of(reply)["code"] in {code, "invalid_value"}


@pytest.mark.parametrize("form", ["text/plain", "multipart/form-data; boundary=x", "", None])
async def test_content_type(server: Served, form: str | None) -> None:
    """A page of elsewhere could send these in a browser that may reach this server."""
    headers = {} if form is None else {"content-type": form}
    body = json.dumps({"messages": user("What?")}).encode()
    reply = await server.client.post("/v1/chat/completions", content=body, headers=headers)
    assert (reply.status_code, error_of(reply)["code"]) == (415, "content_type")


async def test_too_many_images_and_too_much_text(server: Served) -> None:
    assert error_of(await server.chat(user(*[picture()] * 4, "What?")))["code"] == "too_many_images"
    assert error_of(await server.chat("a" * 5001))["code"] == "text_too_long"


async def test_pixels_of_all_images_are_bounded() -> None:
    """Small files may be large pictures, and all those of a request are in memory together."""
    images = [picture(size=(40, 30)), picture(size=(30, 40))]
    async with served(ScriptedEngine([ANSWER]), max_image_pixels=1200, max_request_pixels=2399) as server:
        assert (await server.chat(user(images[0], "What?"))).is_success
        refused = error_of(await server.chat(user(*images, "What?")))
        assert (refused["code"], refused["param"]) == ("invalid_image", "messages[0].content[1].image_url")
        assert "together may have 2,399 pixels" in refused["message"]
    async with served(ScriptedEngine([ANSWER]), max_image_pixels=1200, max_request_pixels=2400) as server:
        assert (await server.chat(user(*images, "What?"))).is_success


async def test_wrong_paths_and_methods(server: Served) -> None:
    assert error_of(await server.client.get("/v1/nothing"))["code"] == "not_found"
    wrong = await server.client.get("/v1/chat/completions")
    assert (wrong.status_code, error_of(wrong)["type"]) == (405, "invalid_request_error")
    assert (await server.client.get("/docs")).status_code == 404


async def test_body_without_a_length_is_bounded() -> None:
    async with served(ScriptedEngine([ANSWER]), max_body_mb=1) as server:

        async def in_pieces() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b" " * 65_536

        headers = {"content-type": "application/json"}
        for content in (in_pieces(), b" " * (1 << 21)):
            reply = await server.client.post("/v1/chat/completions", content=content, headers=headers)
            assert (reply.status_code, error_of(reply)["code"]) == (413, "too_large")
            assert reply.headers["connection"] == "close"
        exact = json.dumps({"messages": user("What?")}).encode()
        padded = exact + b" " * ((1 << 20) - len(exact))
        reply = await server.client.post("/v1/chat/completions", content=padded, headers=headers)
        assert reply.status_code == 200


async def test_question_that_fills_the_context() -> None:
    engine = ScriptedEngine([ANSWER], capabilities=Capabilities(token_ids=True, max_context=50))
    async with served(engine) as server:
        for streamed in (False, True):
            reply = await server.chat("What?", stream=streamed)
            assert (reply.status_code, error_of(reply)["code"]) == (400, "context_length_exceeded")


async def test_a_bug_of_ours_is_a_500_that_says_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    """The sandbox of this test raises what no sandbox may raise."""
    async with served(ScriptedEngine(["<think>a<code>1</code>"])) as server:
        reply = await server.chat("What?")
        assert (reply.status_code, error_of(reply)["code"]) == (500, "internal_error")
        assert "no code was to run" not in reply.text
        assert "no code was to run" in caplog.text
        assert (server.runtime.running, server.runtime.queued) == (0, 0)


async def test_failures_are_told_to_client_and_operator(caplog: pytest.LogCaptureFixture) -> None:
    async with served(ScriptedEngine([EngineError("the model server is gone")])) as server:
        headers = {"x-request-id": "mine-7"}
        body = {"messages": user("What?")}
        reply = await server.client.post("/v1/chat/completions", json=body, headers=headers)
        assert (reply.status_code, error_of(reply)["code"]) == (502, "engine_failed")
        assert "request mine-7 (chatcmpl-" in caplog.text
        assert "the engine failed: the model server is gone" in caplog.text
        assert await server.metric('thyme_requests_total{outcome="error"}') == 1


async def test_half_a_character_is_no_failure() -> None:
    """A server behind the engine may send half of a surrogate pair, which is no UTF-8 and could not be stored."""
    async with served(ScriptedEngine(["<answer>a\ud83d</answer>"])) as server:
        reply = (await server.chat("What?", thyme={"trajectory": True})).json()
        assert reply["choices"][0]["message"]["content"] == "a\ufffd"
        assert reply["thyme"]["trajectory"]["segments"][0]["text"] == "<answer>a\ufffd</answer>"
        assert "\\ufffd" in (await server.chat("What?", stream=True)).text


async def test_a_server_for_pictures_only() -> None:
    async with served(ScriptedEngine([ANSWER]), images_required=True) as server:
        assert error_of(await server.chat("What?"))["code"] == "no_image"
        assert (await server.chat(user("What?", picture()))).status_code == 200


# --- who may come in --------------------------------------------------------------------------------------------------


async def test_keys() -> None:
    async with served(ScriptedEngine([ANSWER]), api_keys=[KEY, OTHER_KEY]) as server:
        for header in ("", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xe9"):
            for path in ("/v1/models", "/metrics", "/"):
                reply = await server.client.get(path, headers={b"authorization": header.encode("latin-1")})
                assert (reply.status_code, error_of(reply)["type"]) == (401, "authentication_error")
                assert reply.headers["www-authenticate"] == "Bearer"
        for key in (KEY, OTHER_KEY):
            headers = {"authorization": f"Bearer {key}"}
            assert (await server.client.get("/v1/models", headers=headers)).status_code == 200
        assert (await server.client.get("/health")).json() == {"status": "alive"}
        ready = (await server.client.get("/ready")).json()
        assert ready == {"status": "ready", "model": "scripted", "isolation": "scripted"}


async def test_pages_of_elsewhere(server: Served) -> None:
    """A name that was made to point here, and a script of another page, get nothing out of a server without keys."""
    rebound = await server.client.get("/v1/models", headers={"host": "evil.example"})
    assert (rebound.status_code, error_of(rebound)["code"]) == (403, "host")
    foreign = await server.client.post(
        "/v1/chat/completions", json={"messages": user("What?")}, headers={"origin": "https://evil.example"}
    )
    assert (foreign.status_code, error_of(foreign)["code"]) == (403, "origin")
    for odd in ("null", "http://[", "http://]:80", "\xe9"):
        reply = await server.client.post("/v1/chat/completions", json={}, headers={"origin": odd.encode("latin-1")})
        assert (reply.status_code, error_of(reply)["code"]) == (403, "origin")
    own = {"origin": server.url}
    assert (await server.client.post("/v1/chat/completions", json={"messages": user("a")}, headers=own)).is_success
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    reply = await server.client.options("/v1/chat/completions", headers=preflight)
    assert "access-control-allow-origin" not in reply.headers


async def test_cors_where_it_is_configured() -> None:
    page = "https://page.example"
    async with served(ScriptedEngine([ANSWER]), api_keys=[KEY], cors_origins=[page]) as server:
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        reply = await server.client.options("/v1/chat/completions", headers={"origin": page, **asks})
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, page)
        headers = {"origin": page, "authorization": f"Bearer {KEY}"}
        reply = await server.client.post("/v1/chat/completions", json={"messages": user("a")}, headers=headers)
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, page)
        refused = await server.client.get("/v1/models", headers={"origin": page})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (
            401,
            page,
        )  # a page can read why
        other = await server.client.options("/v1/models", headers={"origin": "https://evil.example", **asks})
        assert "access-control-allow-origin" not in other.headers


async def test_request_ids(server: Served) -> None:
    assert (await server.client.get("/health", headers={"x-request-id": "me-1"})).headers["x-request-id"] == "me-1"
    made_up = {(await server.client.get("/health", headers={"x-request-id": bad})).headers["x-request-id"]
               for bad in ("", "a b", "<script>", "x" * 200)}  # fmt: skip
    assert len(made_up) == 4
    assert all(len(name) == 32 for name in made_up)
    assert len((await server.chat("What?", stream=True)).headers["x-request-id"]) == 32


# --- metrics ----------------------------------------------------------------------------------------------------------


async def test_metrics() -> None:
    async with served(ScriptedEngine([ANSWER])) as server:
        await server.chat("What?")
        assert events_of((await server.chat("What?", stream=True)).text)[-1] == "[DONE]"
        await server.chat("What?", n=2)
        assert await server.metric('thyme_requests_total{outcome="ok"}') == 2
        assert await server.metric('thyme_refused_total{code="unsupported_value"}') == 1
        assert await server.metric('thyme_stops_total{reason="answer"}') == 2
        assert await server.metric("thyme_first_text_seconds_count") == 2
        assert await server.metric("thyme_request_seconds_count") == 2
        assert await server.metric('thyme_tokens_total{kind="generated"}') > 2
        assert (await server.metric("thyme_running"), await server.metric("thyme_queued")) == (0, 0)
