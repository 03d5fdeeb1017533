"""What docs/serve.md shows runs as it stands there, and the figures and names in it are the code's."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from asyncio.subprocess import PIPE
from contextlib import aclosing
from pathlib import Path

import pytest
from agent_serving import served
from typer.testing import CliRunner

from thyme.cli import app as thyme
from thyme.cli import serve as command
from thyme.config import SandboxConfig
from thyme.config.serve import ServeConfig
from thyme.models import open_model
from thyme.nano.world import problem
from thyme.sandbox import open_sandbox
from thyme.serve.metrics import Metrics

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(TEXT) if found == language]


def commands() -> list[list[str]]:
    """Words of every ``thyme serve`` that is shown."""
    lines = [line for body in [*blocks("sh"), *blocks("")] for line in body.splitlines() if "thyme serve" in line]
    return [shlex.split(line[line.index("thyme serve") :].split("  #")[0])[1:] for line in lines]


def test_commands_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the opening of model and socket."""
    asked: list[command.ServeRun] = []
    monkeypatch.setattr(command, "run", lambda config, *rest, **more: asked.append(config))
    monkeypatch.chdir(tmp_path)
    Path("keys").write_text("0123456789abcdef\n")
    shown = commands()
    for words in shown:
        done = CliRunner().invoke(thyme, words)
        assert done.exit_code == 0, f"{words}: {done.output}"
    assert len(asked) == len(shown) >= 5
    assert asked[2].engine.model == "http://127.0.0.1:8001/v1#Thyme-7B"
    assert len(asked[3].serve.api_keys) == 1


async def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Against the embedded model."""
    (picture,) = problem("test", 7, 0, "zoom").images
    picture.image.save(tmp_path / "street.png")
    monkeypatch.chdir(tmp_path)
    (python,), (shell,) = blocks("python"), blocks("bash")
    async with (
        open_sandbox(SandboxConfig()) as sandbox,
        aclosing(open_model("nano")) as engine,
        served(engine, sandbox) as server,
    ):
        await asyncio.to_thread(exec, python.replace(ADDRESS, server.url), {})
        lines = capfd.readouterr().out.splitlines()
        assert "<sandbox_output>" in lines
        assert lines[-1].startswith("answer 1 ")
        if shutil.which("curl"):
            run = await asyncio.create_subprocess_exec("bash", "-c", shell.replace(ADDRESS, server.url), stdout=PIPE)
            reply, _ = await run.communicate()
            assert b'"finish_reason":"stop"' in reply


def test_figures_are_those_of_the_code() -> None:
    config = ServeConfig()
    section = TEXT.split("## Limits")[1].split("\n## ")[0]
    for figure in (
        f"| `--max-concurrent` | {config.max_concurrent} |",
        f"{config.max_queued}, {config.queue_s:g} s",
        f"| {config.request_s:g} s |",
        f"| {config.rollout.max_rounds} |",
        f"{config.rollout.max_tokens}, {config.rollout.max_round_tokens}",
        f"| {config.max_body_mb} MiB |",
        f"{config.max_images}, {config.max_image_pixels:,}".replace(",", " ").replace("  ", ", "),
        f"| {config.drain_s:g} s |",
        f"{config.upload_s:g} s for a body",
        f"{config.uploads} requests or pictures",
        f"{config.max_text_chars:,} characters".replace(",", " "),
        f"{config.max_request_pixels:,} pixels of all".replace(",", " "),
        f"{config.fetch_s:g} s to fetch",
    ):
        assert figure in section, figure


def test_names_are_those_of_the_code() -> None:
    source = "".join(path.read_text() for path in (ROOT / "thyme" / "serve").glob("*.py"))
    codes = set(re.findall(r'code="(\w+)"', source)) | set(re.findall(r'_unfit\(url, .*, "(\w+)"\)', source))
    codes |= {"too_slow", "too_large", "engine_failed", "sandbox_failed", "prompt_failed"}
    missing = {code for code in codes if f"`{code}`" not in TEXT}
    assert missing == set()
    names = {family.name for family in Metrics().registry.collect()}
    assert {name for name in names if f"`{name}" not in TEXT} == set()
    options = set(re.findall(r"(--[a-z][a-z-]+)", TEXT)) - {"--save", "--served-model-name", "--limit-mm-per-prompt"}
    shown = CliRunner().invoke(thyme, ["serve", "--help"], env={"COLUMNS": "200"}).output
    assert {option for option in options if option not in shown} == set()
