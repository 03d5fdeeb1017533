"""The shipped fake behaves as the contract of engines says, so tests on it mean something."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from thyme.engines.base import Capabilities, Engine, Request
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import ContextFullError, EngineError, ScriptExhaustedError
from thyme.types import Execution, Generated, ImageRecord

SCRIPT = ["look<code>x = 1</code>", "so<answer>7</answer>"]


def request(engine, **fields):
    return Request(trajectory_id="t", prompt=engine.prompt("s", "user asks", ()), **fields)


async def write(engine, **fields):
    """Chunks of one span, and its text."""
    chunks = [chunk async for chunk in engine.stream(request(engine, **fields))]
    return chunks, "".join(chunk.text for chunk in chunks)


def text_segment(text):
    return Generated(kind="text", text=text, temperature=0.0)


def test_it_keeps_the_contract():
    assert isinstance(ScriptedEngine(SCRIPT), Engine)


async def test_a_span_ends_with_its_stop_string_and_says_so():
    chunks, text = await write(ScriptedEngine(SCRIPT), stop=("<code>", "</answer>"))
    assert text == "look<code>"
    assert [chunk.stop for chunk in chunks] == [None, None, "stop"]
    assert chunks[-1].stop_string == "<code>"
    assert all(len(chunk.text) <= 4 for chunk in chunks)


async def test_it_goes_on_where_the_segments_end():
    engine = ScriptedEngine(SCRIPT)
    first = text_segment("look<code>")
    code = Generated(kind="code", text="x = 1</code>", temperature=0.0)
    assert (await write(engine, segments=(first,), stop=("</code>",)))[1] == "x = 1</code>"
    observation = engine.observation(Execution(code="x = 1"))
    assert (await write(engine, segments=(first, code, observation)))[1] == "so<answer>7</answer>"


async def test_the_end_of_the_script_ends_the_turn_and_beyond_it_is_an_error():
    engine = ScriptedEngine(["all"])
    chunks, text = await write(engine)
    assert (text, chunks[-1].stop) == ("all", "end")
    assert [chunk.stop for chunk in (await write(engine, segments=(text_segment("all"),)))[0]] == ["end"]
    with pytest.raises(ScriptExhaustedError, match="has 1 continuations; number 2"):
        await write(engine, segments=(text_segment("all"), engine.observation(Execution(code="x"))))


async def test_the_earliest_stop_string_wins():
    assert (await write(ScriptedEngine(["a<answer>b</answer><code>"]), stop=("<code>", "</answer>")))[1].endswith(
        "</answer>"
    )


async def test_blocked_strings_are_never_completed():
    engine = ScriptedEngine(SCRIPT)
    assert "<code>" not in (await write(engine, blocked=("<code>",)))[1]
    assert (await write(ScriptedEngine(["a<co<code>de>b"]), blocked=("<code>",)))[1] == "ab"
    rest = await write(engine, blocked=("<code>",), segments=(text_segment("lookx ="),))
    assert rest[1] == " 1</code>"


@given(st.integers(1, 30), st.integers(1, 6))
async def test_no_more_tokens_than_asked_for(limit, width):
    engine = ScriptedEngine(["abcdefghijklmnop<code>"], token_chars=width)
    chunks, text = await write(engine, max_tokens=limit, stop=("<code>",))
    whole = text == "abcdefghijklmnop<code>"
    assert len(chunks) <= limit
    assert chunks[-1].stop == ("stop" if whole else "length")
    assert whole or len(chunks) == limit


@given(st.integers(1, 6), st.booleans())
async def test_chunks_are_the_decoding_of_their_ids(width, whole):
    engine = ScriptedEngine(SCRIPT, token_chars=width, whole_tokens=whole)
    chunks, text = await write(engine, stop=("<code>",))
    assert engine.decode([token for chunk in chunks for token in chunk.token_ids]) == text
    assert all(len(chunk.logprobs) == len(chunk.token_ids) == 1 for chunk in chunks)
    assert text.startswith("look<code>")
    assert len(text) - len("look<code>") < (width if whole else 1)


async def test_the_token_that_completes_a_stop_string_may_reach_beyond_it():
    engine = ScriptedEngine(SCRIPT, token_chars=4, whole_tokens=True)
    assert (await write(engine, stop=("<code>",)))[1] == "look<code>x "


async def test_capabilities_are_kept():
    plain = ScriptedEngine(SCRIPT, capabilities=Capabilities())
    chunks, _ = await write(plain)
    assert not any(chunk.token_ids or chunk.logprobs for chunk in chunks)
    assert plain.prompt("s", "u", ()).token_ids == plain.observation(Execution(code="x")).token_ids == ()
    assert plain.info.fingerprints.tokenizer == ""


async def test_a_full_context_is_said():
    engine = ScriptedEngine(["x" * 400], capabilities=Capabilities(token_ids=True, max_context=20))
    chunks, _ = await write(engine)
    used = len(engine.prompt("s", "user asks", ()).token_ids)
    assert (len(chunks), chunks[-1].stop) == (20 - used, "context")
    with pytest.raises(ContextFullError, match="of 20 tokens"):
        await write(engine, segments=(text_segment("x" * 80),))
    with pytest.raises(ContextFullError, match="the prompt has"):
        engine.prompt("s" * 80, "u", ())


async def test_scripts_by_question_and_by_function():
    by_question = ScriptedEngine({"asks": ["short"], "user asks": ["long"]})
    assert (await write(by_question))[1] == "long"
    with pytest.raises(ScriptExhaustedError, match="no script for"):
        await write(ScriptedEngine({"else": ["x"]}))
    assert (await write(ScriptedEngine(lambda request: [request.prompt.user])))[1] == "user asks"


async def test_errors_can_be_scripted():
    with pytest.raises(EngineError, match="down"):
        await write(ScriptedEngine([EngineError("down")]))


async def test_it_records_what_was_asked():
    engine = ScriptedEngine(SCRIPT, delay_s=0.001)
    stream = engine.stream(request(engine, temperature=0.7))
    await anext(stream)
    assert engine.running == 1
    await stream.aclose()
    await engine.release("t")
    assert engine.running == 0
    assert [asked.temperature for asked in engine.requests] == [0.7]
    assert engine.released == ["t"]


def test_images_are_seen_reduced_and_take_tokens():
    engine = ScriptedEngine(SCRIPT, max_side=10, image_tokens=7)
    record = ImageRecord.of(Image.new("RGB", (40, 8)))
    prompt = engine.prompt("s", "<image>", (record,))
    assert (prompt.images[0].seen_width, prompt.images[0].seen_height) == (10, 2)
    observation = engine.observation(Execution(code="x", images=(record,)))
    assert observation.seen_sizes == ((10, 2),)
    assert observation.token_ids.count(0) == prompt.token_ids.count(0) == 7


def test_requests_are_frozen():
    engine = ScriptedEngine(SCRIPT)
    with pytest.raises(dataclasses.FrozenInstanceError):
        request(engine).seed = 3
