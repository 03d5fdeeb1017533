"""Runs of `thyme grpo` on the embedded model: what they leave, how they go on, and what is said where they cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_server import ChatServer, Says, chatting
from rich.console import Console
from safetensors.torch import load_file

from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.load import load, overridden
from thyme.errors import ConfigError, StoreError, ThymeError, TrainingError, TrainingStoppedError, UsageError
from thyme.families import load_family
from thyme.nano import checkpoint_path
from thyme.nano.rl_problems import training_problems
from thyme.nano.sources import nano_problems
from thyme.store import read_trajectories
from thyme.train.grpo import run as run_module
from thyme.train.grpo.identity import identity
from thyme.train.grpo.journal import Journal, read_steps
from thyme.train.grpo.records import GRPORunReport
from thyme.train.grpo.run import run_grpo

RECIPE = """
model = "nano"
prompts = "nano"
[data.world]
format = "nano"
subset = "arithmetic"
[rollout]
text_temperature = 1.6
max_tokens = 96
max_round_tokens = 64
[train]
max_steps = 3
problems = 2
group = 2
batch_size = 2
learning_rate = 1e-3
schedule = "constant"
device = "cpu"
save_steps = 1
keep_trajectories = 2
[evaluation.data]
format = "nano"
split = "validation"
subset = "arithmetic"
limit = 2
[evaluation.rollout]
max_tokens = 16
max_round_tokens = 16
"""
BARE = "evaluation={data={format='nano',split='test',limit=1,subset='arithmetic'},rollout={max_tokens=1}}"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> GRPORecipe:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return load(path, [], GRPORecipe)


def run(recipe: GRPORecipe, out: Path, *settings: str, resume: bool = False, told: Any = None) -> GRPORunReport:
    return run_grpo(
        overridden(recipe, settings),
        "small",
        out,
        model=checkpoint_path("final"),
        prompts=checkpoint_path("final") / "prompts",
        readers={"nano": training_problems},
        problem_readers={"nano": nano_problems},
        resume=resume,
        console=Console(file=told, width=400) if told else Console(quiet=True),
    )


@pytest.fixture(scope="module")
def done(recipe: GRPORecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that came to its end in one go."""
    out = tmp_path_factory.mktemp("done") / "run"
    run(recipe, out, "tracking.trackers=['tensorboard']")
    return out


def timeless(record: Any) -> Any:
    """A step without what the clock says, and without the gap: rows that are decoded together differ by timing, and
    with them the last digits of the sampler's numbers."""
    metrics = {name: value for name, value in record.metrics.items() if not name.startswith(("speed/", "gap/"))}
    return record.step, metrics, record.kinds, record.counts, record.alarms


def test_a_run_leaves_model_report_steps_and_rollouts(done: Path) -> None:
    report = GRPORunReport.model_validate_json((done / "grpo_report.json").read_text())
    assert [record.step for record in report.steps] == [1, 2, 3]
    assert tuple(read_steps(done)) == report.steps
    assert [(point.stage, point.step) for point in report.evaluations] == [("grpo", 0), ("grpo", 3)]
    assert (report.model, report.device, report.settings.max_steps) == ("nano", "cpu", 3)
    assert "torch" in report.versions
    assert report.seconds >= sum(record.seconds["total"] for record in report.steps)
    assert sorted(path.name for path in (done / "trajectories").glob("*.jsonl")) == [
        "step-000001.jsonl",
        "step-000002.jsonl",
    ]
    kept = list(read_trajectories(done / "trajectories/step-000002.jsonl"))
    assert len(kept) == 4
    assert {trajectory.problem.kind for trajectory in kept} == {"arithmetic"}
    assert "One group of rollouts" in (done / "group.html").read_text(encoding="utf-8")
    assert list((done / "tracking/tensorboard").iterdir())
    assert "<html" in (done / "report.html").read_text()


def test_nothing_of_it_holds_a_path_of_the_machine(done: Path) -> None:
    files = [path for path in done.rglob("*") if path.suffix in {".json", ".jsonl", ".html", ".md", ".txt"}]
    assert len(files) > 10
    for path in files:
        text = path.read_text(encoding="utf-8")
        for place in (str(done.parent), str(checkpoint_path("final")), str(Path.home())):
            assert place not in text, path.name


def test_the_model_was_trained_and_can_be_loaded_by_all(done: Path) -> None:
    from transformers import AutoModelForImageTextToText

    before, after = (load_file(f / "model.safetensors") for f in (checkpoint_path("final"), done / "model"))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in before)
    assert AutoModelForImageTextToText.from_pretrained(done / "model").num_parameters() > 1e6
    assert load_family(done / "model").name
    shipped = checkpoint_path("final") / "prompts/system.txt"
    assert (done / "model/prompts/system.txt").read_text() == shipped.read_text()
    card = (done / "model/README.md").read_text()
    assert "3 steps of 2 problems x 2 rollouts" in card
    assert "| arithmetic | 2 |" in card


