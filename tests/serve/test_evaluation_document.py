"""docs/evaluation_tools.md: command and figures are the server's, and the requests it speaks of are those recorded."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from replayed import RECORDED
from typer.main import get_command

from thyme.cli.serve import app
from thyme.config.serve import ServeConfig

TEXT = (Path(__file__).parents[2] / "docs" / "evaluation_tools.md").read_text(encoding="utf-8")
OPTIONS = {name for parameter in get_command(app).params for name in parameter.opts}


def test_the_servers_command_is_one() -> None:
    [block] = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    program, command, *words = shlex.split(block)
    assert (program, command) == ("thyme", "serve")
    with get_command(app).make_context("serve", words) as context:
        assert (context.params["min_tokens"], context.params["name"]) == (4096, "thyme")


@pytest.mark.parametrize("option", ["--min-tokens", "--request-s", "--max-concurrent", "--queue-s", "--max-body"])
def test_the_servers_options_are_there(option: str) -> None:
    assert option in TEXT
    assert option in OPTIONS


def test_figures_are_those_of_the_server() -> None:
    config = ServeConfig()
    assert f"`--request-s` ({config.request_s:g} s by default)" in TEXT
    assert f"`--max-body` ({config.max_body_mb} MiB)" in TEXT


def test_versions_and_settings_are_those_of_the_recorded_requests() -> None:
    for name in ("vlmevalkit", "lmms_eval"):
        stored = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
        assert f"{stored['tool']} {stored['version']}" in re.sub(r"\s+", " ", TEXT)
        assert stored["commit"][:8] in TEXT
    waits = {request["headers"]["x-stainless-read-timeout"] for request in stored["requests"]}
    assert waits == {"600"}, "openai is not told the tool's own time-out"
