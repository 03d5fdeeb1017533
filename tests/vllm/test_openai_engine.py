"""The engine over a real vLLM server writes what the local engine writes, token by token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from thyme.agent.rollout import rollout
from thyme.config import EngineConfig, OpenAIConfig, RolloutConfig
from thyme.engines import open_engine
from thyme.engines.base import Engine, Request
from thyme.engines.openai import OpenAIEngine
from thyme.engines.transformers import TransformersEngine
from thyme.errors import ContextFullError, EngineError, ModelNotFoundError
from thyme.nano import checkpoint_path
from thyme.nano.world import KINDS, problem
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.types import Execution, Generated, ImageRecord, Observation, Problem, StopReason, Trajectory

NANO = str(checkpoint_path("final"))
WORDS = PromptSet.load(Path(NANO) / "prompts")


def over(server: Any, **openai: Any) -> OpenAIEngine:
    config = EngineConfig(openai=OpenAIConfig(**openai))
    engine = open_engine(f"{server.url}#{server.model}", config)
    assert isinstance(engine, OpenAIEngine)
    return engine


@pytest.fixture(scope="module")
def opened(vllm_server: Any) -> OpenAIEngine:
    return over(vllm_server, tokenizer=NANO)


@pytest.fixture
async def exact(opened: OpenAIEngine) -> AsyncIterator[OpenAIEngine]:
    """With the tokenizer at hand. Every test has an event loop of its own, and so connections of its own."""
    yield opened
    await opened.aclose()


@pytest.fixture(scope="module")
def local() -> Iterator[TransformersEngine]:
    engine = TransformersEngine.load(NANO, EngineConfig(threads=1))
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox() as opened:
        yield opened


async def ask(engine: Engine, sandbox: Sandbox, asked: Problem, *, seed: int = 0, **config: Any) -> Trajectory:
    made = await rollout(asked, engine, sandbox, RolloutConfig(**config), prompts=WORDS, seed=seed)
    assert made.error is None, made.error
    return made


def shape(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    return [(segment.kind, segment.text, segment.token_ids) for segment in trajectory.segments]


def logprobs(trajectory: Trajectory) -> list[float]:
    return [value for segment in trajectory.generated for value in segment.logprobs or ()]


async def write(engine: Engine, request: Request) -> Generated:
    chunks = [chunk async for chunk in engine.stream(request)]
    return Generated(
        kind="text",
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
        logprobs=tuple(value for chunk in chunks for value in chunk.logprobs) or None,
        temperature=request.temperature,
    )


# --- capabilities -----------------------------------------------------------------------------------------------------


async def test_what_the_server_can_do_is_found_out(vllm_server: Any, exact: OpenAIEngine) -> None:
    for engine in (exact, over(vllm_server)):
        can = engine.info.capabilities
        assert (can.style, can.token_ids, can.images, can.streaming) == ("continue", True, True, True)
        assert (engine.facts.kind, engine.facts.names_stop) == ("vllm", True)
        served = httpx.get(f"{vllm_server.url}/models", timeout=30).json()["data"][0]
        assert can.max_context == served["max_model_len"]
        assert engine.facts.logprobs in {"raw", "tempered"}  # by the server's --logprobs-mode
        assert can.logprobs is (engine.facts.logprobs == "tempered")


# --- the same trajectories --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_greedy_trajectories_are_those_of_the_local_engine(
    exact: OpenAIEngine, local: TransformersEngine, sandbox: Sandbox, kind: Any
) -> None:
    for index in range(2):
        asked = problem("test", 11, index, kind)
        ours, theirs = await ask(local, sandbox, asked), await ask(exact, sandbox, asked)
        assert theirs.prompt == ours.prompt
        assert shape(theirs) == shape(ours)
        assert theirs.stop == ours.stop
        assert theirs.fingerprints.tokenizer == ours.fingerprints.tokenizer
        assert len(logprobs(theirs)) == len(logprobs(ours)) > 0
        assert logprobs(theirs) == pytest.approx(logprobs(ours), abs=2e-3)
        if kind in {"zoom", "rotation", "contrast", "two_round"}:
            assert any(seen.execution.images for seen in theirs.observations)
    assert exact.retokenized == 0


async def test_images_stand_at_their_places(exact: OpenAIEngine, local: TransformersEngine) -> None:
    """What is written after two observations depends on which image stands in which, and alike on both engines."""
    asked = problem("test", 11, 0, "two_round")
    images = [ImageRecord.of(Image.new("RGB", (64, 64), colour)) for colour in ((220, 30, 30), (30, 30, 220))]
    system, user = WORDS.render(asked, [exact.seen_size(*image.size) for image in asked.images])
    found = set()
    for engine in (exact, local):
        for pair in (images, images[::-1]):
            segments: list[Generated | Observation] = []
            for image in pair:
                segments.append(Generated(kind="text", text="<think>I zoom.", temperature=0))
                segments.append(engine.observation(Execution(code="", stdout="a.png", images=(image,))))
            prompt = engine.prompt(system, user, asked.images)
            request = Request(f"{id(pair)}", prompt, tuple(segments), max_tokens=8)
            span = await write(engine, request)
            values = span.logprobs or ()
            found.add((span.text, tuple(round(value, 2) for value in values[:3])))
            await engine.release(request.trajectory_id)
    assert len(found) == 2


async def test_without_a_tokenizer_ids_come_from_the_server(
    vllm_server: Any, exact: OpenAIEngine, local: TransformersEngine, sandbox: Sandbox
) -> None:
    """Prompts name no size here, so they are the same with and without it."""
    bare = over(vllm_server)
    asked = Problem(id="sum", question="Compute 336 + 37.")
    ours, theirs = await ask(local, sandbox, asked), await ask(bare, sandbox, asked)
    assert [s.token_ids for s in theirs.generated] == [s.token_ids for s in ours.generated]
    assert theirs.response == ours.response
    assert not theirs.prompt.token_ids
    await bare.aclose()


async def test_style_chat_works_there_too(vllm_server: Any, sandbox: Sandbox) -> None:
    chat = over(vllm_server, style="chat")
    made = await ask(chat, sandbox, problem("test", 11, 0, "rotation"))
    assert made.observations
    assert made.segments[0].text.endswith("<code>")
    assert made.segments[1].text.endswith("</code>")
    assert not chat._answers._waiting
    await chat.aclose()


# --- temperatures -----------------------------------------------------------------------------------------------------


async def test_text_is_drawn_and_code_is_greedy_given_the_text(
    exact: OpenAIEngine, local: TransformersEngine, sandbox: Sandbox
) -> None:
    """Two phases: the text differs from seed to seed; the code is what the local engine takes as the best."""
    asked = problem("test", 11, 1, "zoom")
    texts, blocks = set(), 0
    for seed in range(6):
        made = await ask(exact, sandbox, asked, seed=seed, text_temperature=2.0, max_rounds=1, max_tokens=200)
        texts.add(made.segments[0].text)
        for index, segment in enumerate(made.segments):
            if segment.kind != "code":
                continue
            blocks += 1
            assert segment.temperature == 0.0
            before = made.segments[:index]
            request = Request(
                f"check-{seed}-{index}", made.prompt, before, stop=("</code>",), max_tokens=len(segment.token_ids)
            )
            again = await write(local, request)
            if exact.retokenized == 0:
                assert again.token_ids == segment.token_ids
            await local.release(request.trajectory_id)
    assert len(texts) > 2
    assert blocks > 0


async def test_a_seed_gives_the_same_span_again(exact: OpenAIEngine) -> None:
    prompt = exact.prompt("", "Compute 336 + 37.", [])
    one, two, other = [
        (await write(exact, Request("t", prompt, temperature=2.0, seed=seed, max_tokens=30))).token_ids
        for seed in (1, 1, 2)
    ]
    assert one == two != other


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 1.7])
async def test_logprobs_are_those_of_logits_over_tau(
    exact: OpenAIEngine, local: TransformersEngine, temperature: float
) -> None:
    """Against the local engine, which is given the very tokens, one by one."""
    prompt = exact.prompt("", "Compute 336 + 37.", [])
    span = await write(exact, Request("t", prompt, temperature=temperature, seed=3, max_tokens=12))
    if exact.facts.logprobs == "raw" and temperature not in {0.0, 1.0}:
        assert span.logprobs is None
        return
    assert span.logprobs is not None
    logits = await asyncio.to_thread(reference, (*prompt.token_ids, *span.token_ids))
    start = len(prompt.token_ids)
    for offset, (token, value) in enumerate(zip(span.token_ids, span.logprobs, strict=True)):
        expected = (logits[start + offset - 1] / (temperature or 1.0)).log_softmax(-1)[token]
        # Placeholders of images are kept from being drawn; what they had is spread over the others.
        assert value == pytest.approx(float(expected), abs=2e-3 if temperature <= 1 else 2e-2)


def reference(ids: tuple[int, ...]) -> Any:
    import torch
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_blocked_strings_are_not_written(exact: OpenAIEngine, vllm_server: Any, sandbox: Sandbox) -> None:
    bare = over(vllm_server)
    for engine in (exact, bare):
        for index in range(3):
            made = await rollout(
                problem("test", 11, index, "zoom"), engine, sandbox, RolloutConfig(tools=False), prompts=WORDS
            )
            assert made.error is None
            assert "<code>" not in made.response
            assert made.stop in {StopReason.ANSWER, StopReason.END, StopReason.REPETITION, StopReason.MAX_ROUND_TOKENS}
    await bare.aclose()


async def test_closing_the_iterator_stops_the_server(exact: OpenAIEngine, vllm_server: Any) -> None:
    before = written(vllm_server)
    prompt = exact.prompt("", "Compute 336 + 37.", [])
    endless = over(vllm_server, extra={"ignore_eos": True})
    spans = endless.stream(Request("t", prompt, max_tokens=3500, temperature=1.0, seed=0))
    async with aclosing(spans):
        async for _ in spans:
            assert await comes_to(vllm_server, 1)
            break
    assert await comes_to(vllm_server, 0)
    assert written(vllm_server) - before < 3000
    await endless.aclose()


async def comes_to(server: Any, count: int) -> bool:
    """Whether so many requests run on the server soon; its figures come a little late."""
    for _ in range(100):
        if running(server) == count:
            return True
        await asyncio.sleep(0.05)
    return False


def metric(server: Any, name: str) -> float:
    text = httpx.get(server.url.removesuffix("v1") + "metrics", timeout=30).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"vllm:{name}{{"))


def running(server: Any) -> float:
    return metric(server, "num_requests_running")


def written(server: Any) -> float:
    return metric(server, "generation_tokens_total")


async def test_a_full_context_is_told_as_such(exact: OpenAIEngine, vllm_server: Any) -> None:
    bare = over(vllm_server)
    limit = bare.info.capabilities.max_context
    assert limit is not None
    long = "red " * limit
    with pytest.raises(ContextFullError, match="does not fit"):
        await write(bare, Request("t", bare.prompt("", long, []), max_tokens=5))
    with pytest.raises(ContextFullError, match=f"leave no room in a context of {limit}"):
        exact.prompt("", long, [])
    nearly = "red " * (limit - 60)
    await bare.aclose()
    for tokenizer in (NANO, None):
        endless = over(vllm_server, tokenizer=tokenizer, extra={"ignore_eos": True})
        request = Request("t", endless.prompt("", nearly, []), max_tokens=500)
        chunks = [chunk async for chunk in endless.stream(request)]
        assert chunks[-1].stop == "context"
        assert 0 < sum(len(chunk.token_ids) for chunk in chunks) < 60
        await endless.aclose()


def test_a_model_that_is_not_there_is_told(vllm_server: Any) -> None:
    with pytest.raises(ModelNotFoundError, match=f"no model 'nani'; it offers {vllm_server.model}"):
        open_engine(f"{vllm_server.url}#nani")
    assert open_engine(vllm_server.url).info.name == vllm_server.model


async def test_too_many_images_are_refused_clearly(exact: OpenAIEngine) -> None:
    image = ImageRecord.of(Image.new("RGB", (64, 64)))
    prompt = exact.prompt("", "<image>" * 9, [image] * 9)
    with pytest.raises(EngineError, match=r"an image was refused.*At most 8 image"):
        await write(exact, Request("t", prompt, max_tokens=2))


async def test_a_control_token_in_a_question_is_noticed(exact: OpenAIEngine) -> None:
    prompt = exact.prompt("", "Compute 1 + 1.<|im_end|>", [])
    with pytest.raises(EngineError, match="reads the conversation as"):
        await write(exact, Request("t", prompt, max_tokens=2))


async def test_another_checkpoints_pixel_limits_are_noticed(vllm_server: Any, tmp_path: Path) -> None:
    """The tokenizer's folder says other sizes than the server uses."""
    import json
    import shutil

    folder = tmp_path / "other"
    shutil.copytree(NANO, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for name in ("preprocessor_config.json", "processor_config.json"):
        content = json.loads((folder / name).read_text())
        content["size"] = {"shortest_edge": 1024, "longest_edge": 2048}
        (folder / name).write_text(json.dumps(content))
    wrong = over(vllm_server, tokenizer=str(folder))
    image = ImageRecord.of(Image.new("RGB", (120, 120)))
    with pytest.raises(EngineError, match="Name the checkpoint that is served"):
        await write(wrong, Request("t", wrong.prompt("", "<image>", [image]), max_tokens=2))
    await wrong.aclose()
