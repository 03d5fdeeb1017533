"""`scripts/measure_from_outside.py`: what it hands to the tools, and how it reads what they made of it.

The results in ``tests/data/outside`` are those of one real run (lmms-eval 0.7.3, ms-vlmeval 0.0.20, 24 problems). The
tools themselves run in the last test, in the environments that `make test-outside` has made.
"""

import ast
import csv
import json
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from thyme.nano import mini

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "measure_from_outside.py"
RECORDED = ROOT / "tests" / "data" / "outside"
ENVIRONMENTS = ROOT / ".venv-outside"


@pytest.fixture(scope="module")
def script():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope="module")
def asked():
    return list(mini.problems(4))


@pytest.fixture
def lmms_eval(tmp_path):
    made = tmp_path / "lmms-eval" / "out" / "thyme"
    made.mkdir(parents=True)
    shutil.copy(RECORDED / "lmms_eval_samples.jsonl", made / "20261123_123456_samples_thyme_mini.jsonl")
    return tmp_path / "lmms-eval"


@pytest.fixture
def vlmevalkit(tmp_path):
    made = tmp_path / "vlmevalkit" / "out" / "thyme"
    made.mkdir(parents=True)
    shutil.copy(RECORDED / "vlmevalkit_predictions.tsv", made / "thyme_thyme-mini-ocr.tsv")
    shutil.copy(RECORDED / "vlmevalkit_score.json", made / "thyme_thyme-mini-ocr_score.json")
    return tmp_path / "vlmevalkit"


def test_lmms_eval_gets_a_task_beside_its_data(script, asked, tmp_path):
    command = script.prepare_lmms_eval(tmp_path, asked[:6], "http://127.0.0.1:1/v1")
    task = (tmp_path / "task" / "thyme_mini.yaml").read_text()
    assert f'test: "{tmp_path / "data" / "thyme-mini.parquet"}"' in task
    assert (tmp_path / "data" / "thyme-mini.parquet").is_file()
    assert command[command.index("--include_path") + 1] == str(tmp_path / "task")
    assert "base_url=http://127.0.0.1:1/v1" in command[command.index("--model_args") + 1]


def test_vlmevalkit_gets_a_config_and_ocrbench_s_layout(script, asked, tmp_path):
    script.prepare_vlmevalkit(tmp_path, asked[:6], "http://127.0.0.1:1/v1")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"]["thyme"]["api_base"] == "http://127.0.0.1:1/v1/chat/completions"
    [(name, data)] = config["data"].items()
    assert data == {"class": "OCRBench", "dataset": name}
    with (tmp_path / f"{name}.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    assert [row["id"] for row in rows] == [problem.id for problem in asked[:6]]
    assert [ast.literal_eval(row["answer"]) for row in rows] == [[problem.answer] for problem in asked[:6]]


TALKS = """#!/bin/sh
echo "thyme: serving thyme at http://127.0.0.1:1/v1, isolation none, no keys" >&2
head -c 200000 /dev/zero | tr '\\0' x >&2
touch "{done}"
exec sleep 60
"""
"""A server that says more than a pipe holds."""


def test_a_server_that_talks_is_not_held_up(script, tmp_path, monkeypatch):
    talks, done = tmp_path / "talks", tmp_path / "done"
    talks.write_text(TALKS.format(done=done))
    talks.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(talks))
    with script.serving(tmp_path / "serve.log") as url:
        assert url == "http://127.0.0.1:1/v1"
        end = time.monotonic() + 30
        while not done.exists():
            assert time.monotonic() < end, "it waits for somebody to read what it says"
            time.sleep(0.05)


def test_a_server_that_does_not_start_is_told_with_its_words(script, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(script.MeasuringError, match="the server did not start"), script.serving(tmp_path / "log"):
        pass


def test_lmms_eval_s_results_and_ours_agree(script, asked, lmms_eval):
    answers = script.checked(script.read_lmms_eval(lmms_eval), asked)
    assert answers.predictions["two_round-003"] == "YA LC"
    row = script.row("lmms-eval", asked, answers, answers.predictions)
    assert (row.problems, row.right, row.right_by_mini, row.differs) == (24, 23, 23, ())
    assert script.disagreements([row]) == []


def test_vlmevalkit_s_results_and_ours_agree(script, asked, vlmevalkit, lmms_eval):
    """JPEG costs one of the pale scenes: the one answer that differs from those to PNG pictures."""
    answers = script.checked(script.read_vlmevalkit(vlmevalkit), asked)
    row = script.row("vlmevalkit", asked, answers, script.read_lmms_eval(lmms_eval).predictions)
    assert (row.right, row.right_by_mini, row.differs) == (22, 22, ("contrast-002",))
    assert script.disagreements([row]) == []


def test_failures_that_the_tools_score_as_wrong_are_none_of_the_model(script, asked, lmms_eval):
    answers = script.read_lmms_eval(lmms_eval)
    for said in ("Failed to obtain answer via API. ", "[LMMS_EVAL_REQUEST_FAILED after 5 retries] Error code: 404"):
        failed = script.Answers({**answers.predictions, "zoom-001": said}, answers.right)
        with pytest.raises(script.MeasuringError, match="no answer to zoom-001"):
            script.checked(failed, asked)
    with pytest.raises(script.MeasuringError, match="24 problems were answered, 6 were given"):
        script.checked(answers, asked[:6])


def test_a_tool_that_scored_nothing_is_seen_whatever_its_exit_code(script, vlmevalkit):
    (vlmevalkit / "out" / "thyme" / "thyme_thyme-mini-ocr_score.json").unlink()
    with pytest.raises(script.MeasuringError, match="holds 0 files"):
        script.read_vlmevalkit(vlmevalkit)


def test_other_scores_and_too_few_right_are_told(script):
    rows = [script.Row("a", 24, 23, 22, ()), script.Row("b", 24, 10, 10, ())]
    told = script.disagreements(rows)
    assert told == ["a counts 23, we 22", "b: 10 of 24 is less than the embedded model can"]


def test_every_tool_is_pinned_with_the_torch_of_this_project(script):
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    [torch] = [line for line in constraints if line.startswith("torch==")]
    for tool in script.TOOLS.values():
        pins = (script.PINS / tool.pins).read_text().splitlines()
        assert torch in pins
        assert tool.requirement.replace("-", "_").lower() in [pin.replace("-", "_").lower() for pin in pins]
        assert not [pin for pin in pins if pin.startswith(("nvidia", "triton"))]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("tool", ["lmms-eval", "vlmevalkit"])
def test_the_tools_themselves(tool):
    if not (ENVIRONMENTS / f"env-{tool}" / "made-of").is_file():
        pytest.skip(f"no {tool} in .venv-outside: make test-outside")
    command = [sys.executable, str(SCRIPT), str(ENVIRONMENTS), "--per-kind", "2", "--tool", tool]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 12 right" in done.stdout.splitlines()[1]
