"""Evaluation of the model in training: it disturbs nothing, asks what was asked for, and stores what it was told."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import run_recipes as tiny
import torch
from rich.console import Console

from thyme.config.training import DataSource, EvaluationSettings
from thyme.errors import ConfigError, EngineError, StoreError
from thyme.families import load_family
from thyme.images import load_image
from thyme.store import read_trajectories
from thyme.train import evaluate as module
from thyme.train.data.problems import read_problems
from thyme.train.distributed import split_weights
from thyme.train.evaluate import (
    Evaluator,
    Moment,
    check_evaluation,
    evaluation_problems,
    stored_examples,
    undisturbed,
)
from thyme.train.sft.run import run_sft
from thyme.train.sft.trainer import Trainer

# peft still asks transformers by the old name of activation checkpointing.


@pytest.fixture
def path(tmp_path: Path, tiny_qwen2_5_vl: Path) -> Path:
    return tiny.lay_out(tmp_path / "data", tiny_qwen2_5_vl, evaluated=True)


def run(path: Path, out: Path, *overrides: str, **options: Any) -> Any:
    recipe = tiny.read(path, *overrides)
    return run_sft(recipe, "tiny", out, prompts=Path(recipe.prompts), console=Console(file=io.StringIO()), **options)


@pytest.mark.parametrize(
    "settings",
    [
        ("train.lora={rank=2, dropout=0.4}", "train.gradient_checkpointing=true"),
        ("train.freeze_vision=false", "train.bf16=true"),
    ],
    ids=["lora", "full"],
)
def test_training_goes_on_to_the_bit_as_if_nobody_had_asked(
    path: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    """With adapters, dropout and checkpointing; with a trained tower and autocast. Asked at every step."""
    plain = path.with_name("plain.toml")
    plain.write_text(path.read_text().partition("[evaluation]")[0])
    options = {"only_stage": "images"}
    steps = "stages.images.train.max_steps=3"
    run(plain, tmp_path / "plain", steps, *settings, **options)
    report = run(path, tmp_path / "asked", steps, *settings, "evaluation.every_steps=1", **options)
    assert [point.step for point in report.evaluations] == [0, 1, 2, 3]
    assert tiny.same(tmp_path / "plain/images", tmp_path / "asked/images")


def test_each_stage_is_asked_and_what_was_answered_is_kept(path: Path, tmp_path: Path) -> None:
    """Also where the name of a kind would end a style of the console that nobody began."""
    asked = path.parent / "problems.jsonl"
    asked.write_text(asked.read_text().replace('"k1"', '"[/k1]"'))
    report = run(path, tmp_path / "out")
    assert [(point.stage, point.step) for point in report.evaluations] == [("images", 0), ("images", 2), ("maths", 2)]
    for point in report.evaluations:
        assert {kind: figures["n"] for kind, figures in point.kinds.items()} == {"k0": 2, "[/k1]": 1, "all": 3}
        assert all(figures["failed"] == 0 for figures in point.kinds.values())
    problems = read_problems(DataSource(path=str(path.parent / "problems.jsonl")))
    before = stored_examples(tmp_path / "out", Moment("images", 0), problems[:2])
    after = stored_examples(tmp_path / "out", Moment("maths", 2), problems[:2])
    assert [s.trajectory.problem.id for s in before] == [s.trajectory.problem.id for s in after]
    assert len(before) == 2
    assert before[0].trajectory.model == "tiny/images"
    assert before[0].trajectory.prompt.system == "Think."
    assert before[0].score.value in {0.0, 1.0}
    assert "What is 1 + 1?" in (tmp_path / "out/report.html").read_text()


def test_the_model_that_is_asked_is_the_one_in_training(path: Path, tmp_path: Path, tiny_qwen2_5_vl: Path) -> None:
    """What the adapters add is heard: a live answer has the log-probabilities that the merged checkpoint gives."""
    recipe = tiny.read(path)
    settings = recipe.evaluation
    assert settings is not None
    report = run(path, tmp_path / "out", "train.lora={rank=4}", "train.learning_rate=3e-2", only_stage="images")
    family = load_family(tiny_qwen2_5_vl)
    words = module.PromptSet.load(Path(recipe.prompts))
    problems = evaluation_problems(settings.data)
    evaluator = Evaluator(settings, problems, family, words, tmp_path / "again", name="tiny")
    evaluator.saved(tmp_path / "out/images", Moment("images", 2), device="cpu")
    evaluator.close()
    assert report.evaluations[-1].step == 2
    first, live, saved = (
        {t.problem.id: t.generated[0] for t in read_trajectories(file)}
        for file in (
            tmp_path / "out/evaluation/images-000000.jsonl",
            tmp_path / "out/evaluation/images-000002.jsonl",
            tmp_path / "again/evaluation/images-000002.jsonl",
        )
    )
    assert live.keys() == saved.keys() == {"problems-1", "problems-2", "problems-3"}
    for name, segment in live.items():
        assert segment.token_ids == saved[name].token_ids
        assert segment.logprobs == pytest.approx(saved[name].logprobs, abs=1e-3)
    assert all(segment.logprobs != live[name].logprobs for name, segment in first.items())


def test_modes_and_random_states_are_put_back(tiny_qwen2_5_vl: Path) -> None:
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(tiny_qwen2_5_vl).train()
    model.model.visual.eval()
    modes = {name: part.training for name, part in model.named_modules()}
    assert set(modes.values()) == {True, False}

    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with undisturbed(model):
        assert not any(part.training for part in model.modules())
        draws()
    assert {name: part.training for name, part in model.named_modules()} == modes
    assert draws() == expected


def test_spread_weights_are_asked_as_checkpoints(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("asked in training")

    monkeypatch.setattr(module, "split_weights", lambda: "fsdp")
    monkeypatch.setattr(Evaluator, "live", never)
    report = run(path, tmp_path / "out")
    assert [(point.stage, point.step) for point in report.evaluations] == [("images", 0), ("images", 2), ("maths", 2)]


def test_what_cannot_be_asked_is_refused_beforehand(
    tmp_path: Path, tiny_qwen2_5_vl: Path, tiny_internvl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataSource(format="problems")
    with pytest.raises(ConfigError, match="does not run models of type 'internvl'"):
        check_evaluation(EvaluationSettings(data=data), load_family(tiny_internvl))
    family = load_family(tiny_qwen2_5_vl)
    often = EvaluationSettings(data=data, every_steps=5)
    check_evaluation(often, family)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="fsdp spreads them; leave it out"):
        check_evaluation(often, family)
    check_evaluation(EvaluationSettings(data=data), family)


def test_zero_3_spreads_weights_and_zero_2_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert split_weights() == ""
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    for stage, found in (("2", ""), ("3", "zero3")):
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", stage)
        assert split_weights() == found
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "ds.json"))
    assert split_weights() == "zero3"


def test_an_evaluation_that_breaks_ends_the_run_with_its_reason(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no space left")

    monkeypatch.setattr(module, "evaluate", broken)
    training: list[Any] = []
    monkeypatch.setattr(Trainer, "compute_loss", lambda *args, **kwargs: training.append(args))
    with pytest.raises(EngineError, match=r"evaluation of images at step 0 failed \(OSError: no space left\)"):
        run(path, tmp_path / "out")
    assert training == []


def test_problems_are_read_with_their_pictures(tmp_path: Path) -> None:
    """Also what `thyme nano problems` writes."""
    from typer.testing import CliRunner

    from thyme.cli.nano import app

    assert CliRunner().invoke(app, ["problems", str(tmp_path), "--kind", "zoom", "--kind", "arithmetic"]).exit_code == 0
    problems = read_problems(DataSource(path=str(tmp_path / "problems.jsonl")))
    assert sorted(problem.kind for problem in problems) == ["arithmetic", "zoom"]
    zoom = next(problem for problem in problems if problem.kind == "zoom")
    assert [image.id for image in zoom.images] == [load_image(tmp_path / f"{zoom.id}.png").id]
    assert len(read_problems(DataSource(path=str(tmp_path / "problems.jsonl"), limit=1))) == 1


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    """JSON allows other separators of lines inside a text."""
    question = "one\u2028two\x85three"
    (tmp_path / "p.jsonl").write_bytes(f'{{"question": "{question}", "answer": "2"}}\r\n'.encode())
    (problem,) = read_problems(DataSource(path=str(tmp_path / "p.jsonl")))
    assert problem.question == question


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"answer": "4"}',
        '{"question": "?", "images": ["no.png"]}',
        '{"question": "?", "colour": 1}',
        pytest.param("[" * 100_000, id="too deep for a parser"),
    ],
)
def test_a_line_that_is_no_problem_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('\n{"question": "1 + 1?", "answer": "2"}\n' + line + "\n")
    with pytest.raises(StoreError, match=r"p.jsonl, line 3: not a problem") as raised:
        read_problems(DataSource(path=str(file)))
    assert "\n" not in str(raised.value)
    file.write_text("")
    with pytest.raises(ConfigError, match="holds no problem"):
        evaluation_problems(DataSource(format="problems", path=str(file)))
