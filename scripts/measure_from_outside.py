#!/usr/bin/env python3
"""Let lmms-eval and VLMEvalKit, unchanged, measure the embedded model behind `thyme serve`.

    python scripts/measure_from_outside.py FOLDER [--tool lmms-eval] [--tool vlmevalkit] [--per-kind 4]

Each tool gets an environment of its own in FOLDER, made from the package index with the versions of scripts/pins (some
minutes and 2.4 GB each the first time), and the beginning of thyme-mini in its own layout. What it measures is held
against the same problems asked directly, and what it scores against `thyme.nano.mini.score` on the same answers. The
figures are printed and lie in FOLDER/measured.json; exit 1 if a tool did not get an answer, or scores otherwise.

Run it with the interpreter that `thyme` is installed for. Nothing is downloaded but packages.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).resolve().parent))

from vllm_cpu_env import declare_operators

from thyme.nano import checkpoint_path, mini
from thyme.nano.mini_files import write
from thyme.types import Problem

PINS = Path(__file__).resolve().parent / "pins"
NAME = "thyme"
"""What the server calls the model."""
FEW_TOKENS = 2048
"""What the server raises a smaller limit of tokens to; lmms-eval's tasks ask for 16."""
PARALLEL = 4
FAILED = ("Failed to obtain answer via API", "[LMMS_EVAL_REQUEST_FAILED")
"""How the tools store a request without an answer, which they score as wrong."""
MIN_ACCURACY = 0.75
"""Of the embedded model, on any beginning of the set; below it something is wrong with the pictures or the server."""


class MeasuringError(Exception):
    """A tool could not be made to measure."""


@dataclass(frozen=True)
class Answers:
    """What a tool made of the model's answers."""

    predictions: dict[str, str]
    """By the problem's id."""
    right: float
    """How many it counts as right."""


@dataclass(frozen=True)
class Tool:
    """A tool, and how to use it."""

    name: str
    requirement: str
    """Distribution and version in the package index."""
    pins: str
    """File of `PINS`."""
    prepare: Callable[[Path, Sequence[Problem], str], list[str]]
    """Writes what it reads into a folder, given the server's address; arguments for the environment's Python."""
    environment: dict[str, str]
    """Variables; ``{folder}`` is the folder."""
    read: Callable[[Path], Answers]
    """Reads what it has written."""


@dataclass(frozen=True)
class Row:
    """One line of the result."""

    asked_by: str
    problems: int
    right: float | None
    """As the tool scores."""
    right_by_mini: float
    """As `thyme.nano.mini.score` scores the same answers."""
    differs: tuple[str, ...]
    """Ids of the problems whose answer is another than that of the direct run."""


# --- lmms-eval --------------------------------------------------------------------------------------------------------

