"""Many problems, asked at once: scored, counted, resumed; and no failure is ever a score."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sample_records as samples
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from thyme.config import RolloutConfig, SandboxConfig
from thyme.engines.base import Request
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import EngineError, StoreError
from thyme.eval.runner import derive_seed, evaluate
from thyme.eval.summary import ALL, Rate, Sample, summarise
from thyme.eval.table import results_table
from thyme.store import read_trajectories
from thyme.types import Execution, ImageRecord, Problem, Score, StopReason


class FakeSession:
    async def run(self, code: str) -> Execution:
        await asyncio.sleep(0)
        return samples.failed_execution() if "imgae" in code else samples.good_execution(code)


class FakeSandbox:
    isolation = "scripted"

    @asynccontextmanager
    async def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AsyncIterator[FakeSession]:
        yield FakeSession()

    async def aclose(self) -> None:
        """Nothing to end."""


SCRIPT = {
    "first": ["<think>I crop.\n<code>\n```python\nprint(1)\n```\n</code>", "It says 7.</think>\n<answer>7</answer>"],
    "second": ["<think>Plain.</think>\n<answer>8</answer>"],
    "third": [EngineError("the server is gone")],
    "fourth": ["<think>Hm.\n<code>\nprint(imgae)\n</code>", "No idea.</think>"],
}
PROBLEMS = [
    Problem(id="1", question="first", images=(samples.scene(),), answer="7", kind="zoom"),
    Problem(id="2", question="second", answer="9", kind="easy"),
    Problem(id="3", question="third", answer="1", kind="easy"),
    Problem(id="4", question="fourth", answer="1", kind="zoom"),
    Problem(id="5", question="second again", kind="open"),
]


async def test_scores_and_order() -> None:
    found = await evaluate(PROBLEMS, ScriptedEngine(SCRIPT), FakeSandbox())
    assert [sample.trajectory.problem.id for sample in found] == ["1", "2", "3", "4", "5"]
    assert [sample.score.value for sample in found] == [1.0, 0.0, None, 0.0, None]
    assert [sample.failed for sample in found] == [False, False, True, False, False]
    assert "the server is gone" in found[2].score.note
    assert found[3].score.note == "no answer"


async def test_summary_counts_failures_and_scores_them_never() -> None:
    by_kind = summarise(await evaluate(PROBLEMS, ScriptedEngine(SCRIPT), FakeSandbox()))
    assert list(by_kind) == ["zoom", "easy", "open", ALL]
    zoom, easy, unscored, everything = by_kind.values()
    assert (zoom.n, zoom.failed, zoom.accuracy, zoom.tool_rate) == (2, 0, Rate(1, 2), Rate(2, 2))
    assert zoom.executable_rate == Rate(1, 2)
    assert (easy.n, easy.failed, easy.accuracy) == (2, 1, Rate(0, 1))
    assert (unscored.n, unscored.accuracy.value, unscored.accuracy.interval) == (1, None, None)
    assert easy.executable_rate.value is None, "no code: there is no such rate, and it is not 0"
    assert (everything.n, everything.failed, everything.accuracy) == (5, 1, Rate(1, 3))
    plain = unscored.as_json()
    assert (plain["accuracy"], plain["accuracy_interval"], plain["scored"]) == (None, None, 0)


def test_a_kind_may_be_called_all() -> None:
    record = samples.trajectory(kind=ALL)
    assert summarise([Sample(record, Score(value=1.0))])[ALL].n == 1


def test_no_samples_have_no_rates() -> None:
    nothing = summarise([])[ALL]
    assert (nothing.n, nothing.accuracy.value, nothing.seconds) == (0, None, 0)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([0.0, 1.0, None])), max_size=20))
def test_summaries_add_up(cases: list[tuple[str, float | None]]) -> None:
    found = [Sample(samples.trajectory(kind=kind, executions=()), Score(value=value)) for kind, value in cases]
    by_kind = summarise(found)
    parts = [summary for kind, summary in by_kind.items() if kind != ALL]
    assert by_kind[ALL].n == len(cases) == sum(part.n for part in parts)
    assert by_kind[ALL].accuracy.hits == sum(part.accuracy.hits for part in parts)
    assert by_kind[ALL].accuracy.n == sum(value is not None for _, value in cases)


async def test_an_unforeseen_error_is_one_failed_sample(caplog: pytest.LogCaptureFixture) -> None:
    def script(request: Request) -> list[str]:
        if "first" in request.prompt.user:
            raise ZeroDivisionError("a bug")
        return SCRIPT["second"]

    found = await evaluate(PROBLEMS[:2], ScriptedEngine(script), FakeSandbox())
    assert [sample.score.value for sample in found] == [None, 0.0]
    assert found[0].trajectory.stop is StopReason.ERROR
    assert found[0].trajectory.error is not None
    assert found[0].trajectory.error.type == "ZeroDivisionError"
    assert "Traceback" in caplog.text, "a bug leaves its traceback in the log"


async def test_no_more_at_once_than_allowed() -> None:
    most = 0

    def script(request: Request) -> list[str]:
        nonlocal most
        most = max(most, engine.running)
        return SCRIPT["second"]

    engine = ScriptedEngine(script, delay_s=0.001)
    problems = [Problem(id=str(i), question="?") for i in range(12)]
    await evaluate(problems, engine, FakeSandbox(), concurrency=3)
    assert most == 3
    assert len(engine.released) == 12


async def test_resuming_asks_only_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "run" / "samples.jsonl"
    first = await evaluate(PROBLEMS[:3], ScriptedEngine(SCRIPT), FakeSandbox(), out=out)
    assert len(list(read_trajectories(out))) == 2, "what failed is not stored"
    engine = ScriptedEngine(SCRIPT)
    again = await evaluate(PROBLEMS, engine, FakeSandbox(), out=out)
    asked = {request.prompt.user for request in engine.requests}
    assert not any("first" in user or user == "second" for user in asked)
    assert [sample.score.value for sample in again] == [1.0, 0.0, None, 0.0, None]
    assert again[0].trajectory.id == first[0].trajectory.id
    assert again[0].trajectory.observations[0].execution.images[0].loaded
    assert len(list(read_trajectories(out))) == 4


@pytest.mark.parametrize("change", ["seed", "config", "problem", "engine", "pixels", "sandbox"])
async def test_other_settings_are_asked_anew(tmp_path: Path, change: str) -> None:
    out = tmp_path / "samples.jsonl"
    await evaluate(PROBLEMS[:1], ScriptedEngine(SCRIPT), FakeSandbox(), out=out)
    engine = ScriptedEngine(
        SCRIPT, name="other" if change == "engine" else "scripted", max_side=100 if change == "pixels" else None
    )
    sandbox = FakeSandbox()
    if change == "sandbox":
        sandbox.config = SandboxConfig(repairs=())
    problem = PROBLEMS[0].model_copy(update={"question": "first?"}) if change == "problem" else PROBLEMS[0]
    config = RolloutConfig(max_rounds=2) if change == "config" else RolloutConfig()
    await evaluate([problem], engine, sandbox, config, seed=int(change == "seed"), out=out)
    assert engine.requests


async def test_a_new_reference_scores_what_was_stored(tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    await evaluate(PROBLEMS[1:2], ScriptedEngine(SCRIPT), FakeSandbox(), out=out)
    engine = ScriptedEngine(SCRIPT)
    corrected = PROBLEMS[1].model_copy(update={"answer": "8"})
    (sample,) = await evaluate([corrected], engine, FakeSandbox(), out=out)
    assert (sample.score.value, engine.requests) == (1.0, [])


async def test_a_store_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    """By its own error, not by a group of errors."""
    bare = PROBLEMS[0].images[0].model_copy(deep=False)
    bare = ImageRecord.model_validate_json(bare.model_dump_json())
    problem = PROBLEMS[1].model_copy(update={"images": (bare,)})
    with pytest.raises(StoreError, match="no pixels to store"):
        await evaluate([problem], ScriptedEngine(SCRIPT), FakeSandbox(), out=tmp_path / "samples.jsonl")


async def test_the_same_problem_twice_is_two_rollouts() -> None:
    engine = ScriptedEngine(SCRIPT)
    found = await evaluate([PROBLEMS[1]] * 2, engine, FakeSandbox())
    assert len({sample.trajectory.id for sample in found}) == 2
    assert len({request.trajectory_id for request in engine.requests}) == 2


async def test_two_arms_may_share_engine_and_file(tmp_path: Path) -> None:
    """At the same time: their trajectories have names of their own."""
    engine, out = ScriptedEngine(SCRIPT, delay_s=0.001), tmp_path / "samples.jsonl"
    arms = (
        evaluate(PROBLEMS[1:2], engine, FakeSandbox(), RolloutConfig(tools=tools), out=out) for tools in (True, False)
    )
    await asyncio.gather(*arms)
    assert len({trajectory.id for trajectory in read_trajectories(out)}) == 2
    assert len({request.trajectory_id for request in engine.requests}) == 2


def test_seeds_depend_on_the_problem_and_not_on_its_place() -> None:
    assert derive_seed(1, PROBLEMS[0]) == derive_seed(1, PROBLEMS[0])
    assert len({derive_seed(seed, problem) for seed in range(3) for problem in PROBLEMS}) == 15


async def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    await evaluate(PROBLEMS[:2], ScriptedEngine(SCRIPT), FakeSandbox(), progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "2/2" in shown.err
    assert "50% right" in shown.err


async def test_table() -> None:
    found = summarise(await evaluate(PROBLEMS, ScriptedEngine(SCRIPT), FakeSandbox()))
    blocked = summarise([Sample(samples.trajectory(kind="zoom", executions=(), tools=False), Score(value=0.0))])
    file = io.StringIO()
    Console(file=file, width=120).print(results_table({"with code": found, "code blocked": blocked}, "Table"))
    rows = {line.split()[0]: " ".join(line.split()) for line in file.getvalue().splitlines()[1:]}
    assert rows["zoom"] == "zoom 2 50 % 9 to 91 100 % 50 % 0 % 0 to 79"
    assert rows["easy"] == "easy 2 0 % 0 to 79 1 failed 0 % - -"
    assert rows["open"] == "open 1 - 0 % - -"
