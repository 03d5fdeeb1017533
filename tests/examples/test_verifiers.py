"""The example for verifiers: against stand-ins, and in the real one where `THYME_VERIFIERS_PYTHON` has it."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from extend_examples import ROOT, example
from stand_ins import model_server, stand_in

from thyme.markup import parse

PYTHON = os.environ.get("THYME_VERIFIERS_PYTHON")


@pytest.fixture
def module() -> Any:
    stand_in()
    return example("verifiers_thyme")


def play(module: Any, task: Any, *, keep_stop: bool) -> tuple[Any, Any, list[dict[str, Any]]]:
    requests: list[dict[str, Any]] = []
    harness = module.ThymeHarness(module.ThymeHarnessConfig(keep_stop=keep_stop))
    trace = SimpleNamespace(info={})
    with model_server(requests) as url:
        context = SimpleNamespace(model="toy")
        result = asyncio.run(harness.launch(context, trace, None, url, "secret", {}, task.data))
    return result, trace, requests


def test_a_task_is_played_and_paid(module: Any) -> None:
    _, task = module.ThymeTaskset(module.ThymeTasksetConfig(per_kind=1)).load()
    result, trace, requests = play(module, task, keep_stop=False)
    assert result.exit_code == 0, result.stderr
    assert [block.kind for block in parse(result.stdout)].count("code") == 1
    first, second = requests
    assert first["stop"] == ["</code>", "</answer>"]
    assert "include_stop_str_in_output" not in first
    assert module.ThymeHarnessConfig().keep_stop
    assert second["messages"][2]["content"].endswith("</code>")
    assert second["messages"][3]["content"][1]["type"] == "image_url"  # the crop
    assert asyncio.run(task.code_blocks(trace)) == 1
    right = task.data.model_copy(update={"answer": "22"})
    for data, reward in ((task.data, 0.5), (right, 2.0)):
        told = {**trace.info[module.RECORD]["problem"], "answer": data.answer}
        record = {**trace.info[module.RECORD], "problem": told}
        assert asyncio.run(task.thyme(SimpleNamespace(info={module.RECORD: record}))) == reward
    lost = {**trace.info[module.RECORD], "problem": {**told, "answer": None}}
    with pytest.raises(ValueError, match="no reference"):
        asyncio.run(task.thyme(SimpleNamespace(info={module.RECORD: lost})))


def test_a_server_that_is_gone_is_an_error(module: Any) -> None:
    (task, *_) = module.ThymeTaskset(module.ThymeTasksetConfig(per_kind=1)).load()
    harness = module.ThymeHarness(module.ThymeHarnessConfig())
    context, trace = SimpleNamespace(model="toy"), SimpleNamespace(info={})
    with pytest.raises(Exception, match="onnect"):
        asyncio.run(harness.launch(context, trace, None, "http://127.0.0.1:9/v1", "", {}, task.data))


@pytest.mark.parametrize(
    ("said", "whole"),
    [
        ("a <code>b", "a <code>b</code>"),
        ("a <code>b</code> c", "a <code>b</code>"),
        ("a <answer>b", "a <answer>b</answer>"),
        ("a", "a"),
    ],
)
def test_a_stop_string_is_put_back_once(module: Any, said: str, whole: str) -> None:
    assert module.closed(said) == whole


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(PYTHON is None, reason="THYME_VERIFIERS_PYTHON names no interpreter that has verifiers and thyme")
def test_the_real_verifiers_plays_it_too(module: Any) -> None:
    requests: list[dict[str, Any]] = []
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "NO_KEY": "none"}
    with model_server(requests) as url:
        command = [str(PYTHON), str(ROOT / "tests/examples/verifiers_run.py"), url, "toy"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["errors"] == []
    assert (told["rewards"], told["calls"], told["branches"]) == ([0.5, 0.5], [2, 2], [1, 1])
    assert told["launch"] == list(inspect.signature(module.ThymeHarness.launch).parameters)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(PYTHON is None, reason="THYME_VERIFIERS_PYTHON names no interpreter that has verifiers and thyme")
def test_the_command_of_the_page_runs_to_its_end(tmp_path: Path) -> None:
    page = (ROOT / "docs/extend/verifiers.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^vf-eval (.*)$", page, re.MULTILINE)
    requests: list[dict[str, Any]] = []
    places = [str(ROOT), str(ROOT / "examples" / "extend")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "KEY": "none"}
    with model_server(requests) as url:
        words = shlex.split(line.replace("http://127.0.0.1:8000/v1", url).replace("MODEL", "toy"))
        command = [str(Path(str(PYTHON)).parent / "vf-eval"), *words, "--no-rich"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False, env=environ
        )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.glob("outputs/*/traces.jsonl")
    traces = [trace for row in file.read_text().splitlines() for trace in json.loads(row)["traces"]]
    assert [trace["errors"] for trace in traces] == [[]] * 4
    assert [trace["rewards"]["thyme"]["score"] for trace in traces] == [0.5] * 4
    assert [trace["metrics"]["code_blocks"] for trace in traces] == [1.0] * 4
    assert requests[0]["include_stop_str_in_output"] is True
