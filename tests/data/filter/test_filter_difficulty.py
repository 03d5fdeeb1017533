"""A model is asked as often as the recipe says; what it answered is kept, and the band decides."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import filter_parts as parts
import pytest
from waiting import wait_until

from thyme.config import EngineConfig
from thyme.config.load import overridden
from thyme.config.rl_filter import DifficultyStep, FilterRecipe
from thyme.data.filter import difficulty
from thyme.data.filter.attempts import FILE, Attempts
from thyme.data.filter.difficulty import why_not
from thyme.engines.base import Request
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import EngineError, StoreError

SAMPLES = 4
SCRIPT = Path(__file__).with_name("filter_script.py")


@pytest.fixture(autouse=True)
def _no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here runs code, and a sandbox takes a second to start."""

    @asynccontextmanager
    async def nothing(config: Any) -> AsyncIterator[None]:
        yield None

    monkeypatch.setattr(difficulty, "open_sandbox", nothing)


def asked(tmp_path: Path, *settings: str) -> FilterRecipe:
    rows = [parts.row(times, question=f"Which colour is it? right {times} times") for times in range(SAMPLES + 1)]
    told = ("difficulty.model=scripted", f"difficulty.samples={SAMPLES}", "difficulty.concurrency=3", *settings)
    return parts.recipe(parts.write_lines(tmp_path / "rows.jsonl", rows), *told)


def test_always_and_never_right_are_dropped_and_the_rate_is_written_down(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = parts.run(asked(tmp_path), out, parts.sometimes)
    assert parts.kept(out) == [1, 2, 3]
    assert parts.reasons(out) == {0: "difficulty: all_wrong", 4: "difficulty: all_right"}
    assert [seen.pass_rate for seen in parts.rows_of(out / "kept.jsonl")] == [0.25, 0.5, 0.75]
    assert '"pass_rate": 0.25' in (out / "problems" / "train.jsonl").read_text()
    assert made.figures.all["pass_rate"] == {"0 %": 1, "100 %": 1, "25 %": 1, "50 %": 1, "75 %": 1}


def test_another_band_needs_no_model(tmp_path: Path) -> None:
    recipe, out = asked(tmp_path), tmp_path / "out"
    parts.run(recipe, out, parts.sometimes)
    parts.run(overridden(recipe, ["difficulty.low=0.5", "difficulty.high=0.6"]), out)
    assert parts.kept(out) == [2]
    assert parts.reasons(out)[1] == "difficulty: too_hard"
    assert parts.reasons(out)[3] == "difficulty: too_easy"
    parts.run(overridden(recipe, ["difficulty.extremes=true"]), out)
    assert parts.kept(out) == [0, 1, 2, 3, 4]
    fewer = parts.run(overridden(recipe, ["difficulty.samples=2"]), out)
    assert fewer.figures.all["pass_rate"] == {"100 %": 3, "0 %": 1, "50 %": 1}


@pytest.mark.parametrize(
    ("rate", "settings", "reason"),
    [
        (0.0, {}, "all_wrong"),
        (1.0, {}, "all_right"),
        (0.0, {"extremes": True}, ""),
        (0.0, {"extremes": True, "low": 0.1}, "too_hard"),
        (0.25, {"low": 0.25, "high": 0.75}, ""),
        (0.75, {"low": 0.25, "high": 0.75}, ""),
        (0.8, {"high": 0.75}, "too_easy"),
    ],
)
def test_the_band_includes_its_ends(rate: float, settings: dict[str, Any], reason: str) -> None:
    assert why_not(rate, DifficultyStep(**settings)) == reason


def test_only_what_is_missing_is_asked_and_another_model_or_seed_is_asked_anew(tmp_path: Path) -> None:
    recipe, out, engines = asked(tmp_path), tmp_path / "out", []

    def opened(model: str, config: EngineConfig) -> ScriptedEngine:
        engines.append(parts.sometimes(model, config))
        return engines[-1]

    parts.run(recipe, out, opened)
    parts.run(overridden(recipe, [f"difficulty.samples={SAMPLES + 2}"]), out, opened)
    assert [len({request.trajectory_id for request in engine.requests}) for engine in engines] == [20, 10]
    for change in (["seed=1"], ["difficulty.rollout.text_temperature=0.5"], ["difficulty.model=other"]):
        parts.run(overridden(recipe, change), out, opened)
        assert len({request.trajectory_id for request in engines[-1].requests}) == 20
    parts.run(recipe, out, opened, model_fingerprint="other weights")
    assert len(engines) == 6


def test_seeds_differ_by_sample_and_are_the_same_in_every_run(tmp_path: Path) -> None:
    seeds: list[set[int]] = []
    for name in ("one", "two"):
        engine = parts.sometimes("", EngineConfig())
        parts.run(asked(tmp_path), tmp_path / name, lambda model, config, engine=engine: engine)
        seeds.append({request.seed for request in engine.requests})
    assert len(seeds[0]) == 20
    assert seeds[0] == seeds[1]


def failing(share: int) -> Any:
    """An engine that fails for the first so many samples of every problem."""

    def opened(model: str, config: EngineConfig) -> ScriptedEngine:
        def say(request: Request) -> list[Any]:
            return [EngineError("out of order")] if parts.sample_of(request) < share else ["<answer>red</answer>"]

        return ScriptedEngine(say)

    return opened


def test_rollouts_that_fail_are_asked_again_by_the_next_run(tmp_path: Path) -> None:
    recipe, out = asked(tmp_path, "difficulty.stop_after_failures=0"), tmp_path / "out"
    parts.run(recipe, out, failing(1))
    assert set(parts.reasons(out).values()) == {"difficulty: unmeasured"}
    assert parts.rows_of(out / "rejected.jsonl")[0].detail == "3 of 4 answers"
    engine = parts.sometimes("", EngineConfig())
    parts.run(recipe, out, lambda model, config: engine)
    assert len({request.trajectory_id for request in engine.requests}) == 5


def test_a_model_that_is_gone_ends_the_run_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    recipe, out = asked(tmp_path, "difficulty.stop_after_failures=3", "difficulty.concurrency=1"), tmp_path / "out"
    with pytest.raises(EngineError, match=r"3 rollouts failed one after the other.*out of order"):
        parts.run(recipe, out, failing(2))
    assert not (out / "problems").exists()


def test_a_damaged_file_of_attempts_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match=r"attempts\.sqlite"):
        Attempts(tmp_path)


