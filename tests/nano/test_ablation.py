"""The ablation: the naive mask, what an interrupted run goes on with, what a command refuses."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from thyme.cli.nano import app
from thyme.errors import ConfigError, UsageError
from thyme.families import load_family
from thyme.markup import observation_text
from thyme.nano import checkpoint_path
from thyme.nano.ablation.arms import ARMS, COMPARISONS, AblationSettings
from thyme.nano.ablation.jobs import job_folder, read_result, trainer_settings
from thyme.nano.ablation.report import Ablation
from thyme.nano.ablation.rows import masked, naive, shown_from
from thyme.nano.ablation.run import run
from thyme.nano.ablation.stats import MEASURES
from thyme.nano.asked import labels_right
from thyme.nano.jobs import RESULT
from thyme.store import read_trajectories
from thyme.train.encode import MaskPolicy, encode
from thyme.types import (
    Execution,
    Generated,
    ImageRecord,
    Observation,
    Problem,
    Prompt,
    Sampling,
    SeenImage,
    StopReason,
    Trajectory,
)

TINY = AblationSettings(
    steps=2, batch=2, demonstrations=14, replayed=2, views=4, annealing_steps=2, problems=1, held_out=1
)
pytestmark = pytest.mark.timeout(300)  # the first test that wants the run trains three models
FAMILY = load_family(checkpoint_path("base"))
PICTURE = ImageRecord.of(
    Image.fromarray(np.arange(128 * 128 * 3, dtype=np.uint32).astype(np.uint8).reshape(128, 128, 3))
)
SAMPLING = Sampling(text_temperature=0, code_temperature=0, max_rounds=4, max_round_tokens=100, max_tokens=400)

words = st.text("abc 019<>/|\n", max_size=20)
executions = st.builds(
    Execution, code=st.just("print(1)"), stdout=words, images=st.integers(0, 2).map(lambda n: (PICTURE,) * n)
)


def trajectory(rounds, images):
    segments = []
    for execution in rounds:
        segments.append(Generated(kind="text", text="I look.<code>", temperature=0))
        segments.append(Generated(kind="code", text="\n```python\nprint(1)\n```\n</code>", temperature=0))
        seen = tuple(image.size for image in execution.images)
        segments.append(Observation(execution=execution, text=observation_text(execution), seen_sizes=seen))
    segments.append(Generated(kind="text", text="</think>\n<answer>7</answer>", temperature=0))
    return Trajectory(
        id="t",
        problem=Problem(id="t", question="What?", images=images, kind="zoom"),
        prompt=Prompt(
            system="Think.",
            user="<image>\n" * len(images) + "What?",
            images=tuple(SeenImage(image=i, seen_width=128, seen_height=128) for i in images),
        ),
        segments=tuple(segments),
        stop=StopReason.ANSWER,
        sampling=SAMPLING,
    )


@settings(max_examples=40)
@given(st.lists(executions, max_size=3), st.integers(0, 1), st.sampled_from(MaskPolicy))
def test_the_naive_mask_adds_the_text_of_observations_and_nothing_else(rounds, pictures, policy):
    shown = trajectory(rounds, (PICTURE,) * pictures)
    before = encode(shown, FAMILY, policy)
    after = naive(before, FAMILY.never_sampled)
    observed = np.zeros(len(before), bool)
    for span in before.spans:
        if span.kind == "observation":
            observed[span.start : span.end] = True
    images = np.isin(before.ids, FAMILY.never_sampled)
    assert np.array_equal(after.loss_mask[observed], ~images[observed])  # all of its text, no image
    assert np.array_equal(after.loss_mask[~observed], before.loss_mask[~observed])
    assert np.array_equal(after.ids, before.ids)
    assert not before.loss_mask[observed].any()  # the package's own masks never train on a sandbox's words


def test_the_naive_targets_read_as_what_the_sandbox_said():
    shown = trajectory([Execution(code="print(1)", stdout="crop_1.png\n", images=(PICTURE,))], (PICTURE,))
    plain, with_sandbox = (masked(shown, FAMILY, mask) for mask in (MaskPolicy.ALL, "naive"))
    added = with_sandbox.loss_mask & ~plain.loss_mask
    assert FAMILY.decode(with_sandbox.ids[added].tolist()) == "\n<sandbox_output>\ncrop_1.png\n\n</sandbox_output>\n"


def test_arms_differ_in_one_thing_each_and_every_comparison_is_of_arms_that_are_there():
    stage_one = [arm for arm in ARMS.values() if arm.after is None]
    assert len({(arm.mask, arm.weights) for arm in stage_one}) == len(stage_one)
    assert all(arm.weights == ARMS[arm.after].weights for arm in ARMS.values() if arm.after is not None)
    how = AblationSettings()
    assert len({trainer_settings(arm, how, 1).model_dump_json() for arm in stage_one}) == 1
    annealing, control = (trainer_settings(ARMS[name], how, 1) for name in ("annealing", "control"))
    assert annealing == control
    assert annealing.learning_rate == pytest.approx(how.learning_rate / 10)
    assert ARMS["annealing"].after == ARMS["control"].after == "last_round"
    for comparison in COMPARISONS:
        assert {comparison.better, comparison.worse} <= set(ARMS)
        assert comparison.measure in MEASURES


def test_labels_count_at_their_place_only():
    assert labels_right("K7 X3", "K7 X3") == 1
    assert labels_right("K7 X3", "K7 A2") == 0.5
    assert labels_right("K7 X3", "X3 K7") == labels_right("K7 X3", None) == 0


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    torch.set_num_threads(1)
    work = tmp_path_factory.mktemp("ablation") / "run"
    return work, run(work, TINY, seeds=[1], arms=["naive", "annealing"])


@pytest.mark.slow
def test_a_run_does_what_was_asked_and_what_that_starts_from(done):
    work, results = done
    assert [result.arm for result in results] == ["naive", "last_round", "annealing"]
    shown = list(read_trajectories(work / "demonstrations-1.jsonl"))
    for result in results:
        assert result.steps == 2
        assert [outcome.kind for outcome in result.outcomes] == list(result.nll)
        assert all(0 < loss < 30 for loss in result.nll.values())
        mask, theme = ARMS[result.arm].mask, ARMS[result.arm].theme
        chosen = [t for t in shown if (t.problem.kind == "arithmetic") == (theme == "arithmetic")]
        trained = sum(masked(t, FAMILY, mask).trained for t in chosen)
        assert result.samples == len(chosen) + (TINY.replayed if theme == "images" else 0)
        assert (result.trained_tokens == trained) is (theme == "arithmetic")
        assert result.trained_tokens >= trained
    assert results[0].tokens == results[1].tokens  # the same samples under another mask
    assert results[0].trained_tokens > results[1].trained_tokens


@pytest.mark.slow
def test_all_arms_are_asked_the_same_problems(done):
    _, results = done
    assert len({tuple(outcome.id for outcome in result.outcomes) for result in results}) == 1


@pytest.mark.slow
def test_the_annealing_goes_on_from_the_end_of_its_arm(done):
    from safetensors.torch import load_file

    work, _ = done
    ends = [load_file(job_folder(work, 1, arm) / "model.safetensors") for arm in ("naive", "last_round", "annealing")]
    naive_end, start, annealed = (ends[i] for i in range(3))
    apart = [sum(float((annealed[k] - other[k]).abs().sum()) for k in annealed) for other in (start, naive_end)]
    assert 0 < apart[0] < apart[1]


@pytest.mark.slow
def test_a_run_goes_on_with_the_jobs_that_have_no_result(done):
    work, results = done
    kept = [job_folder(work, 1, arm) / RESULT for arm in ("naive", "last_round")]
    before = [path.stat().st_mtime_ns for path in kept]
    (job_folder(work, 1, "annealing") / RESULT).unlink()
    again = run(
        work, TINY, seeds=[1], arms=["naive", "annealing"], workers=2
    )  # and in another process, with the same end
    assert [path.stat().st_mtime_ns for path in kept] == before
    seconds = {"train_seconds", "ask_seconds"}
    assert [r.model_dump(exclude=seconds) for r in again] == [r.model_dump(exclude=seconds) for r in results]


@pytest.mark.slow
def test_a_folder_keeps_to_its_settings_and_a_damaged_result_is_named(done, tmp_path):
    work, _ = done
    with pytest.raises(ConfigError, match="other settings"):
        run(work, TINY.model_copy(update={"steps": 3}), seeds=[1], arms=["naive"])
    (tmp_path / RESULT).write_text("{")
    with pytest.raises(ConfigError, match="remove the folder"):
        read_result(tmp_path)


@pytest.mark.slow
def test_a_report_holds_every_figure(done, tmp_path):
    _, results = done
    found = Ablation.of(results, TINY, None)
    found.write(tmp_path)
    written = json.loads((tmp_path / "ablation_sft.json").read_text())
    assert set(written["arms"]) == {"naive", "last_round", "annealing"}
    assert set(written["arms"]["naive"]["measures"]) == set(MEASURES)
    kinds = written["arms"]["naive"]["seeds"]["1"]["kinds"]
    assert sum(kind["n"] for kind in kinds.values()) == len(results[0].outcomes)
    assert {(c["better"], c["worse"]) for c in written["asked_beforehand"]} == {("annealing", "last_round")}
    page = (tmp_path / "ablation_sft.md").read_text()
    assert all(ARMS[name].title in page for name in written["arms"])
    with Image.open(tmp_path / "ablation_sft.png") as plot:
        assert plot.width > 800
    assert [table.row_count for table in found.tables()] == [3, 3, 2, 1]


@pytest.mark.slow
def test_seeds_take_parts_of_a_file_that_do_not_overlap(done):
    work, _ = done
    path = work / "demonstrations-1.jsonl"
    whole = [t.id for t in read_trajectories(path, images=False)]
    parts = [shown_from(path, seed, 4) for seed in (1, 2, 3)]
    ids = [sorted(t.id for theme in ("images", "arithmetic") for t in part.rows(theme)) for part in parts]
    assert ids == [sorted(whole[start : start + 4]) for start in (0, 4, 8)]
    with pytest.raises(UsageError, match="seed 4 would take those from 13 to 16"):
        shown_from(path, 4, 4)


@pytest.mark.parametrize(
    "arguments", [("--arms", "naive,magic"), ("--seeds", "0"), ("--seeds", "1,1"), ("--seeds", "x")]
)
def test_what_cannot_be_is_refused_before_anything_is_made(arguments, tmp_path):
    refused = CliRunner().invoke(app, ["ablate-sft", "--out", str(tmp_path / "run"), *arguments])
    assert isinstance(refused.exception, UsageError)
    assert not (tmp_path / "run").exists()