def test_a_run_that_was_asked_to_end_goes_on_to_the_same_end(
    recipe: GRPORecipe, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After step 2 it is asked to end; and a step more was written down than the checkpoint knows, half of it."""
    out = tmp_path / "run"
    tell = Journal.tell

    def asked(self: Journal, step: int, *rest: Any) -> None:
        tell(self, step, *rest)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Journal, "tell", asked)
    with pytest.raises(TrainingStoppedError, match="after step 2 of 3; a checkpoint lies in 'run/checkpoints'"):
        run(recipe, out)
    monkeypatch.undo()
    assert not (out / "grpo_report.json").exists()
    assert (out / "report.html").is_file()
    steps = (out / "steps.jsonl").read_text()
    (out / "steps.jsonl").write_text(steps + steps.splitlines()[1].replace('"step":2', '"step":3') + '\n{"step":4,"me')
    (out / "trajectories/step-000004.jsonl").write_text("{}\n")
    report = run(recipe, out, resume=True)
    whole = GRPORunReport.model_validate_json((done / "grpo_report.json").read_text())
    assert [timeless(record) for record in report.steps] == [timeless(record) for record in whole.steps]
    assert [point.kinds for point in report.evaluations] == [point.kinds for point in whole.evaluations]
    assert len((out / "steps.jsonl").read_text().splitlines()) == 3
    assert not (out / "trajectories/step-000004.jsonl").exists()
    ours, theirs = (load_file(folder / "model/model.safetensors") for folder in (out, done))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_that_was_killed_after_its_last_step_is_only_finished(
    recipe: GRPORecipe, done: Path, tmp_path: Path
) -> None:
    """Its last checkpoint is there, its model and its report are not."""
    out = tmp_path / "run"
    shutil.copytree(done, out)
    shutil.rmtree(out / "model")
    (out / "grpo_report.json").unlink()
    report = run(recipe, out, resume=True)
    whole = GRPORunReport.model_validate_json((done / "grpo_report.json").read_text())
    assert report.steps == whole.steps
    ours, theirs = (load_file(folder / "model/model.safetensors") for folder in (out, done))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_page_that_cannot_be_written_leaves_no_run_unfinished(
    recipe: GRPORecipe,
    done: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It shows pictures of kept rollouts, and one may be gone by then."""
    out = tmp_path / "run"
    shutil.copytree(done, out)
    (out / "grpo_report.json").unlink()

    def gone(*_: Any) -> None:
        raise StoreError("a picture is gone")

    monkeypatch.setattr(run_module, "write_grpo_report", gone)
    run(recipe, out, resume=True)
    assert (out / "grpo_report.json").is_file()
    assert "a picture is gone" in caplog.text


def test_a_folder_that_holds_a_run_is_not_written_over(recipe: GRPORecipe, done: Path) -> None:
    with pytest.raises(UsageError, match=r"'run' holds a finished run: go on with it \(--resume\)"):
        run(recipe, done)
    with pytest.raises(ConfigError, match=r"train\.learning_rate: 0\.001 there, 0\.01 here"):
        run(recipe, done, "train.learning_rate=0.01", resume=True)
    report = run(recipe, done, "train.log_steps=7", resume=True)
    assert len(report.steps) == 3


def test_records_that_are_missing_are_said(recipe: GRPORecipe, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(done, out)
    (out / "grpo_report.json").unlink()
    lines = (out / "steps.jsonl").read_text().splitlines(keepends=True)
    (out / "steps.jsonl").write_text(lines[0] + "damaged\n" + lines[2])
    with pytest.raises(StoreError, match="holds 1 of the 3 steps before checkpoint-3"):
        run(recipe, out, resume=True)


def test_what_no_weight_depends_on_may_change(recipe: GRPORecipe) -> None:
    """Alarms, where and how patiently a judge is asked, memory, evaluation and trackers make no other run; a reward
    does."""
    judged = overridden(recipe, ["rewards.judge.model='http://a/v1#m'"])
    same = ["train.alarms.window=3", "evaluation.data.limit=9", "rewards.judge.concurrency=2", "engine.threads=1"]
    moved = ["rewards.judge.model='http://b/v1#m'", "sandbox.pool=0", "engine.vllm.gpu_memory_utilization=0.3"]
    assert identity(judged) == identity(overridden(judged, [*same, *moved, "engine.max_batch=3"]))
    for other in ("rewards.tool_cost=0.1", "rewards.judge.model='http://a/v1#n'", "engine.max_context=999"):
        assert identity(judged) != identity(overridden(judged, [other])), other


def test_an_alarm_can_end_a_run(recipe: GRPORecipe, tmp_path: Path) -> None:
    """Rollouts are cut after a few tokens, so all are cut, and the first window is one step."""
    settings = ("rollout.max_tokens=4", "train.alarms.window=1", "train.alarms.stop=true", BARE)
    with (
        (tmp_path / "told.txt").open("w") as told,
        pytest.raises(TrainingStoppedError, match=r"the alarm '\w+' ended the run .*after step 1 of 3"),
    ):
        run(recipe, tmp_path / "run", *settings, told=told)
    assert "alarm at step 1, truncated: rollouts cut at a bound: 100.0 %" in (tmp_path / "told.txt").read_text()
    (record,) = read_steps(tmp_path / "run")
    assert "truncated" in {alarm.name for alarm in record.alarms}
    assert (tmp_path / "run/checkpoints/checkpoint-1").is_dir()


def test_a_run_in_which_nothing_can_be_compared_says_why_and_leaves_its_page(
    recipe: GRPORecipe, tmp_path: Path
) -> None:
    settings = ("rollout.max_tokens=4", "train.overlong=drop", "train.patience=1", BARE)
    with pytest.raises(TrainingError, match=r"not one group had two rollouts to compare.*train\.overlong = 'drop'"):
        run(recipe, tmp_path / "run", *settings)
    (record,) = read_steps(tmp_path / "run")
    assert (record.metrics["group/dropped"], record.metrics["train/tokens"]) == (1.0, 0.0)
    assert "1 of 3 steps so far" in (tmp_path / "run/report.html").read_text()
    assert not (tmp_path / "run/grpo_report.json").exists()


def test_adapters_are_merged_and_kept(recipe: GRPORecipe, tmp_path: Path) -> None:
    settings = ("train.lora.rank=4", "train.max_steps=2", "train.beta=0.01", "rollout.max_tokens=48", BARE)
    report = run(recipe, tmp_path / "run", *settings)
    assert (tmp_path / "run/model/adapter/adapter_model.safetensors").is_file()
    assert report.steps[-1].metrics["train/kl"] is not None
    before, after = (load_file(f / "model.safetensors") for f in (checkpoint_path("final"), tmp_path / "run/model"))
    assert before.keys() == after.keys()


def finds_it_right(body: dict[str, Any]) -> Says:
    """What a judge of answers or of consistency says."""
    return Says(json.dumps({"consistent" if "consistent" in body["messages"][0]["content"] else "correct": 1}))


def test_a_judge_is_asked_and_its_verdicts_are_kept(recipe: GRPORecipe, tmp_path: Path) -> None:
    with chatting(ChatServer(always=finds_it_right)) as judge:
        settings = (
            f"rewards.judge.model='{judge.url}#judge'",
            "rewards.result_by='rules_then_judge'",
            "train.max_steps=1",
            BARE,
        )
        (record,) = run(recipe, tmp_path / "run", *settings).steps
        assert len(judge.requests) >= 2  # the question before everything, and verdicts
        kept = list(read_trajectories(tmp_path / "run/trajectories/step-000001.jsonl"))
        parts = [(t.meta["grpo"]["score"]["parts"]["result"], "<answer>" in t.response) for t in kept]
        assert {result for result, answered in parts if answered} == {1.0}  # it finds everything right
        assert record.counts["scorer_requests"] == len(judge.requests) - 1
        assert list((tmp_path / "run/verdicts").rglob("*"))


def test_a_reward_of_ones_own_is_paid_and_another_one_is_another_run(recipe: GRPORecipe, tmp_path: Path) -> None:
    """One step; then its file changes."""
    source = tmp_path / "mine.py"
    source.write_text("def short(trajectory):\n    return len(trajectory.response) / 1000\n")
    own = f"rewards.own.short={{function='{source}:short',weight=0.5}}"
    run(recipe, tmp_path / "run", own, "train.max_steps=1", BARE)
    (record,) = read_steps(tmp_path / "run")
    kept = list(read_trajectories(tmp_path / "run/trajectories/step-000001.jsonl", images=False))
    assert record.metrics["reward/short"] == pytest.approx(sum(len(one.response) for one in kept) / len(kept) / 1000)
    assert "scorer_own_failures" not in record.counts
    page = (tmp_path / "run/report.html").read_text()
    assert "Own part: short" in page
    assert str(tmp_path) not in page
    told = json.loads((tmp_path / "run/grpo_run.json").read_text())
    assert told["rewards.own.short.function"] == "mine.py:short"
    (tmp_path / "run/grpo_report.json").unlink()
    source.write_text("def short(trajectory):\n    return 1\n")
    with pytest.raises(ConfigError, match="other rollouts or rewards"):
        run(recipe, tmp_path / "run", own, "train.max_steps=1", BARE, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["rewards.judge={model='http://127.0.0.1:9/v1#judge',retries=0}", "rewards.result_by='judge'"],
            "cannot be reached",
        ),
        (["train.max_steps=null"], "train.max_steps"),
        (["data.world.subset=zom"], "no kind 'zom'"),
        (["data.world.format=trajectories"], "problems are not demonstrations"),
        (["evaluation.data.split=train"], "no measure"),
        (["train.device=cuda"], "no CUDA device"),
    ],
)
def test_what_is_wrong_is_said_before_weights_are_loaded(
    recipe: GRPORecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], message: str
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("thyme.train.run.around.load_model", never)
    if "train.max_steps=null" in settings:
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"max_steps": None})})
        settings = []
    with pytest.raises(ThymeError, match=message):
        run(recipe, tmp_path / "run", *settings)
    assert not (tmp_path / "run/grpo_run.json").exists()