def chunks(out: Path) -> int:
    return len(list(out.glob("scan/*/*.jsonl")))


def answers(out: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{out / FILE}?mode=ro", uri=True)) as base:
            return int(base.execute("SELECT count(*) FROM attempts").fetchone()[0])
    except sqlite3.Error:
        return 0  # not there yet


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_that_are_killed_come_to_the_same_files(tmp_path: Path) -> None:
    """SIGKILL while rows are looked at and while the model is asked; no process outlives the run."""
    import psutil
    from filter_script import recipe_of

    parts.run(recipe_of(tmp_path), tmp_path / "whole", parts.sometimes)
    out = tmp_path / "out"
    moments = [(chunks, 1), (chunks, 6), (chunks, 12), (answers, 3), (answers, 90), (answers, 200)]
    for measure, least in moments:
        process = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path), str(out)], start_new_session=True)
        try:
            wait_until(lambda: process.poll() is not None or measure(out) >= least, 300)  # noqa: B023  # asked at once
            assert process.poll() is None, "it ended before it could be killed"
            workers = psutil.Process(process.pid).children(recursive=True)
        finally:
            process.kill()
            process.wait()
        _, left = psutil.wait_procs(workers, timeout=20)
        assert not left, "a process outlived the run"
    before = answers(out)
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path), str(out)], check=True)
    assert before < answers(out) == 60 * 4
    assert parts.files_of(out) == parts.files_of(tmp_path / "whole")
