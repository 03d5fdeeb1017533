"""What a server can do is asked, not guessed; and every way in which it cannot be asked has its message."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from openai_server import Fake, error, serving

from thyme.config import EngineConfig, OpenAIConfig
from thyme.engines import open_engine
from thyme.engines.base import Capabilities, Engine, Request
from thyme.engines.openai import OpenAIEngine, parse_model
from thyme.engines.openai_errors import BusyError, Server, input_tokens, refusal
from thyme.engines.openai_probe import ServerFacts
from thyme.errors import ContextFullError, EngineError, ModelNotFoundError, ThymeError, UsageError
from thyme.types import ImageRecord

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("THYME_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


def facts(fake: Fake, name: str = "#toy", **openai: Any) -> ServerFacts:
    return opened(fake, name, **openai).facts


def opened(fake: Fake | FastAPI, name: str = "#toy", **openai: Any) -> OpenAIEngine:
    with serving(fake) as url:
        config = EngineConfig(openai=OpenAIConfig(**({"backoff_s": 0.001, "retries": 1} | openai)))
        engine = open_engine(url + name, config)
    assert isinstance(engine, OpenAIEngine)
    return engine


# --- what is found out ------------------------------------------------------------------------------------------------


def test_a_vllm_server_continues_and_knows_ids_and_logprobs() -> None:
    engine = opened(Fake())
    assert engine.info.capabilities == Capabilities(
        style="continue", token_ids=True, logprobs=True, images=True, streaming=True, max_context=4096
    )
    assert (engine.facts.kind, engine.facts.names_stop, engine.info.name) == ("vllm", True, "toy")


@pytest.mark.parametrize(("reported", "found"), [("raw", "raw"), ("tempered", "tempered"), (None, "none")])
def test_whose_logprobs_they_are_is_seen_by_two_temperatures(reported: str | None, found: str) -> None:
    engine = opened(Fake(logprobs=reported))
    assert engine.facts.logprobs == found
    assert engine.info.capabilities.logprobs is (found == "tempered")


@pytest.mark.parametrize(
    ("fake", "why"),
    [
        (Fake(kind="hosted", with_ids=False), "not supported with this model"),
        (Fake(kind="deaf", with_ids=False), "ends the assistant's message"),
        (Fake(sees_in_answers=False), "shows no images in an assistant's message"),
    ],
)
def test_servers_that_cannot_continue_a_message_with_an_image_are_asked_in_turns(fake: Fake, why: str) -> None:
    engine = opened(fake)
    assert engine.info.capabilities.style == "chat"
    assert not engine.info.capabilities.token_ids
    assert why in engine.facts.why_chat


def test_a_server_without_logprobs_still_continues() -> None:
    engine = opened(Fake(refuses=["top_logprobs"]))
    assert (engine.info.capabilities.style, engine.facts.token_ids, engine.facts.logprobs) == ("continue", True, "none")
    assert not engine.info.capabilities.token_ids  # without tokenizer nobody knows what a token carries


def failing_over_a_begun_answer(status: int, detail: str = "no") -> Fake:
    fake = Fake()

    def tokenize(said: str) -> list[str]:
        if fake.last["messages"][-1]["role"] == "assistant":
            raise HTTPException(status, detail)
        return [said]

    fake.tokenize = tokenize
    return fake


@pytest.mark.parametrize(
    ("status", "why"), [(500, "status 500"), (501, "status 501"), (400, "request was refused"), (422, "was refused")]
)
def test_a_server_that_breaks_over_a_begun_answer_is_asked_in_turns(status: int, why: str) -> None:
    engine = opened(failing_over_a_begun_answer(status))
    assert engine.info.capabilities.style == "chat"
    assert why in engine.facts.why_chat


@pytest.mark.parametrize("style", ["auto", "continue"])
@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 529])
def test_a_busy_moment_does_not_choose_the_style(status: int, style: str) -> None:
    with pytest.raises(BusyError, match=r"^(?!.*cannot continue).*over capacity"):
        facts(failing_over_a_begun_answer(status, "over capacity"), style=style)


def test_a_busy_moment_that_passes_is_not_seen() -> None:
    fake = failing_over_a_begun_answer(503)
    broken, calls = fake.tokenize, list[str]()

    def once(said: str) -> list[str]:
        begun = fake.last["messages"][-1]["role"] == "assistant"
        calls.extend([said] if begun else [])
        return broken(said) if begun and len(calls) == 1 else [said]

    fake.tokenize = once
    assert facts(fake).style == "continue"


@pytest.mark.parametrize("kind", [httpx.ReadTimeout, httpx.ConnectTimeout, httpx.ConnectError, httpx.ReadError])
def test_a_connection_that_fails_says_nothing_of_what_a_server_can_do(kind: type[httpx.HTTPError]) -> None:
    fake = Fake()
    with serving(fake) as url, pytest.MonkeyPatch.context() as patch:
        send = httpx.Client.request

        def request(client: httpx.Client, method: str, path: str, **content: Any) -> httpx.Response:
            if "continue_final_message" in content.get("json", ()):
                raise kind("gone")
            return send(client, method, path, **content)

        patch.setattr(httpx.Client, "request", request)
        with pytest.raises(BusyError, match=re.escape(url)):
            open_engine(f"{url}#toy", EngineConfig(openai=OpenAIConfig(backoff_s=0.001, retries=1)))


def test_a_style_that_is_set_is_not_asked_for() -> None:
    fake = Fake()
    assert facts(fake, style="chat").style == "chat"
    assert not any("continue_final_message" in body for body in fake.requests)
    free, fixed = Fake(), Fake()
    assert facts(free).style == facts(fixed, style="continue").style == "continue"
    assert len(fixed.requests) == len(free.requests) - 2
    with pytest.raises(EngineError, match=r"cannot continue.*style to chat"):
        facts(Fake(kind="hosted"), style="continue")


def test_what_a_server_does_not_take_is_left_out() -> None:
    found = facts(Fake(kind="hosted", refuses=["stop"]))
    assert (found.takes_stop, found.limit_field, found.images) == (False, "max_tokens", True)
    fake = Fake(kind="deaf", refuses=["max_tokens"])
    found = facts(fake)
    assert found.limit_field == "max_completion_tokens"
    assert "max_completion_tokens" in fake.last
    with pytest.raises(EngineError, match=r"extra can add fields or take them out.*'temperature' is not supported"):
        facts(Fake(refuses=["temperature"]))
    assert facts(Fake(refuses=["temperature"]), extra={"temperature": None}).images


def test_other_limits_of_a_server_are_reported() -> None:
    assert not opened(Fake(streams=False)).info.capabilities.streaming
    assert not facts(Fake(names_stop=False)).names_stop
    assert opened(Fake(context=None)).info.capabilities.max_context is None
    assert not opened(Fake(with_ids=False)).info.capabilities.token_ids
    blind = opened(Fake(sees=False))
    assert not blind.info.capabilities.images
    with pytest.raises(EngineError, match="reads no images; name a model that does"):
        blind.prompt("", "<image>", [ImageRecord(id="x", width=1, height=1, mode="RGB")])


def test_a_model_that_ends_its_turn_at_once_is_probed_in_another_place() -> None:
    assert facts(Fake(["Yes.", ""], tokenize=lambda said: [said] if said != "I" else [])).names_stop


def test_own_limits_count_beside_the_servers() -> None:
    with serving(Fake()) as url:
        assert open_engine(f"{url}#toy", EngineConfig(max_context=100)).info.capabilities.max_context == 100
        assert open_engine(f"{url}#toy", EngineConfig(max_context=9000)).info.capabilities.max_context == 4096


def test_every_setting_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
    assert [name for name in OpenAIConfig.model_fields if f"| `{name}` |" not in text] == []


# --- which model ------------------------------------------------------------------------------------------------------


def test_the_only_model_needs_no_name() -> None:
    assert opened(Fake(), "").info.name == "toy"


def test_models_are_listed_where_the_name_is_missing_or_wrong() -> None:
    served = ["qwen-7b", "toy", "qwen-72b"]
    with pytest.raises(ModelNotFoundError, match=r"offers qwen-7b, toy, qwen-72b; name one: http.*#NAME"):
        facts(Fake(served=served), "")
    with pytest.raises(ModelNotFoundError, match=r"no model 'qwen-70b'; it offers qwen-7.b?, qwen-7.?b, toy"):
        facts(Fake(served=served), "#qwen-70b")
    with pytest.raises(ModelNotFoundError, match="lists no models; name one"):
        facts(Fake(served=()), "")


def test_a_server_without_a_list_takes_the_name_it_is_given() -> None:
    fake = Fake(kind="deaf")
    from openai_server import app

    bare = app(fake)
    bare.router.routes = [route for route in bare.router.routes if getattr(route, "path", "") != "/v1/models"]
    assert opened(bare).info.name == "toy"
    with pytest.raises(EngineError, match="has no list of models; does the URL end with /v1"):
        opened(bare, "")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "url", "name"),
    [
        ("http://host:8000/v1#a/b", "http://host:8000/v1", "a/b"),
        ("https://host/v1/", "https://host/v1", ""),
        ("http://host:8000", "http://host:8000/v1", ""),
        ("http://host/api/v1/chat/completions#m", "http://host/api/v1", "m"),
    ],
)
def test_a_model_is_a_url_and_a_name(model: str, url: str, name: str) -> None:
    assert (parse_model(model, {}).url, parse_model(model, {}).model) == (url, name)


@pytest.mark.parametrize("model", ["ftp://host/v1#m", "http://#m", "http://host:99999/v1", "http://[::1/v1", "://"])
def test_what_is_no_url_is_refused(model: str) -> None:
    with pytest.raises(UsageError, match=r"is no URL.*give URL#NAME"):
        parse_model(model, {})


# --- keys -------------------------------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment_and_goes_into_a_header() -> None:
    fake = Fake()
    with serving(fake) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-other")
        patch.setenv("THYME_API_KEY", KEY)
        engine = open_engine(f"{url}#toy")
        request = Request("t", engine.prompt("", "?", []))

        async def ask() -> None:
            assert [chunk.text async for chunk in engine.stream(request)]
            await engine.aclose()

        asyncio.run(ask())
    assert set(fake.keys) == {f"Bearer {KEY}"}
    assert parse_model("http://h/v1", {"OPENAI_API_KEY": "sk-other"}).key == "sk-other"


def test_the_key_is_never_shown(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THYME_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    refusing = FastAPI()

    @refusing.get("/v1/models")
    async def models() -> Response:
        return error(f"Incorrect API key provided: {KEY}.", 401)

    with pytest.raises(EngineError, match="refuses the API key from THYME_API_KEY or OPENAI_API_KEY") as caught:
        opened(refusing)
    for status in (302, 400, 403, 404, 408, 413, 429, 500, 503):  # long enough to be cut, the key across the cut
        said = refusal(Server("http://h/v1", KEY), status, "x" * 290 + f" {KEY} model")
        assert not any(KEY[:size] in f"{said!r}" for size in range(8, len(KEY)))
    engine = opened(Fake())
    shown = f"{caught.value!r} {engine!r} {engine.info!r} {vars(engine)} {engine._server!r} {caplog.text}"
    assert KEY not in shown
    assert "***" in str(caught.value)


def test_keys_elsewhere_are_refused() -> None:
    for url in (f"http://user:{KEY}@host/v1#m", f"http://host/v1?key={KEY}#m"):
        with pytest.raises(
            UsageError, match="host without a password or a query; keys go into THYME_API_KEY"
        ) as caught:
            parse_model(url, {})
        assert KEY not in str(caught.value)
    with pytest.raises(UsageError, match="THYME_API_KEY holds characters") as caught:
        parse_model("http://h/v1", {"THYME_API_KEY": f"{KEY}\nx"})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{KEY}@h:99999/v1#m",
        f"http://user:{KEY}/x@h/v1#m",  # the slash ends the host, so that the password is taken for a port
        f"http://user:{KEY}#x@h/v1#m",
        f"http://user:{KEY}@[::1/v1#m",
        f"http://h:99999/v1?key={KEY}#m",
        f"http:user:{KEY}@h/v1#m",
    ],
)
def test_a_password_is_not_quoted_from_a_url_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match=r"is no URL.*give URL#NAME") as caught:
        parse_model(url, {})
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_missing_key_is_asked_for() -> None:
    refusing = FastAPI()

    @refusing.get("/v1/models")
    async def models() -> Response:
        return error("You didn't provide an API key.", 401)

    with pytest.raises(EngineError, match="wants an API key; put it into the environment as THYME_API_KEY"):
        opened(refusing)


# --- servers that are none --------------------------------------------------------------------------------------------


def answering(answer: Response) -> FastAPI:
    made = FastAPI()

    @made.get("/v1/models")
    async def models() -> Response:
        return answer

    return made


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (
            RedirectResponse("https://login.example/sign-in"),
            "leads elsewhere .*login.example/sign-in.*usually ends with",
        ),
        (HTMLResponse("<html>Welcome</html>"), "answered with a web page"),
        (HTMLResponse("<html>Not here</html>", 404), "has no list of models; does the URL end with /v1"),
        (Response("hello"), "something that is not JSON; is it an OpenAI-compatible server"),
        (Response("[]", media_type="application/json"), "not JSON"),
        (error("loading", 503), "status 503.*loading"),
        (error("You exceeded your current quota, insufficient_quota", 429), "quota is used up"),
    ],
)
def test_what_answers_otherwise_is_told(answer: Response, problem: str) -> None:
    with pytest.raises(EngineError, match=problem):
        opened(answering(answer), "")


def test_a_list_of_models_alone_is_no_server() -> None:
    with pytest.raises(EngineError, match="has no chat/completions; is it an OpenAI-compatible server"):
        opened(answering(Response('{"data": [{"id": "toy"}]}', media_type="application/json")))


def test_nobody_at_home_is_told_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(EngineError, match=f"127.0.0.1:{port}/v1 cannot be reached.*is it running"):
            open_engine(f"http://127.0.0.1:{port}/v1", EngineConfig(openai=OpenAIConfig(retries=9, backoff_s=60)))


@contextmanager
def silent() -> Iterator[int]:
    """Accepts a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_never_answers_is_given_up() -> None:
    with silent() as port, pytest.raises(EngineError, match=r"did not answer in time; raise .*first_token_timeout_s"):
        open_engine(
            f"http://127.0.0.1:{port}/v1",
            EngineConfig(openai=OpenAIConfig(first_token_timeout_s=0.1, retries=1, backoff_s=0.01)),
        )


