"""The official client, synchronous and not, streaming and not, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
import pytest_asyncio
from agent_serving import ANSWER, CODE, NoSandbox, Served, picture, served, user
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from thyme.config import SandboxConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import EngineError
from thyme.sandbox import open_sandbox

TLS = httpx.create_ssl_context()

CLUMSY = "from PIL import Image\nprint(Image.open(image_path).crop((5, 5, 999, 20)).size)"

SCRIPTS = {
    "look": [ANSWER],
    "compute": [CODE, "It is 42.</think>\n<answer>42</answer>"],
    "clumsy": [f"<think><code>\n{CLUMSY}\n</code>", "<code>1 / 0</code>", "</think><answer>1</answer>"],
    "plain": ["no tags at all"],
    "loop": [CODE] * 9,
    "empty": ["<think></think><answer></answer>"],
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Served]:
    async with open_sandbox(SandboxConfig()) as sandbox, served(ScriptedEngine(SCRIPTS), sandbox) as serving:
        yield serving


def client_of(server: Served, key: str = "none") -> openai.AsyncOpenAI:
    http = httpx.AsyncClient(verify=TLS)  # as the client's own, which takes a while to read its certificates
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, http_client=http)


async def ask(server: Served, question: str, **fields: object) -> ChatCompletion:
    async with client_of(server) as client:
        messages = user(question, picture())
        answer = await client.chat.completions.create(model="scripted", messages=messages, **fields)
        assert isinstance(answer, ChatCompletion)
        return answer


async def stream(server: Served, question: str, **fields: object) -> list[ChatCompletionChunk]:
    async with client_of(server) as client:
        chunks = await client.chat.completions.create(
            model="scripted", messages=user(question, picture()), stream=True, **fields
        )
        return [chunk async for chunk in chunks]


async def test_the_answer_alone(server: Served) -> None:
    answer = await ask(server, "look")
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "forty two", "stop")
    assert "reasoning_content" not in choice.message.model_extra
    assert "thyme" not in answer.model_extra
    assert answer.model == "scripted"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > 0 < answer.usage.prompt_tokens


async def test_reasoning_and_trajectory_when_asked(server: Served) -> None:
    body = {"include_reasoning": True, "thyme": {"trajectory": "images"}}
    answer = await ask(server, "compute", extra_body=body)
    assert answer.choices[0].message.content == "42"
    reasoning = answer.choices[0].message.model_extra["reasoning_content"]
    assert "print(6 * 7)" in reasoning
    assert "<sandbox_output>\n42\n</sandbox_output>\nIt is 42." in reasoning
    assert "<think>" not in reasoning
    side = answer.model_extra["thyme"]
    assert (side["stop"], side["rounds"], side["seed"]) == ("answer", 1, 0)
    assert [segment["kind"] for segment in side["trajectory"]["segments"]] == ["text", "code", "observation", "text"]
    assert set(side["images"]) == {side["trajectory"]["problem"]["images"][0]["id"]}
    assert all(url.startswith("data:image/png;base64,") for url in side["images"].values())


async def test_stream_says_the_same(server: Served) -> None:
    body = {"include_reasoning": True, "thyme": {"trajectory": True}}
    whole = await ask(server, "compute", extra_body=body)
    chunks = await stream(server, "compute", extra_body=body, stream_options={"include_usage": True})
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    reasoning = "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas)
    assert reasoning == whole.choices[0].message.model_extra["reasoning_content"]
    assert len(deltas) > 10
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == "stop"
    assert last.model_extra["thyme"]["trajectory"]["stop"] == "answer"
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert usage.choices == []
    assert usage.usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


async def test_stream_of_the_answer_alone(server: Served) -> None:
    chunks = await stream(server, "compute")
    assert all("reasoning_content" not in (chunk.choices[0].delta.model_extra or {}) for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "42"
    assert all(chunk.usage is None for chunk in chunks)


async def test_model_without_tags(server: Served) -> None:
    assert (await ask(server, "plain")).choices[0].message.content == "no tags at all"
    chunks = await stream(server, "plain")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "no tags at all"


async def test_empty_answer_is_a_string(server: Served) -> None:
    assert (await ask(server, "empty")).choices[0].message.content == ""


async def test_code_is_counted(server: Served) -> None:
    """One block is repaired (a box beyond the picture), one fails; both are rounds."""
    names = ('thyme_code_blocks_total{outcome="ok"}', 'thyme_code_blocks_total{outcome="failed"}',
             "thyme_code_blocks_repaired_total", "thyme_rounds_total")  # fmt: skip
    before = [await server.metric(name) for name in names]
    await ask(server, "clumsy")
    after = [await server.metric(name) for name in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1, 2]


async def test_bounds_end_with_length(server: Served) -> None:
    few = await ask(server, "look", max_completion_tokens=3)
    assert (few.choices[0].finish_reason, few.usage and few.usage.completion_tokens) == ("length", 3)
    assert (await ask(server, "look", max_tokens=3)).choices[0].finish_reason == "length"
    assert (await ask(server, "look", max_tokens=10**6)).choices[0].finish_reason == "stop"  # up to the server's limit
    rounds = await ask(server, "loop", extra_body={"thyme": {"max_rounds": 2}})
    assert rounds.choices[0].finish_reason == "length"
    assert rounds.model_extra["thyme"]["stop"] == "max_rounds"
    assert rounds.model_extra["thyme"]["rounds"] == 2
    assert (await stream(server, "loop"))[-1].choices[0].finish_reason == "length"


async def test_wishes_reach_the_rollout(server: Served) -> None:
    engine = server.runtime.engine
    assert isinstance(engine, ScriptedEngine)
    answer = await ask(server, "look", temperature=0.7, seed=5, max_tokens=77, extra_body={"thyme": {"tools": False}})
    request = engine.requests[-1]
    assert (request.temperature, request.max_tokens, request.blocked) == (0.7, 77, ("<code>",))
    assert answer.model_extra["thyme"]["seed"] == 5
    side = (await ask(server, "look", seed=5, extra_body={"thyme": {"seed": -6, "text_temperature": 0.2}})).model_extra
    assert (side["thyme"]["seed"], engine.requests[-1].temperature) == (-6, 0.2)


async def test_samples_differ_and_greedy_answers_do_not(server: Served) -> None:
    """Without a seed: 0 where nothing is drawn, another each time where it is."""
    wish = {"thyme": {}}
    seeds = [(await ask(server, "look", temperature=1.0, extra_body=wish)).model_extra["thyme"]["seed"] for _ in "ab"]
    assert seeds[0] != seeds[1]
    assert (await ask(server, "look", extra_body=wish)).model_extra["thyme"]["seed"] == 0


async def test_stop_strings_cut_the_answer(server: Served) -> None:
    assert (await ask(server, "look", stop=[" two", "x"])).choices[0].message.content == "forty"
    chunks = await stream(server, "look", stop=" two")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "forty"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_models(server: Served) -> None:
    async with client_of(server) as client:
        assert [model.id async for model in client.models.list()] == ["scripted"]
        assert (await client.models.retrieve("scripted")).owned_by == "thyme"
        with pytest.raises(openai.NotFoundError, match="this server has 'scripted'"):
            await client.models.retrieve("gpt-4o")
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="gpt-4o", messages=user("look"))
        assert caught.value.code == "model_not_found"


async def test_synchronous_client(server: Served) -> None:
    def talk() -> tuple[str | None, str]:
        with openai.OpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=httpx.Client(verify=TLS)
        ) as client:
            messages = user("look", picture())
            whole = client.chat.completions.create(model="scripted", messages=messages)
            parts = client.chat.completions.create(model="scripted", messages=messages, stream=True)
            return whole.choices[0].message.content, "".join(part.choices[0].delta.content or "" for part in parts)

    assert await asyncio.to_thread(talk) == ("forty two", "forty two")


async def test_errors_have_classes_of_their_own() -> None:
    scripts = {"die": [EngineError("the model server is gone")], "die late": ["<think>a<code>1</code>"]}
    async with served(ScriptedEngine(scripts), NoSandbox(), api_keys=["0123456789abcdef"]) as server:
        async with client_of(server) as client:
            with pytest.raises(openai.AuthenticationError, match="API key"):
                await client.models.list()
        async with client_of(server, "0123456789abcdef") as client:
            for streamed in (False, True):  # an error before the first word has its status in a stream, too
                with pytest.raises(openai.InternalServerError, match="the model server is gone") as caught:
                    await client.chat.completions.create(model="scripted", messages=user("die"), stream=streamed)
                assert (caught.value.status_code, caught.value.code) == (502, "engine_failed")
            chunks = await client.chat.completions.create(model="scripted", messages=user("die late"), stream=True)
            with pytest.raises(openai.APIError, match="its log says why"):  # a bug after the stream began
                async for _ in chunks:
                    pass
