"""The Python API behaves as people expect of such a client."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample_records as samples
from PIL import Image
from waiting import until, wait_until

import thyme
from thyme import AsyncThyme, Thyme
from thyme.api import ExecutionEvent, FinishedEvent, GeneratedEvent, Result
from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import (
    ConfigError,
    EngineError,
    ImageError,
    ModelNotFoundError,
    SandboxError,
    ScriptExhaustedError,
    UsageError,
)
from thyme.sandbox import Sandbox
from thyme.sandbox.base import Sandbox as SandboxContract
from thyme.store import read_trajectories
from thyme.types import Execution, StopReason

CODE = (
    "from PIL import Image\nImage.open(image_path).crop((0, 0, 8, 9)).save('c.png')\nprint('c.png', len(image_paths))"
)
CROPS = [f"<think>I look.\n<code>\n```python\n{CODE}\n```\n</code>", "Seen.</think>\n<answer>KX 47</answer>"]
SAYS = ["<think>Easy.</think>\n<answer>4</answer>"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(timeout_s=30) as found:
        yield found


@pytest.fixture
def crops(sandbox: Sandbox) -> Iterator[Thyme]:
    """A client whose model crops, in one sandbox that the tests share."""
    with Thyme(ScriptedEngine(CROPS), sandbox=sandbox) as client:
        yield client


def slow(script: list[str] | None = None) -> ScriptedEngine:
    return ScriptedEngine(script or [f"<think>{'and on ' * 9999}"], delay_s=0.02)


class Fake:
    """An object of the contract; nothing runs in it."""

    isolation = "scripted"

    def __init__(self) -> None:
        self.closed = False

    def session(self, images: Any, seed: int = 0) -> Any:
        raise SandboxError("no session is to be had")

    async def aclose(self) -> None:
        self.closed = True


def test_the_names_are_there() -> None:
    assert {"Thyme", "AsyncThyme"} <= set(dir(thyme))
    with pytest.raises(AttributeError, match="no attribute 'Time'"):
        _ = thyme.Time


# --- what comes back


def test_a_result_has_answer_images_code_and_record(crops: Thyme) -> None:
    result = crops.ask(samples.picture(), "What does the sign say?")
    assert (result.answer, str(result), result.stop) == ("KX 47", "KX 47", StopReason.ANSWER)
    assert [image.size for image in result.images] == [(8, 9)]
    assert result.code == (CODE,)
    assert result.text == result.trajectory.response
    assert repr(result) == "<Result 'KX 47', stop=answer, 1 code block>"


def test_a_result_is_saved_and_shown(crops: Thyme, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = crops.ask(samples.picture(), "Is </iframe><script> a sign?")
    assert result.save(tmp_path / "new" / "out") == tmp_path / "new" / "out"
    [stored] = read_trajectories(tmp_path / "new" / "out" / "trajectory.jsonl")
    assert (stored.id, stored.response) == (result.trajectory.id, result.trajectory.response)
    assert (tmp_path / "new" / "out" / "page.html").read_text(encoding="utf-8") == result.page()
    result.show()
    assert "answer     KX 47" in capsys.readouterr().out
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file cannot be written .*; name another folder"):
        result.save(tmp_path / "file")
    frame = result._repr_html_()
    assert frame.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert 'sandbox=""' in frame
    assert frame.count("<") == 2, "the frame and its end: nothing of the page or of the question is markup here"


def test_no_answer_is_a_result(sandbox: Sandbox) -> None:
    with Thyme(ScriptedEngine(CROPS), sandbox=sandbox) as client:
        result = client.ask(None, "What?", max_rounds=0)
    assert (result.answer, str(result), result.stop) == (None, "", StopReason.MAX_ROUNDS)


# --- what goes in


def as_png() -> bytes:
    file = io.BytesIO()
    samples.picture().save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (None, 0),
        ([], 0),
        (samples.picture(), 1),
        (as_png(), 1),
        (np.asarray(samples.picture()), 1),
        (samples.scene(), 1),
        ([as_png(), samples.picture()], 2),
    ],
    ids=["none", "empty", "pillow", "bytes", "array", "record", "several"],
)
def test_whatever_shows_a_picture_can_be_asked_about(sandbox: Sandbox, given: Any, count: int) -> None:
    with Thyme(ScriptedEngine(SAYS), sandbox=sandbox) as client:
        problem = client.ask(given, "What?").trajectory.problem
    assert [image.size for image in problem.images] == [samples.picture().size] * count


def test_a_file_can_be_asked_about_and_its_path_is_not_stored(crops: Thyme, tmp_path: Path) -> None:
    (tmp_path / "street.png").write_bytes(as_png())
    for path in (tmp_path / "street.png", str(tmp_path / "street.png")):
        trajectory = crops.ask(path, "What?").trajectory
        assert trajectory.problem.images[0].name == "street.png"
        assert str(tmp_path) not in trajectory.model_dump_json()


def test_bad_input_is_an_error_of_the_package(crops: Thyme) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        crops.ask("gone.png", "What?")
    with pytest.raises(ImageError, match="is no picture"):
        crops.ask(3, "What?")  # type: ignore[arg-type] # the point
    for question in ("", " ", None, 3):
        with pytest.raises(UsageError, match="question must be text"):
            crops.ask(None, question)  # type: ignore[arg-type] # the point
    with pytest.raises(UsageError, match="half of a character"):
        crops.ask(None, "What?\ud800")
    with pytest.raises(UsageError, match="seed is a str"):
        crops.ask(None, "What?", seed="1")  # type: ignore[arg-type] # the point
    with pytest.raises(ConfigError, match=r"unknown key 'max_round'; did you mean 'max_rounds'\?"):
        crops.ask(None, "What?", max_round=3)
    with pytest.raises(ConfigError, match="text_temperature"):
        next(crops.stream(None, "What?", text_temperature=-1))
    with pytest.raises(UsageError, match=r"question 1 is a str; give pairs"):
        crops.ask_many(["What?"])  # type: ignore[list-item] # the point
    with pytest.raises(UsageError, match="concurrency is 0"):
        crops.ask_many([(None, "What?")], concurrency=0)


def test_what_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        Thyme("scripted:nowhere.json", sandbox=Fake())
    with pytest.raises(ConfigError, match="unknown key 'temperature'"):
        Thyme("nano", temperature=1)
    with pytest.raises(ConfigError, match="prompt folder"):
        Thyme("nano", prompts=tmp_path)
    with pytest.raises(UsageError, match="sandbox is a int"):
        Thyme(ScriptedEngine(SAYS), sandbox=3)  # type: ignore[arg-type] # the point
    with pytest.raises(SandboxError, match=r"127\.0\.0\.1:9"):
        Thyme(ScriptedEngine(SAYS), sandbox="http://127.0.0.1:9")
    with pytest.raises(UsageError, match="no address of a sandbox server"):
        Thyme(ScriptedEngine(SAYS), sandbox="somewhere")
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        Thyme(tmp_path / "nowhere", sandbox=Fake())
    with pytest.raises(UsageError, match="engine is a int; give a model's name or folder, or an Engine"):
        Thyme(7, sandbox=Fake())  # type: ignore[arg-type] # the point


# --- settings


def test_settings_hold_for_all_questions_or_for_one(sandbox: Sandbox) -> None:
    engine = ScriptedEngine(SAYS)
    with Thyme(
        engine, sandbox=sandbox, config=RolloutConfig(max_rounds=1, max_tokens=77), text_temperature=1
    ) as client:
        assert client.ask(None, "What?").trajectory.sampling.text_temperature == 1
        sampling = client.ask(None, "What?", tools=False, code_temperature=0.5, seed=3).trajectory.sampling
        assert (sampling.tools, sampling.max_rounds, sampling.max_tokens) == (False, 1, 77)
        assert (sampling.text_temperature, sampling.code_temperature) == (1, 0.5)
        assert engine.requests[-1].blocked == ("<code>",)
        plain = client.ask(None, "What?", config=RolloutConfig(), max_rounds=3).trajectory
        assert (plain.sampling.text_temperature, plain.sampling.max_rounds, plain.seed) == (0, 3, 0)


def test_prompts_are_those_of_the_folder(sandbox: Sandbox, tmp_path: Path) -> None:
    for name in ("system.txt", "user.txt", "user_text_only.txt"):
        (tmp_path / name).write_text("Say it in verse: {{ question }}" if "user" in name else "You rhyme.")
    with Thyme(ScriptedEngine(SAYS), sandbox=sandbox, prompts=str(tmp_path)) as client:
        prompt = client.ask(None, "What?").trajectory.prompt
    assert (prompt.system, prompt.user) == ("You rhyme.", "Say it in verse: What?")


def test_a_model_by_name_is_loaded_as_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Thyme("nano", engine_config=EngineConfig(max_context=1500), sandbox=Fake()) as client:
        assert repr(client) == "<Thyme nano, scripted>"
        with caplog.at_level(logging.WARNING):
            client.ask(Image.new("RGB", (8, 8)), "What?", max_tokens=1)
        assert "no picture of nano's world" in caplog.text


# --- errors while asking


def test_a_failed_rollout_raises_the_error_it_had(sandbox: Sandbox) -> None:
    with Thyme(ScriptedEngine(CROPS[:1]), sandbox=sandbox) as client:
        with pytest.raises(ScriptExhaustedError, match="the engine failed: the script has 1 continuations"):
            client.ask(samples.picture(), "What?")
        *_, last = client.stream(samples.picture(), "What?")
        assert isinstance(last, FinishedEvent)
        assert last.trajectory.stop == "error"
    with (
        Thyme(ScriptedEngine(CROPS), sandbox=Fake()) as client,
        pytest.raises(SandboxError, match="the sandbox failed: no session"),
    ):
        client.ask(None, "What?")


def test_code_that_fails_is_no_error(sandbox: Sandbox) -> None:
    fails = [CROPS[0].replace(CODE, "1 / 0"), SAYS[0]]
    with Thyme(ScriptedEngine(fails), sandbox=sandbox) as client:
        result = client.ask(None, "What?")
    assert result.answer == "4"
    execution: Execution = result.trajectory.observations[0].execution
    assert execution.error is not None
    assert execution.error.type == "ZeroDivisionError"


# --- streaming


def test_events_concatenate_to_the_result(crops: Thyme) -> None:
    events = list(crops.stream(samples.picture(), "What?"))
    assert isinstance(events[-1], FinishedEvent)
    texts = "".join(event.text for event in events if isinstance(event, GeneratedEvent))
    assert texts == "".join(CROPS)
    assert [type(event) for event in events].count(ExecutionEvent) == 1


def test_leaving_the_loop_cancels_the_rollout() -> None:
    engine = slow()
    with Thyme(engine, sandbox=Fake()) as client:
        for _ in client.stream(None, "What?"):
            assert engine.running == 1
            break
        gc.collect()
        assert engine.running == 0, "the generator was closed, and waited for the rollout to end"
        assert len(engine.released) == 1
        stream = client.stream(None, "What?")
        next(stream)
        stream.close()
        assert engine.running == 0


# --- many questions


def test_many_come_in_order_and_no_more_than_allowed_at_once(sandbox: Sandbox) -> None:
    engine = ScriptedEngine(
        {f"is {n}?": [f"<think>{'.' * 40 * (9 - n)}</think><answer>{n}</answer>"] for n in range(8)}
    )
    most = 0

    class Watched(ScriptedEngine):
        async def stream(self, request: Any) -> Any:
            nonlocal most
            async for chunk in engine.stream(request):
                most = max(most, engine.running)
                yield chunk

    with Thyme(Watched([]), sandbox=sandbox) as client:
        results = client.ask_many(((None, f"What is {n}?") for n in range(8)), concurrency=3, seed=10)
    assert [result.answer for result in results] == [str(n) for n in range(8)]
    assert [result.trajectory.seed for result in results] == list(range(10, 18))
    assert most == 3


def test_one_that_fails_ends_the_rest_or_stands_in_its_place() -> None:
    engine = slow([*SAYS])
    questions = [(None, "What?"), ("gone.png", "What?"), (None, "And what?")]
    with Thyme(engine, sandbox=Fake()) as client:
        with pytest.raises(ImageError, match=r"gone\.png"):
            client.ask_many(questions)
        assert engine.running == 0
        first, second, third = client.ask_many(questions, return_exceptions=True)
    assert isinstance(second, ImageError)
    assert isinstance(first, Result)
    assert isinstance(third, Result)
    assert (first.answer, third.answer) == ("4", "4")


def test_a_bar_is_shown_where_somebody_sees_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Thyme(ScriptedEngine(SAYS), sandbox=Fake()) as client:
        assert len(client.ask_many([(None, "What?")] * 2, progress=True)) == 2
        assert capsys.readouterr().err == ""
        monkeypatch.setenv("FORCE_COLOR", "1")  # which makes rich take any stream for a terminal
        client.ask_many([(None, "What?")] * 2, progress=True)
    assert "100%" in capsys.readouterr().err


# --- loops, threads, ends


async def test_it_works_where_a_loop_runs(crops: Thyme) -> None:
    assert crops.ask(samples.picture(), "What?").answer == "KX 47"


def test_many_threads_may_ask_at_once(crops: Thyme) -> None:
    answers: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: answers.append(crops.ask(samples.picture(), "What?").answer)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["KX 47"] * 6


def test_closing_ends_what_is_at_work_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    engine = slow()
    client = Thyme(engine, sandbox=Fake())
    failures: list[Exception] = []

    def ask() -> None:
        try:
            client.ask(None, "What?")
        except EngineError as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: engine.running == 1)
    client.close()
    client.close()
    asking.join(20)
    assert [str(failure) for failure in failures] == ["the Thyme was closed meanwhile"]
    assert engine.running == 0
    wait_until(lambda: set(threading.enumerate()) <= before)
    with pytest.raises(EngineError, match="the Thyme is closed"):
        client.ask(None, "What?")
    assert repr(client) == "<Thyme closed>"


def test_closing_ends_a_stream() -> None:
    engine = slow()
    client = Thyme(engine, sandbox=Fake())
    stream = client.stream(None, "What?")
    next(stream)
    client.close()
    with pytest.raises(EngineError, match="the Thyme was closed meanwhile"):
        list(stream)
    assert engine.running == 0
    with pytest.raises(EngineError, match="the Thyme is closed"):
        next(client.stream(None, "What?"))


def test_ctrl_c_ends_the_question_and_not_the_client() -> None:
    engine = slow([f"<think>{'and on ' * 9999}"])
    with Thyme(ScriptedEngine(SAYS), sandbox=Fake()) as quick, Thyme(engine, sandbox=Fake()) as client:
        timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            client.ask(None, "What?")
        timer.join()
        wait_until(lambda: engine.running == 0)
        assert quick.ask(None, "What?").answer == "4"


def test_one_that_is_forgotten_is_closed() -> None:
    before = set(threading.enumerate())
    client = Thyme(ScriptedEngine(SAYS), sandbox=Fake())
    client.ask(None, "What?")
    del client
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_what_was_given_stays_open_and_what_was_opened_is_closed(sandbox: Sandbox, tmp_path: Path) -> None:
    fake = Fake()
    with Thyme(ScriptedEngine(SAYS), sandbox=fake):
        assert isinstance(fake, SandboxContract)
    assert not fake.closed
    with Thyme(ScriptedEngine(CROPS), sandbox=sandbox) as client:
        client.ask(samples.picture(), "What?")
    assert sandbox.run("print(1)").stdout == "1\n"
    (tmp_path / "script.json").write_text(json.dumps(CROPS))
    with Thyme(f"scripted:{tmp_path}/script.json", sandbox=SandboxConfig(timeout_s=7)) as client:
        broker: Any = client._background.value._opened.sandbox  # type: ignore[union-attr] # it is open
        assert client.ask(samples.picture(), "What?").answer == "KX 47"

    async def use() -> None:
        async with broker.session([]):
            pass

    with pytest.raises(SandboxError, match="closed"):
        asyncio.run(use())


def test_a_program_that_forgets_to_close_ends(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(json.dumps(CROPS))
    program = (
        "from thyme import Thyme\n"
        f"client = Thyme('scripted:{tmp_path}/script.json')\n"
        f"print(client.ask({str(tmp_path / 'a.png')!r}, 'What?'))\n"
        "stream = client.stream(None, 'What?')\nnext(stream)"
    )
    samples.picture().save(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "KX 47\n", "")


# --- the asynchronous one


async def test_the_asynchronous_one_has_the_same_methods(sandbox: Sandbox) -> None:
    before = set(threading.enumerate())
    async with AsyncThyme(ScriptedEngine(CROPS), sandbox=sandbox) as client:
        assert repr(client).startswith("<AsyncThyme scripted, ")
        one, other = await asyncio.gather(*(client.ask(samples.picture(), "What?") for _ in range(2)))
        assert one.answer == other.answer == "KX 47"
        many = await client.ask_many([(samples.picture(), "What?"), ("gone.png", "What?")], return_exceptions=True)
        assert isinstance(many[1], ImageError)
        events = [event async for event in client.stream(samples.picture(), "What?")]
        assert isinstance(events[-1], FinishedEvent)
    named = {thread.name for thread in set(threading.enumerate()) - before}
    assert not any(name.startswith("thyme-Thyme") for name in named)
    with pytest.raises(EngineError, match="closed"):
        await client.ask(None, "What?")


async def test_it_opens_with_the_first_question_and_cancelling_frees_it() -> None:
    engine = slow()
    client = AsyncThyme(engine, sandbox=Fake())
    assert repr(client) == "<AsyncThyme not open yet>"
    task = asyncio.create_task(client.ask(None, "What?"))
    await until(lambda: engine.running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (engine.running, len(engine.released)) == (0, 1)
    await client.aclose()
    assert repr(client) == "<AsyncThyme closed>"


def test_it_belongs_to_one_loop() -> None:
    client = AsyncThyme(ScriptedEngine(SAYS), sandbox=Fake())
    assert asyncio.run(client.ask(None, "What?")).answer == "4"
    with pytest.raises(UsageError, match="opened in another event loop"):
        asyncio.run(client.ask(None, "What?"))


async def test_a_lent_sandbox_is_freed_where_a_run_is_cancelled(sandbox: Sandbox) -> None:
    sleeps = CROPS[0].replace(CODE, "import time\ntime.sleep(25)")
    async with AsyncThyme(ScriptedEngine([sleeps]), sandbox=sandbox) as client:
        asked = asyncio.create_task(client.ask(None, "What?"))
        await asyncio.sleep(0.5)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(asked), 15)
