"""The plan, and the parts of the package that its steps are done with."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_records
from typer.testing import CliRunner

from thyme.agent.repetition import RepetitionDetector
from thyme.cli import app
from thyme.errors import UsageError
from thyme.nano.asked import Outcome
from thyme.reproduce import doing
from thyme.reproduce.graph import Store, done
from thyme.reproduce.plan import QUICK, SMOKE, Settings, plan
from thyme.reproduce.starts import LOOPED_CHARS, looped
from thyme.reproduce.stored import take_stored
from thyme.types import Generated, StopReason


@pytest.mark.parametrize("settings", [Settings(), QUICK, SMOKE, Settings(seeds=(4,), careless=False)])
def test_every_step_can_be_done(settings: Settings) -> None:
    steps = plan(settings)
    assert {step.kind for step in steps} <= set(doing.DO)
    assert all(step.minutes > 0 for step in steps)
    assert all(set(step.seeds) <= {*settings.seeds, 7} for step in steps)
    arms = [step for step in steps if step.kind == "asked"]
    assert all(step.settings["arm"] in {*doing.FOLDERS, *doing.SHIPPED} for step in arms)


def test_a_full_run_has_three_seeds_of_everything() -> None:
    steps = plan(Settings())
    for kind in ("data", "sft", "direct", "rl", "when", "sft-arms", "grpo-arms"):
        assert sum(step.kind == kind for step in steps) == 3
    assert len({step.settings["arm"] for step in steps if step.kind == "asked"}) == 15


def test_the_quick_run_is_expected_to_take_a_quarter_of_an_hour_on_two_cores() -> None:
    assert sum(step.minutes for step in plan(QUICK)) / 2 <= 15
    assert max(step.minutes for step in plan(QUICK)) <= 15


def test_arms_of_a_seed_see_the_same_problems_and_differ_as_they_say() -> None:
    ways = {arm: doing.way(arm, 768) for arm in (*doing.FOLDERS, *doing.SHIPPED)}
    assert [arm for arm, (rollout, _) in ways.items() if not rollout.tools] == ["blocked", "direct"]
    assert [arm for arm, (_, sandbox) in ways.items() if not sandbox.repairs] == ["bare", "careless-bare"]
    on, off = ways["loop"][0], ways["loop-off"][0]
    assert off == on.model_copy(update={"repetition": off.repetition})
    assert (on.repetition.variant, off.repetition.variant) == ("rolling", "off")
    steps = [step for step in plan(Settings(seeds=(2,))) if step.kind == "asked"]
    assert len({(step.settings["problems"], step.settings["seed"]) for step in steps}) == 1


def test_the_probe_differs_from_reinforcement_in_the_tokens_of_code_alone() -> None:
    steps = {step.name: step for step in plan(Settings(seeds=(2,)))}
    plain, probe = (doing.grpo_recipe(steps[name].settings) for name in ("rl-2", "rl-code-2"))
    assert (probe.train.code_policy, probe.rollout.code_temperature) == ("keep", 1.0)
    assert (plain.train.code_policy, plain.rollout.code_temperature) == ("mask", 0.0)
    same = probe.model_copy(
        update={
            "train": probe.train.model_copy(update={"code_policy": "mask"}),
            "rollout": probe.rollout.model_copy(update={"code_temperature": 0.0}),
        }
    )
    assert same == plain
    assert steps["rl-code-2"].inputs == steps["rl-2"].inputs == ("sft-2",)


def test_recipes_take_a_steps_sizes_and_seed() -> None:
    steps = {step.name: step for step in plan(Settings(seeds=(2,)))}
    sft = doing.sft_recipe(steps["sft-2"].settings)
    assert sft.stages["images"].data["demonstrations"].limit == 1900
    assert {source.seed for stage in sft.stages.values() for source in stage.data.values()} == {2}
    assert {stage.train.seed for stage in sft.stages.values()} == {2}
    assert sft.evaluation is None
    grpo = doing.grpo_recipe(steps["rl-2"].settings)
    assert (grpo.train.max_steps, grpo.train.seed, grpo.data["world"].seed) == (90, 2, 2)
    off = doing.grpo_recipe(steps["rl-loop-off-2"].settings)
    assert (off.rollout.repetition.variant, off.rollout.max_round_tokens) == ("off", doing.LOOP_TOKENS)
    assert grpo.rollout.repetition.variant == "rolling"


def test_outcomes_are_kept_by_kind_in_their_order() -> None:
    told = [
        Outcome(id="1", kind="zoom", right=1, labels=1, blocks=2, ran=1, repaired=1, tokens=50, stop="answer"),
        Outcome(id="2", kind="easy", right=0, labels=0, blocks=0, ran=0, tokens=9, stop="repetition"),
        Outcome(id="3", kind="zoom", right=0, labels=0, blocks=0, ran=0, tokens=768, stop="max_tokens"),
    ]
    found = doing.compact(tuple(told))
    assert found["zoom"]["right"] == [1, 0]
    assert found["zoom"]["tokens"] == [50, 768]
    assert found["zoom"]["cut"] == [0, 1]
    assert found["easy"]["looped"] == [1]


def test_a_looped_demonstration_is_a_loop_to_the_detector() -> None:
    made = looped(sample_records.trajectory())
    (segment,) = made.segments
    assert isinstance(segment, Generated)
    assert len(segment.text) >= LOOPED_CHARS
    assert RepetitionDetector().feed(segment.text) is not None
    assert made.stop is StopReason.MAX_TOKENS, "so that its end is not learnt"


def test_a_run_can_begin_with_the_results_of_the_documentation(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path("latency").parent.mkdir()
    store.path("latency").write_text("mine")
    taken = take_stored(store)
    assert "latency" not in taken
    assert store.path("latency").read_text() == "mine", "what a run has is kept"
    assert "shipped" in taken
    store.path("latency").unlink()
    assert take_stored(store) == ["latency"]
    steps = plan(Settings())
    assert {"latency", "asked-base-1", "when-2"} <= set(done(steps, store)), "they hold for a full run"
    with pytest.raises(UsageError, match="leave out --stored"):
        take_stored(store, tmp_path / "elsewhere")


def test_a_dry_run_shows_the_plan_and_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["reproduce", "--quick", "--dry-run", "--only", "rl"])
    assert shown.exit_code == 0, shown.output
    for step in ("data-1", "sft-1", "rl-1", "3 of 3 steps to do"):
        assert step in shown.output
    assert "when-1" not in shown.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--seeds", "1,x"], ["--seeds", "1,1"], ["--seeds", "0"], ["--only", "nonsense"]])
def test_a_mistake_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["reproduce", "--dry-run", *words])
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []
