"""``thyme serve`` as a process: what it prints, whom it lets in, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from agent_serving import ANSWER, CODE, user
from pydantic import SecretStr
from typer.testing import CliRunner

from thyme.cli import app as thyme
from thyme.cli import serve as command
from thyme.cli.serve import read_keys
from thyme.config.serve import ServeConfig
from thyme.errors import UsageError
from thyme.serve.run import require_keys

KEY = "0123456789abcdef-key"
COMMAND = [sys.executable, "-c", "from thyme.cli import main; main()"]
SLOW = CODE.replace("print(6 * 7)", "import time; time.sleep(0.6); print(42)")


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    url: str
    announced: str

    def ask(self, **headers: str) -> httpx.Response:
        body = {"messages": user("What?")}
        return httpx.post(f"{self.url}/chat/completions", json=body, headers=headers, timeout=30, trust_env=False)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "script.json").write_text(json.dumps([SLOW, ANSWER]))
    return f"scripted:{tmp_path / 'script.json'}"


@contextlib.contextmanager
def started(*words: object, command: str = "serve") -> Iterator[Running]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("THYME_")}
    process = subprocess.Popen(
        [*COMMAND, *command.split(), "--port", "0", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env=clean,
    )
    assert process.stderr is not None
    try:
        announced = process.stderr.readline()
        if " at http" not in announced:
            raise AssertionError(f"the server did not start: {announced}{process.stderr.read()}")
        yield Running(process, announced.split(" at ")[1].split(",")[0], announced)
    finally:
        process.kill()
        process.wait(30)
        process.stderr.close()


def failed(*words: object) -> str:
    """The command in this process: its line on stderr; it must end with 2."""
    done = CliRunner().invoke(thyme, ["serve", *map(str, words)])
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr


async def test_sigterm_lets_a_request_finish(script: str, tmp_path: Path) -> None:
    """With keys out of a file, and code that runs on a sandbox server."""
    (tmp_path / "keys").write_text(f"# of the team\n\n{KEY}\nanother-key-of-enough-length\n")
    words = ("--model", script, "--api-key-file", tmp_path / "keys", "--name", "mine")
    with (
        started("--pool", 0, command="sandbox serve") as sandbox,
        started(*words, "--sandbox-url", sandbox.url) as server,
    ):
        assert server.announced.startswith("thyme: serving mine at http://127.0.0.1:")
        assert "isolation " in server.announced
        assert server.announced.rstrip().endswith("keys needed")
        assert server.ask().status_code == 401
        running = asyncio.create_task(asyncio.to_thread(server.ask, authorization=f"Bearer {KEY}"))
        metrics = httpx.AsyncClient(base_url=sandbox.url, trust_env=False, verify=False)
        async with metrics, asyncio.timeout(30):
            while "thyme_sandbox_sessions 1.0" not in (await metrics.get("/metrics")).text:
                await asyncio.sleep(0.02)
            assert await asyncio.to_thread(server.stop) == 0
            reply = await running
            assert (reply.status_code, reply.json()["choices"][0]["message"]["content"]) == (200, "forty two")
            assert reply.json()["model"] == "mine"
            assert "thyme_sandbox_runs_total 1.0" in (await metrics.get("/metrics")).text


def test_mistakes_are_told_in_a_line(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THYME_SERVE_API_KEY", raising=False)
    (tmp_path / "short").write_text("short\n")
    (tmp_path / "odd").write_text("pässwörter-pässwörter\n", encoding="utf-8")
    for words, said in (
        (("--host", "0.0.0.0"), "reachable from other machines, and there is no API key"),
        (("--api-key-file", tmp_path / "none"), "cannot be read"),
        (("--api-key-file", tmp_path / "short"), "short, line 1: an API key has 5 characters; take at least 16"),
        (("--api-key-file", tmp_path / "odd"), "must be printable ASCII"),
        (("--set", "serve.rollout.max_rounds=3"), "is set by rollout.KEY=VALUE"),
        (("--set", "serve.max_imags=3"), "max_images"),
    ):
        line = failed("--model", script, *words)
        assert said in line
        assert len(line.splitlines()) == 1, line
        assert "wörter" not in line, "a key is never printed"


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}" in failed("--model", "no/such-model", "--port", port)


def test_any_setting_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[command.ServeRun] = []
    monkeypatch.setattr(command, "run", lambda config, *rest, **more: asked.append(config))
    monkeypatch.setenv("THYME_SERVE_API_KEY", KEY)
    words = ["--max-images", "3", "--set", "serve.uploads=2", "--set", "rollout.text_temperature=0.5"]
    assert CliRunner().invoke(thyme, ["serve", *words, "--set", "sandbox.timeout_s=30"]).exit_code == 0
    (config,) = asked
    assert (config.serve.max_images, config.serve.uploads) == (3, 2)
    assert (config.rollout.text_temperature, config.sandbox.timeout_s) == (0.5, 30)
    assert config.serve.api_keys[0].get_secret_value() == KEY


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THYME_SERVE_API_KEY", raising=False)
    assert read_keys(None) == ()
    monkeypatch.setenv("THYME_SERVE_API_KEY", KEY)
    assert read_keys(None) == (SecretStr(KEY),)
    (tmp_path / "keys").write_text("\n# nothing\n")
    with pytest.raises(UsageError, match="is empty"):
        read_keys(tmp_path / "keys")
    (tmp_path / "keys").write_text(f"{KEY}\n# whose\nshort\n")
    with pytest.raises(UsageError, match="keys, line 3: an API key has 5 characters"):
        read_keys(tmp_path / "keys")
    monkeypatch.setenv("THYME_SERVE_API_KEY", "short")
    with pytest.raises(UsageError, match="THYME_SERVE_API_KEY: an API key has 5 characters"):
        read_keys(None)


def test_who_needs_keys() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        require_keys(ServeConfig(host=host), without_key=False)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.com"):
        with pytest.raises(UsageError, match="no API key"):
            require_keys(ServeConfig(host=host), without_key=False)
        require_keys(ServeConfig(host=host), without_key=True)
        require_keys(ServeConfig.model_validate({"host": host, "api_keys": [KEY]}), without_key=False)
    assert KEY not in repr(ServeConfig.model_validate({"api_keys": [KEY]}))
