"""Servers that cannot continue a message: one answer, given out span by span; observations as a user's turns."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_server import Fake, error, images, serving, texts
from PIL import Image

from thyme.agent.rollout import rollout
from thyme.config import EngineConfig, OpenAIConfig, RolloutConfig
from thyme.engines import open_engine
from thyme.engines.base import Chunk, Request
from thyme.engines.openai import OpenAIEngine
from thyme.engines.openai_chat import open_tag
from thyme.errors import EngineError
from thyme.sandbox import open_sandbox
from thyme.types import Execution, Generated, ImageRecord, Problem, Prompt, StopReason, Trajectory

IMAGE = ImageRecord.of(Image.new("RGB", (40, 30), (250, 0, 0)))
CODE = "\n```python\nImage.open(image_path).crop((0, 0, 9, 9)).save('a.png')\nprint('a.png')\n```\n"
ROUNDS = (f"<think>I zoom.<code>{CODE}</code>", "It is red.</think><answer>red</answer>")
TEXT = ("<code>", "</answer>")


def open_over(url: str, **openai: Any) -> OpenAIEngine:
    engine = open_engine(f"{url}#toy", EngineConfig(openai=OpenAIConfig(**({"backoff_s": 0.01} | openai))))
    assert isinstance(engine, OpenAIEngine)
    return engine


def hosted(*script: str, **fields: Any) -> Fake:
    return Fake(script, **({"kind": "hosted", "with_ids": False, "context": None} | fields))


async def ask(fake: Fake, **config: Any) -> Trajectory:
    with serving(fake) as url:
        engine = await asyncio.to_thread(open_over, url)
        fake.requests.clear()
        problem = Problem(id="p", question="Which colour?", images=(IMAGE,))
        async with open_sandbox() as sandbox:
            trajectory = await rollout(problem, engine, sandbox, RolloutConfig(**config))
        assert not engine._answers._waiting
        await engine.aclose()
    return trajectory


@pytest.mark.parametrize(
    "server", [{}, {"strips_stop": False}, {"streams": False}, {"refuses": ["stop"]}, {"kind": "deaf"}]
)
async def test_a_rollout_of_two_rounds(server: dict[str, Any]) -> None:
    fake = hosted(*ROUNDS, **server)
    trajectory = await ask(fake)
    first, code, observation, last = trajectory.segments
    assert (first.text, code.text, last.text) == ("<think>I zoom.<code>", f"{CODE}</code>", ROUNDS[1])
    assert (first.kind, code.kind, trajectory.stop) == ("text", "code", StopReason.ANSWER)
    assert observation.text == "\n<sandbox_output>\na.png\n<image>\n</sandbox_output>\n"
    assert len(fake.requests) == 2  # text and code of a round in one
    assert fake.requests[0].get("stop", ["</code>", "</answer>"]) == ["</code>", "</answer>"]
    roles = [message["role"] for message in fake.last["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert texts(fake.last["messages"][2]) == ROUNDS[0]
    assert texts(fake.last["messages"][3]) == "\n<sandbox_output>\na.png\n\n</sandbox_output>\n"
    assert images(fake.last["messages"]) == 2


async def test_two_temperatures_cannot_be_kept_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    fake = hosted(*ROUNDS)
    await ask(fake, text_temperature=0.8, code_temperature=0.8)
    assert not caplog.records
    trajectory = await ask(fake, text_temperature=0.8, code_temperature=0.0)
    assert {(part.kind, part.temperature) for part in trajectory.generated} == {("text", 0.8), ("code", 0.8)}
    assert [body["temperature"] for body in fake.requests] == [0.8, 0.8]
    (record,) = caplog.records
    assert "code is sampled at the temperature of the text" in record.message


async def test_a_turn_that_ends_inside_code_runs_nothing() -> None:
    """Where the server says or shows what it stopped at; where it does neither, the block counts as closed."""
    trajectory = await ask(hosted(f"<think>I zoom.<code>{CODE}", refuses=["stop"]))
    assert [segment.kind for segment in trajectory.segments] == ["text", "code"]
    assert trajectory.stop == StopReason.END


async def test_code_that_is_blocked_ends_the_rollout_with_an_error() -> None:
    trajectory = await ask(hosted(*ROUNDS), tools=False)
    assert trajectory.stop == StopReason.ERROR
    assert trajectory.error is not None
    assert "<code>, which is not allowed here" in trajectory.error.message
    assert "<code>" not in trajectory.response


async def test_bounds_of_tokens_end_an_answer() -> None:
    trajectory = await ask(hosted("<think>" + "word " * 50), max_tokens=10)
    assert trajectory.stop == StopReason.MAX_TOKENS
    assert 35 <= len(trajectory.response) <= 45


@pytest.mark.parametrize(("prompt", "left", "stop"), [(90, 10, "context"), (60, 40, "length")])
async def test_a_question_that_fits_is_answered_with_the_tokens_left(prompt: int, left: int, stop: str) -> None:
    fake = hosted("word" * 50, context=100)
    with serving(fake) as url:
        engine = await asyncio.to_thread(open_over, url)
        fake.requests.clear()
        refusal = f"maximum context length is 100 tokens, the prompt contains {prompt} input tokens"
        fake.failures = [error(refusal)] if prompt + 40 > 100 else []
        request = Request("t", Prompt(system="", user="?"), stop=TEXT, max_tokens=40)
        chunks = [chunk async for chunk in engine.stream(request)]
        await engine.aclose()
    assert fake.last["max_tokens"] == left
    assert (sum(len(chunk.text) for chunk in chunks), chunks[-1].stop) == (4 * left, stop)


async def test_closing_a_span_early_or_releasing_the_rest_stops_the_server() -> None:
    fake = hosted("a<code>" + "x" * 9000, delay_s=0.002)
    with serving(fake) as url:
        engine = await asyncio.to_thread(open_over, url)
        request = Request("t", Prompt(system="", user="?"), stop=TEXT, max_tokens=5000)
        chunks = [chunk async for chunk in engine.stream(request)]
        assert chunks[-1].stop_string == "<code>"
        assert fake.running == 1  # the code is being written
        await engine.release("t")
        await gone(fake)
        spans = engine.stream(request)
        assert (await anext(spans)).text
        await spans.aclose()
        await gone(fake)
        await engine.aclose()


async def gone(fake: Fake) -> None:
    for _ in range(500):
        if not fake.running:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the server still writes")


async def test_a_turn_that_began_elsewhere_cannot_be_gone_on_with() -> None:
    fake = hosted("x")
    with serving(fake) as url:
        engine = await asyncio.to_thread(open_over, url)
        begun = Generated(kind="text", text="<think>hm<code>", temperature=0)
        with pytest.raises(EngineError, match="cannot go on with an answer that has begun"):
            async for _ in engine.stream(Request("t", Prompt(system="", user="?"), (begun,), stop=("</code>",))):
                pass
        await engine.aclose()


async def test_what_waits_for_another_trajectory_is_thrown_away() -> None:
    fake = hosted("a<code>b</code>")
    with serving(fake) as url:
        engine = await asyncio.to_thread(open_over, url)
        request = Request("t", Prompt(system="", user="?"), stop=TEXT)
        for _ in range(2):  # the second time from the beginning, while the code of the first waits
            chunks = [chunk async for chunk in engine.stream(request)]
            assert "".join(chunk.text for chunk in chunks) == "a<code>"
        await engine.aclose()
        assert not engine._answers._waiting


@given(
    st.text(alphabet="ab <", max_size=9),
    st.text(alphabet="cd >/", max_size=9),
    st.sampled_from(["</code>", ""]),
    st.integers(1, 9),
    st.booleans(),
)
def test_segments_do_not_depend_on_how_the_answer_is_cut(
    text: str, code: str, close: str, size: int, strips: bool
) -> None:
    """Text, code and the end, whatever the tokens are and whether the server takes the stop string out."""
    from thyme.engines.openai_chat import Answer
    from thyme.engines.openai_stream import Delta

    whole = f"{text}<code>{code}{close}"
    sent = whole.removesuffix(close) if strips else whole
    pieces = [sent[i : i + size] for i in range(0, len(sent), size)]

    async def deltas() -> Any:
        for piece in pieces:
            yield Delta(piece)
        yield Delta(finish="stop", stop_string=close or None)

    async def spans() -> list[list[Chunk]]:
        answer = Answer(deltas(), 0.0, ["</answer>"] if not close else ["</code>"])
        request = Request("t", Prompt(system="", user="?"), stop=TEXT)
        first = [chunk async for chunk in answer.span(request)]
        request = Request("t", Prompt(system="", user="?"), stop=("</code>",))
        return [first, [chunk async for chunk in answer.span(request)]]

    first, second = asyncio.run(spans())
    assert "".join(chunk.text for chunk in first) == f"{text}<code>"
    assert first[-1].stop_string == "<code>"
    assert "".join(chunk.text for chunk in second) == code + close
    assert second[-1].stop == ("stop" if close else "end")


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("", None),
        ("a<code>b", "</code>"),
        ("a<code>b</code>", None),
        ("a</think><answer>b", "</answer>"),
        ("<answer><code>x</code>b", "</answer>"),
        ("<code>'<answer>'", "</code>"),
    ],
)
def test_what_is_open_says_what_was_taken_out(text: str, tag: str | None) -> None:
    assert open_tag(text) == tag


def test_observations_are_rendered_without_ids() -> None:
    with serving(hosted("x")) as url:
        engine = open_over(url)
    seen = engine.observation(Execution(code="", stdout="7", images=(IMAGE,)))
    assert (seen.token_ids, seen.seen_sizes, seen.text.count("<image>")) == ((), ((40, 30),), 1)
