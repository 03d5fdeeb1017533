"""``thyme ask --model URL#NAME``: the real command, over HTTP, against a real ``thyme serve`` as the model's server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from command_helpers import thyme
from typer.testing import CliRunner

from thyme.api import AsyncThyme, Thyme
from thyme.background import Background
from thyme.cli import app
from thyme.config.serve import ServeConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import EngineError, ModelNotFoundError
from thyme.hosting import Address, listening, uvicorn_for
from thyme.sandbox import Sandbox
from thyme.serve.app import create_app

run = CliRunner()

KEY = "a-key-of-thirty-two-characters-xx"
SAYS = "<think>I see it.</think>\n<answer>The sign says KX 47.</answer>"


@contextlib.asynccontextmanager
async def opened(sandbox: Sandbox) -> AsyncIterator[str]:
    """A server whose model says the same to everybody, and which wants a key."""
    config = ServeConfig.model_validate({"api_keys": [KEY], "model_name": "signs"})
    served = create_app(ScriptedEngine([SAYS]), sandbox.lent(), config)
    with listening(Address("127.0.0.1", 0)) as (socket, url):
        server = uvicorn_for(served)
        serving = asyncio.create_task(server.serve(sockets=[socket]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield f"{url}/v1"
        finally:
            server.should_exit = True
            await serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Sandbox() as sandbox:
        background = Background(opened(sandbox), "server", EngineError)
        try:
            yield background.value
        finally:
            background.end()


def environment(key: str = KEY) -> dict[str, str]:
    return {"THYME_API_KEY": key, "OPENAI_API_KEY": "", "NO_PROXY": "*"}


def ask(model: str, *arguments: str, key: str = KEY) -> Result:
    return run.invoke(app, ["ask", "What does the sign say?", "--model", model, *arguments], env=environment(key))


def failed(done: Result, code: int) -> str:
    """The error line of a call that failed."""
    assert (done.exit_code, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr
    return done.stderr


def test_the_answer_of_a_server_is_shown(url: str, street: Path, tmp_path: Path) -> None:
    """In a process of its own. The server's only model needs no name; its key is stored nowhere."""
    arguments = ("ask", street, "What does the sign say?", "--model", url, "--save", tmp_path / "saved")
    done = thyme(*arguments, environment=environment())
    assert (done.returncode, done.stderr.decode().splitlines()[-1][:8]) == (0, "saved in")
    assert "The sign says KX 47." in done.stdout.decode()
    stored = (tmp_path / "saved" / "trajectory.jsonl").read_text(encoding="utf-8")
    assert json.loads(stored)["model"] == "signs"
    assert KEY not in stored


def test_it_is_asked_as_it_is_told(url: str) -> None:
    """Style and time-outs are settings."""
    done = ask(f"{url}#signs", "--json", "--set", "engine.openai.style=chat", "--set", "engine.openai.retries=0")
    assert done.exit_code == 0, done.stderr
    assert "The sign says KX 47." in done.stdout
    assert "unknown key 'engine.openai.stile'; did you mean 'engine.openai.style'?" in failed(
        ask(f"{url}#signs", "--set", "engine.openai.stile=chat"), 2
    )


def test_a_wrong_key_and_an_unknown_model_are_named(url: str) -> None:
    assert "THYME_API_KEY" in failed(ask(f"{url}#signs", key="another-key-of-thirty-characters"), 1)
    error = failed(ask(f"{url}#gpt"), 2)
    assert "no model 'gpt'" in error
    assert "signs" in error


def test_a_server_that_is_not_there_is_named() -> None:
    assert "http://127.0.0.1:9/v1 cannot be reached" in failed(
        ask("http://127.0.0.1:9/v1#signs", "--set", "engine.openai.retries=0"), 1
    )


async def test_python_asks_it_the_same_way(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened in a thread, asked from several tasks, closed without a warning."""
    monkeypatch.setenv("THYME_API_KEY", KEY)
    with Sandbox() as sandbox:
        with Thyme(f"{url}#signs", sandbox=sandbox) as client:
            assert client.ask(None, "What?").text == "The sign says KX 47."
            many = client.ask_many([(None, "What?"), (None, "And what?")])
            assert [result.trajectory.model for result in many] == ["signs", "signs"]
        async with AsyncThyme(url, sandbox=sandbox) as other:
            asked = await asyncio.gather(*(other.ask(None, "What?") for _ in range(3)))
            assert {result.text for result in asked} == {"The sign says KX 47."}
        with pytest.raises(ModelNotFoundError, match="no model 'gpt'"):
            Thyme(f"{url}#gpt", sandbox=sandbox)
        monkeypatch.setenv("THYME_API_KEY", "another-key-of-thirty-characters")
        with pytest.raises(EngineError, match="THYME_API_KEY"):
            Thyme(url, sandbox=sandbox)
