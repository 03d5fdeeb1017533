"""The examples of an engine, a stage, a reward and a benchmark of one's own do what their pages say."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import sample_records
from extend_examples import FOLDER, ROOT, example
from typer.testing import CliRunner

from thyme.cli import app
from thyme.data.factory.folder import read_records
from thyme.engines.base import Engine, Request
from thyme.errors import EngineError
from thyme.train.grpo.groups import Asked, Group, Member, Roller
from thyme.types import Observation, Prompt, Score, Trajectory

factory_parts = example("factory_parts")
PAGES = ("engine.md", "stage.md", "reward.md", "benchmark.md", "family.md", "verifiers.md", "verl.md")
"""Those of docs/extend whose blocks of Python are taken from an example."""


def test_an_engine_keeps_the_contract() -> None:
    module = example("own_engine")
    asked: list[Request] = []

    async def write(request: Request) -> str:
        asked.append(request)
        return "I look.\n<code>\nprint(1)\n</code>"

    async def spans(engine: Any, *requests: Request) -> list[Any]:
        return [chunk for request in requests async for chunk in engine.stream(request)]

    engine = module.TurnEngine(write)
    assert isinstance(engine, Engine)
    first = Request("one", Prompt(system="", user=""), stop=("<code>", "</answer>"))
    text, whole = asyncio.run(spans(engine, first, replace(first, trajectory_id="two", stop=())))
    assert (text.text, text.stop, text.stop_string) == ("I look.\n<code>", "stop", "<code>")
    assert (whole.stop, whole.stop_string) == ("end", None)
    assert [request.trajectory_id for request in asked] == ["one", "two"]
    with pytest.raises(EngineError, match="to be blocked"):
        asyncio.run(spans(engine, replace(first, trajectory_id="three", blocked=("<code>",))))


def test_a_stage_drops_what_is_no_closer_look(tmp_path: Path) -> None:
    module = example("own_stage")
    made = module.build(tmp_path, count=4, execute=factory_parts.run_here)
    kept = list(read_records(tmp_path))
    assert made.kept == len(kept) > 0
    assert made.rejected > 0
    sizes = [i.size for d in kept for s in d.segments if isinstance(s, Observation) for i in s.execution.images]
    assert max(width * height for width, height in sizes) <= module.MOST * 1024**2
    dropped = factory_parts.read_outcomes(tmp_path, rejected=True)
    assert {(one.record().stage, one.record().reason) for one in dropped} == {(module.STAGE, "wide_picture")}


class Written:
    """Rolls out what was written before; fulfils `Roller`."""

    fingerprint = "written"

    def __init__(self, members: Sequence[Member]) -> None:
        self.members, self.closed = tuple(members), False

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        return [Group(one, self.members) for one in asked]

    def close(self) -> None:
        self.closed = True


def test_a_reward_is_added_and_nothing_is_scored_that_was_not() -> None:
    module = example("own_reward")
    trajectory = sample_records.trajectory()
    lines = len(trajectory.observations[0].execution.code.strip().splitlines())
    assert module.short_code(trajectory) == float(lines <= module.MOST_LINES)
    scores = Score(value=1.5, parts={"result": 1.0}), Score(value=None, note="no verdict")
    written = Written([Member(trajectory, score) for score in scores])
    paying: Roller = module.Paying(written, "short", lambda _: 0.5, weight=0.2)
    (group,) = paying.roll(None, [Asked(0, trajectory.problem)], step=0, group=2)
    assert group.rewards == (pytest.approx(1.6), None)
    assert group.members[0].score.parts == {"result": 1.0, "short": 0.5}
    assert group.members[1].score.note == "no verdict"
    others = [
        module.Paying(written, name, _nothing, weight) for name, weight in (("short", 0.2), ("short", 0.3), ("b", 0.2))
    ]
    assert len({one.fingerprint for one in others}) == 3
    paying.close()
    assert written.closed


def _nothing(trajectory: Trajectory) -> float:
    return 0.0


def test_the_command_of_the_page_pays_by_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "extend" / "reward.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^```sh\nthyme (.*?)^```", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(ROOT)  # where paths of the page count from
    small = ("train.group=2", "rollout.max_tokens=96")
    words = [*shlex.split(command.replace("\\\n", "")), *(part for one in small for part in ("--set", one))]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert re.search(r"short code (0|1|0?\.\d+)", done.output)


def test_a_benchmark_gives_half_for_one_beside(tmp_path: Path) -> None:
    module = example("own_benchmark")
    run = asyncio.run(module.evaluate(tmp_path / "run", "three"))
    assert [item.score for item in run.items] == [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    assert module.SQUARES.figures(run.items) == {"overall": pytest.approx(1 / 3), "exact": pytest.approx(1 / 6)}
    assert module.figures([]) == {"overall": None, "exact": None}
    problem = sample_records.trajectory().problem.model_copy(update={"answer": "3"})
    assert module.score(problem, None).value == module.score(problem, "three").value == 0.0
    again = asyncio.run(module.evaluate(tmp_path / "run", "three"))
    assert again.items == run.items


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_the_pages_are_taken_from_the_examples(page: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")]
    text = (ROOT / "docs" / "extend" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        assert any(block.strip("\n") in source for source in sources), block


def test_the_index_names_every_example_and_its_command_runs() -> None:
    text = (ROOT / "docs" / "extend" / "index.md").read_text(encoding="utf-8")
    halves = {path.name for path in FOLDER.glob("*_tensors.py")}
    assert {path.name for path in FOLDER.glob("*.py")} - halves == set(re.findall(r"`(\w+\.py)`", text))
    (command,) = re.findall(r"^python (\S+)$", text, re.MULTILINE)
    done = subprocess.run([sys.executable, command], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.rstrip().endswith("<answer>right</answer>")


@pytest.mark.parametrize("name", ["own_stage", "own_benchmark"])
def test_an_example_says_what_it_is_called_with(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    with pytest.raises(SystemExit, match="2"):
        example(name).main()
    assert "required: out" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", [["own_stage.py"], ["own_benchmark.py"], ["own_reward.py", "--steps", "1"]])
def test_examples_run_as_programs(words: list[str], tmp_path: Path) -> None:
    program, *rest = words
    command = [sys.executable, str(FOLDER / program), str(tmp_path / "out"), *rest]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=True).stdout
    expected = {"own_stage.py": "6 records, 6 rejected", "own_benchmark.py": "'exact'", "own_reward.py": "8 rollouts"}
    assert expected[program] in dedent(said)