# --- what refusals mean -----------------------------------------------------------------------------------------------

SERVER = Server("http://h/v1", None, "toy", ("toy", "boy"))


@pytest.mark.parametrize(
    ("status", "message", "kind", "problem"),
    [
        (400, "This model's maximum context length is 2048 tokens.", ContextFullError, "does not fit"),
        (400, "max_tokens=5000 cannot be greater than max_model_len=2048", ContextFullError, "does not fit"),
        (413, "Request too large: too many tokens", ContextFullError, "does not fit"),
        (400, "Failed to load image: cannot identify image file", EngineError, "image was refused.*max_pixels"),
        (400, "At most 2 image(s) may be provided in one prompt.", EngineError, "image was refused"),
        (400, "toy is not a multimodal model", EngineError, "reads no images"),
        (400, "messages: unknown variant `image_url`, expected `text`", EngineError, "reads no images"),
        (422, "stop: too long", EngineError, "extra can add fields or take them out"),
        (404, "The model `tox` does not exist.", ModelNotFoundError, "it offers toy, boy"),
        (404, "Not Found", EngineError, "has no chat/completions"),
        (403, "no", EngineError, "wants an API key"),
        (302, "https://login", EngineError, "login page"),
        (418, "", EngineError, "status 418"),
    ],
)
def test_every_refusal_names_the_thing_and_the_way_out(
    status: int, message: str, kind: type[ThymeError], problem: str
) -> None:
    found = refusal(SERVER, status, message)
    assert type(found) is kind or isinstance(found, kind)
    assert re.search(problem, str(found))


def test_long_messages_are_cut() -> None:
    assert len(str(refusal(SERVER, 500, "x" * 9999))) < 500


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ("you requested 130 tokens (90 in the messages, 40 in the completion)", 90),
        ("your prompt contains at least 2049 input tokens", 2049),
        ("your messages resulted in 512 tokens", 512),
        ("no number", None),
    ],
)
def test_how_long_the_input_was_is_read_from_the_refusal(message: str, tokens: int | None) -> None:
    assert input_tokens(message) == tokens


def test_an_unknown_model_is_told_while_it_runs_too() -> None:
    fake = Fake()
    with serving(fake) as url:
        engine: Engine = open_engine(f"{url}#toy")
        fake.served = ["other"]
        request = Request("t", engine.prompt("", "?", []))

        async def ask() -> None:
            try:
                async for _ in engine.stream(request):
                    pass
            finally:
                await engine.aclose()

        with pytest.raises(ModelNotFoundError, match="offers no model 'toy'"):
            asyncio.run(ask())