TASK = """\
task: thyme_mini
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.realworldqa_doc_to_visual
doc_to_text: !function utils.realworldqa_doc_to_text
doc_to_target: answer
process_results: !function utils.realworldqa_process_results
generation_kwargs:
  max_new_tokens: 16
  temperature: 0
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
"""A task is how lmms-eval is told of a data set; picture, prompt and scoring are those of its own RealWorldQA."""
FUNCTIONS = "from lmms_eval.tasks.realworldqa.utils import *  # noqa: F403\n"


def prepare_lmms_eval(folder: Path, problems: Sequence[Problem], url: str) -> list[str]:
    """A task of its own beside its data."""
    write(folder / "data", per_kind=len(problems) // len(mini.KINDS), layouts=("parquet",))
    task = folder / "task"
    task.mkdir()
    data = (folder / "data" / f"{mini.NAME}.parquet").resolve()
    (task / "thyme_mini.yaml").write_text(TASK.format(data=json.dumps(str(data))))
    (task / "utils.py").write_text(FUNCTIONS)
    server = f"model={NAME},base_url={url},api_key=none,num_concurrent={PARALLEL},timeout=600"
    told = ["--model", "openai", "--model_args", server, "--tasks", "thyme_mini", "--include_path", str(task)]
    return ["-m", "lmms_eval", *told, "--batch_size", "1", "--log_samples", "--output_path", str(folder / "out")]


def read_lmms_eval(folder: Path) -> Answers:
    """Out of ``*_samples_thyme_mini.jsonl``; a document's number is its place in the set."""
    file = _only(folder / "out", "*/*_samples_thyme_mini.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    said = {mini.problem_id(line["doc_id"]): str(line["filtered_resps"]) for line in lines}
    return Answers(said, sum(line["exact_match"] for line in lines))


# --- VLMEvalKit -------------------------------------------------------------------------------------------------------

OCR = "Scene Text-centric VQA"
"""A category of OCRBench, whose class asks a question as it stands and scores without a judge."""
SET = "thyme-mini-ocr"


def prepare_vlmevalkit(folder: Path, problems: Sequence[Problem], url: str) -> list[str]:
    """The set in the layout of OCRBench: ``answer`` is a list, ``category`` one that its class counts."""
    write(folder / "data", per_kind=len(problems) // len(mini.KINDS), layouts=("tsv",))
    csv.field_size_limit(1 << 30)
    with (
        (folder / "data" / f"{mini.NAME}.tsv").open(encoding="utf-8", newline="") as given,
        (folder / f"{SET}.tsv").open("w", encoding="utf-8", newline="") as made,
    ):
        out = csv.writer(made, delimiter="\t", lineterminator="\n")
        out.writerow(["index", "id", "image", "question", "answer", "category"])
        for row in csv.DictReader(given, delimiter="\t"):
            out.writerow([row["index"], row["id"], row["image"], row["question"], str([row["answer"]]), OCR])
    model = {
        "class": "LMDeployAPI",
        "model": NAME,
        "api_base": f"{url}/chat/completions",
        "key": "none",
        "timeout": 600,
        "retry": 2,
        "max_tokens": FEW_TOKENS,
    }
    config = {"model": {NAME: model}, "data": {SET: {"class": "OCRBench", "dataset": SET}}}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    told = ["--config", str(folder / "config.json"), "--api-nproc", str(PARALLEL), "--judge", "exact_matching"]
    return ["-m", "vlmeval", *told, "--work-dir", str(folder / "out")]


def read_vlmevalkit(folder: Path) -> Answers:
    """Out of its predictions and its score; a run that failed has no score, whatever its exit code."""
    with _only(folder / "out", f"{NAME}/{NAME}_{SET}.tsv").open(encoding="utf-8", newline="") as lines:
        said = {row["id"]: row["prediction"] for row in csv.DictReader(lines, delimiter="\t")}
    score = json.loads(_only(folder / "out", f"{NAME}/*_score.json").read_text())
    return Answers(said, float(score["Final Score"]))


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise MeasuringError(f"{folder} holds {len(found)} files {pattern}, not one: the tool failed; see its log")
    return found[0]


TOOLS = {
    "lmms-eval": Tool(
        name="lmms-eval",
        requirement="lmms-eval==0.7.3",
        pins="lmms_eval.txt",
        prepare=prepare_lmms_eval,
        environment={"HF_HOME": "{folder}/hf", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        read=read_lmms_eval,
    ),
    "vlmevalkit": Tool(
        name="vlmevalkit",
        requirement="ms-vlmeval==0.0.20",
        pins="vlmevalkit.txt",
        prepare=prepare_vlmevalkit,
        environment={"LMUData": "{folder}", "PRED_FORMAT": "tsv"},
        read=read_vlmevalkit,
    ),
}


# --- environments -----------------------------------------------------------------------------------------------------


def environment(tool: Tool, folder: Path) -> Path:
    """Make a tool's environment, or take the one that is there.

    Returns:
        Its Python.

    Raises:
        MeasuringError: The package index did not give it.
    """
    venv = folder / f"env-{tool.name}"
    python, stamp = venv / "bin" / "python", venv / "made-of"
    pins = PINS / tool.pins
    if stamp.is_file() and stamp.read_text() == pins.read_text():
        return python
    say(f"installing {tool.requirement} into {venv}: some minutes")
    with (folder / f"{tool.name}-install.log").open("w") as log:
        _run(log, sys.executable, "-m", "venv", str(venv))
        for wanted in (("torch", "torchvision"), (tool.requirement,)):  # torch first: packages build against it
            _run(log, str(python), "-m", "pip", "install", "--disable-pip-version-check", "-c", str(pins), *wanted)
    if subprocess.run([str(python), "-c", "import torchvision"], capture_output=True, check=False).returncode:
        declare_operators(python)  # a torchvision that was built for CUDA beside a torch that was not
    stamp.write_text(pins.read_text())
    return python


def _run(log: IO[str], *command: str) -> None:
    if code := subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
        raise MeasuringError(f"'{' '.join(command)}' ended with {code}; see the log in the folder")


# --- measuring --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(log: Path) -> Iterator[str]:
    """`thyme serve` with the embedded model on a free port; gives its address up to ``/v1``. What it says is logged."""
    command = [sys.executable, "-m", "thyme", "serve", "--model", "nano", "--name", NAME, "--port", "0"]
    with log.open("wb") as out:
        server = subprocess.Popen([*command, "--min-tokens", str(FEW_TOKENS)], stdout=out, stderr=subprocess.STDOUT)
        try:
            yield _address(server, log)
        finally:
            server.terminate()
            server.wait()


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where it serves, once it says so."""
    while server.poll() is None:
        if found := re.search(r"serving .* at (http://\S+/v1)", log.read_text(encoding="utf-8", errors="replace")):
            return found.group(1)
        time.sleep(0.1)
    raise MeasuringError(f"the server did not start: {log.read_text(encoding='utf-8', errors='replace').strip()}")


def measure(tool: Tool, folder: Path, problems: Sequence[Problem], url: str) -> Answers:
    """Let one tool ask all problems.

    Raises:
        MeasuringError: It failed, asked other problems, or stored a failure as an answer.
    """
    python = environment(tool, folder)
    work = (folder / tool.name).resolve()
    shutil.rmtree(work, ignore_errors=True)  # what is left there would be taken for this run's
    work.mkdir(parents=True)
    command = [str(python.absolute()), *tool.prepare(work, problems, url)]
    say(f"{tool.requirement} asks {len(problems)} problems")
    set_here = {name: value.format(folder=work) for name, value in tool.environment.items()}
    with (work / "log").open("wb") as log:
        done = subprocess.run(
            command, cwd=work, env=_clean() | set_here, stdout=log, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        raise MeasuringError(f"{tool.name} ended with {done.returncode}; see {work / 'log'}")
    return checked(tool.read(work), problems)


def _clean() -> dict[str, str]:
    """Our variables without those that would lead a tool astray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENAI_", "HF_"))}
    return kept | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def checked(answers: Answers, problems: Sequence[Problem]) -> Answers:
    """Refuse answers that are none, and answers to other problems.

    Raises:
        MeasuringError: See above.
    """
    if set(answers.predictions) != {problem.id for problem in problems}:
        raise MeasuringError(f"{len(answers.predictions)} problems were answered, {len(problems)} were given")
    failed = [name for name, said in answers.predictions.items() if said.startswith(FAILED)]
    if failed:
        raise MeasuringError(f"no answer to {', '.join(failed)}: {answers.predictions[failed[0]]}")
    return answers


async def ask_directly(problems: Sequence[Problem]) -> dict[str, str]:
    """The same problems without server and tool; answers by id."""
    from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
    from thyme.engines import open_engine
    from thyme.eval.runner import evaluate
    from thyme.markup import extract_answer
    from thyme.prompts import PromptSet
    from thyme.sandbox import open_sandbox

    folder = checkpoint_path()
    engine = open_engine(str(folder), EngineConfig(max_batch=PARALLEL))
    async with open_sandbox(SandboxConfig()) as sandbox, contextlib.aclosing(engine):
        prompts = PromptSet.load(folder / "prompts")
        asked = await evaluate(problems, engine, sandbox, RolloutConfig(), prompts=prompts, concurrency=PARALLEL)
    return {one.trajectory.problem.id: extract_answer(one.trajectory.response) or "" for one in asked}


def row(asked_by: str, problems: Sequence[Problem], answers: Answers, direct: dict[str, str]) -> Row:
    """Hold a tool's figures against ours."""
    scores = [mini.score(problem, answers.predictions[problem.id]).value or 0.0 for problem in problems]
    other = tuple(name for name, said in answers.predictions.items() if said.strip() != direct[name].strip())
    return Row(asked_by, len(problems), answers.right, sum(scores), other)


def disagreements(rows: Sequence[Row]) -> list[str]:
    """What a reader must know before believing the figures; nothing where all is well."""
    found = [f"{r.asked_by} counts {r.right:g}, we {r.right_by_mini:g}" for r in rows if r.right != r.right_by_mini]
    return found + [
        f"{r.asked_by}: {r.right_by_mini:g} of {r.problems} is less than the embedded model can"
        for r in rows
        if r.right_by_mini < MIN_ACCURACY * r.problems
    ]


def say(text: str) -> None:
    """Progress, on standard error."""
    sys.stderr.write(f"measure_from_outside: {text}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make environments, ask, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="environments, data, logs and figures")
    parser.add_argument("--tool", action="append", choices=sorted(TOOLS), help="only this one; may be repeated")
    parser.add_argument("--per-kind", type=int, default=4, help="problems of each of the six kinds")
    given = parser.parse_args(arguments)
    if not 1 <= given.per_kind <= mini.PER_KIND:
        parser.error(f"--per-kind must be from 1 to {mini.PER_KIND}")
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tools = [TOOLS[name] for name in given.tool or TOOLS]
    try:
        for tool in tools:
            environment(tool, folder)
        problems = list(mini.problems(given.per_kind))
        say(f"asking {len(problems)} problems directly")
        direct = asyncio.run(ask_directly(problems))
        right = sum(mini.score(problem, direct[problem.id]).value or 0.0 for problem in problems)
        rows = [row("directly", problems, Answers(direct, right), direct)]
        with serving(folder / "serve.log") as url:
            for tool in tools:
                rows.append(row(tool.requirement, problems, measure(tool, folder, problems, url), direct))
    except MeasuringError as error:
        say(str(error))
        return 1
    (folder / "measured.json").write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")
    for one in rows:
        other = f"; other answers than directly: {', '.join(one.differs)}" if one.differs else ""
        sys.stdout.write(f"{one.asked_by}: {one.right:g} of {one.problems} right{other}\n")
    wrong = disagreements(rows)
    for line in wrong:
        say(line)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
