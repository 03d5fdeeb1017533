"""The ablation of GRPO-ATS: arms that differ in one thing, errors injected where it is said, a run that goes on."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_records import good_execution
from typer.testing import CliRunner

from thyme.cli.nano import app
from thyme.errors import ConfigError, UsageError
from thyme.families import load_family
from thyme.markup import CODE_CLOSE, format_code, observation_text
from thyme.nano import checkpoint_path
from thyme.nano.grpo_ablation.arms import ARMS, COMPARISONS, GROUPS, SMOKE, STARTS, arms_of, rewards, sandbox
from thyme.nano.grpo_ablation.jobs import read_start, take_start
from thyme.nano.grpo_ablation.records import Count, count
from thyme.nano.grpo_ablation.run import run
from thyme.nano.grpo_ablation.starts import inject, without_imports
from thyme.nano.jobs import RESULT
from thyme.nano.world import KINDS
from thyme.train.encode import MaskPolicy, encode
from thyme.train.grpo.groups import Asked, Group, Member
from thyme.types import (
    Execution,
    ExecutionError,
    Generated,
    Observation,
    Problem,
    Prompt,
    Repair,
    RolloutFailure,
    Sampling,
    Score,
    StopReason,
    Trajectory,
)

pytestmark = pytest.mark.timeout(300)  # the first test that wants the run trains a start and an arm
FAMILY = load_family(checkpoint_path("base"))
SAMPLING = Sampling(text_temperature=1, code_temperature=0, max_rounds=4, max_round_tokens=100, max_tokens=400)
GOOD = Execution(code="print(1)", stdout="1\n")
BAD = Execution(code="print(1", error=ExecutionError(type="SyntaxError", message="never closed"))
REPAIRED = Execution(code="print(1", repairs=(Repair(name="fences", note="x"),))


def trajectory(*executions, kind="zoom", error=None):
    segments = []
    for execution in executions:
        block = format_code(execution.code)
        segments.append(Generated(kind="text", text="I look.<code>", temperature=1, token_ids=(1, 2)))
        segments.append(Generated(kind="code", text=block.removeprefix("<code>"), temperature=0, token_ids=(3, 4, 5)))
        segments.append(Observation(execution=execution, text=observation_text(execution)))
    segments.append(Generated(kind="text", text="</think>\n<answer>7</answer>", temperature=1, token_ids=(6,)))
    return Trajectory(
        id="t",
        problem=Problem(id="t", question="What?", kind=kind),
        prompt=Prompt(system="Think.", user="What?"),
        segments=tuple(segments),
        stop=StopReason.ANSWER if error is None else StopReason.ERROR,
        error=error,
        sampling=SAMPLING,
    )


# --- arms


def test_the_arms_of_a_group_differ_in_what_the_group_is_about():
    about = {"temperature": {"tau", "policy"}, "gating": {"gating"}, "repairs": {"repairs"}}
    for group, names in GROUPS.items():
        plain = [asdict(ARMS[name]) for name in names]
        for key in plain[0].keys() - {"title"} - about[group]:
            assert len({arm[key] for arm in plain}) == 1, (group, key)
    shown = [{key: value for key, value in asdict(arm).items() if key != "title"} for arm in ARMS.values()]
    assert len({str(arm) for arm in shown}) == len(ARMS)  # no arm is run twice
    for comparison in COMPARISONS:
        assert {comparison.one, comparison.other} <= set(GROUPS[comparison.group])
        assert bool(comparison.expected) == bool(comparison.claim)


def test_every_start_runs_itself_and_whole_groups():
    for start, (_, groups) in STARTS.items():
        assert set(arms_of(start)) == {"start", *(arm for group in groups for arm in GROUPS[group])}
    assert arms_of("weak", ["tau1_mask"]) == ["start", "tau1_mask"]


def test_what_an_arm_says_reaches_trainer_rewards_and_sandbox():
    for arm in ARMS.values():
        assert SMOKE.rollout(arm).code_temperature == arm.tau
        assert SMOKE.rollout(arm).text_temperature == 1
        assert SMOKE.training(arm, 3).code_policy == arm.policy
        assert rewards(arm).gating == arm.gating
    assert sandbox(True).repairs
    assert not sandbox(False).repairs
    one, other = (SMOKE.training(ARMS[name], 3) for name in ("tau0_mask", "tau1_mask"))
    assert one == other


# --- what is injected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=4), st.floats(0.01, 0.9), st.integers(0, 9))
def test_only_code_is_replaced_and_its_end_never(rounds, probability, seed):
    clean = [encode(trajectory(*[good_execution()] * n), FAMILY, MaskPolicy.ALL) for n in rounds]
    wrong, done = inject(clean, FAMILY, probability, seed)
    closing = len(FAMILY.encode_text(CODE_CLOSE))
    replaced = 0
    for before, after in zip(clean, wrong, strict=True):
        changed = before.ids != after.ids
        replaced += changed.sum()
        for span in before.spans:
            end = span.end - closing if span.kind == "code" else span.start
            assert not changed[max(span.start, end) : span.end].any()
        assert np.array_equal(before.loss_mask, after.loss_mask)
        assert before.spans == after.spans
    assert (done.blocks, done.replaced) == (sum(rounds), replaced)
    again, _ = inject(clean, FAMILY, probability, seed)
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(wrong, again, strict=True))


def test_so_many_tokens_are_replaced_as_is_stated():
    clean = [encode(trajectory(good_execution()), FAMILY, MaskPolicy.ALL)] * 60
    wrong, done = inject(clean, FAMILY, 0.1, 1)
    error = (0.1 * 0.9 / done.tokens) ** 0.5
    assert done.replaced / done.tokens == pytest.approx(0.1, abs=4 * error)
    assert done.touched == sum(not np.array_equal(a.ids, b.ids) for a, b in zip(clean, wrong, strict=True))
    code = next(span for span in clean[0].spans if span.kind == "code")
    occurring = set(clean[0].ids[code.start : code.end].tolist())
    assert {int(i) for sample in wrong for i in sample.ids[code.start : code.end]} <= occurring


def test_a_careless_block_loses_its_imports_and_nothing_else():
    whole = trajectory(good_execution(), GOOD)
    bare = without_imports(whole)
    texts = [(a.text, b.text) for a, b in zip(whole.segments, bare.segments, strict=True)]
    assert texts[1][1] == texts[1][0].replace("from PIL import Image\n", "", 1) != texts[1][0]
    assert all(a == b for place, (a, b) in enumerate(texts) if place != 1)
    assert without_imports(bare) == bare


# --- what is counted


def test_rollouts_are_counted_by_kind_and_lost_ones_are_not():
    lost = trajectory(error=RolloutFailure(type="EngineError", message="died", where="engine"))
    members = (
        Member(trajectory(GOOD, BAD), Score(value=1.5, parts={"result": 1.0})),
        Member(trajectory(BAD), Score(value=0.5, parts={"result": 0.0})),
        Member(trajectory(REPAIRED), Score(value=None, parts={"result": None})),
        Member(trajectory(), Score(value=-1.0, parts={"result": -1.0})),
        Member(lost, Score(value=None)),
    )
    asked = [Asked(place, Problem(id="p", question="?", kind=kind)) for place, kind in enumerate(("zoom", "easy"))]
    found = count(4, [Group(asked[0], members), Group(asked[1], members[3:4])])
    assert found == [
        Count(step=4, kind="easy", rollouts=1, scored=1, reward=-1.0, tokens=1),
        Count(
            step=4,
            kind="zoom",
            rollouts=4,
            coded=3,
            worked=2,
            blocks=4,
            ran=2,
            repaired=1,
            scored=3,
            reward=1.0,
            right=1.0,
            tokens=11 + 6 + 6 + 1,
        ),
    ]


# --- a run


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    torch.set_num_threads(1)
    work = tmp_path_factory.mktemp("ablation") / "run"
    return work, run(work, SMOKE, seeds=[1], starts=["injected"], arms=["tau1_keep"])


@pytest.mark.slow
def test_a_run_builds_measures_trains_and_asks(done):
    _, findings = done
    start = findings.starts["injected"]
    assert start.injection is not None
    assert start.injection.probability == SMOKE.injected
    assert [(m.tau, m.repairs) for m in start.measured] == [(t, r) for t in (0.0, 0.3, 1.0) for r in (True, False)]
    assert all(m.accuracy.n == SMOKE.measured * len(KINDS) for m in start.measured)
    assert set(start.arms) == {"start", "tau1_keep"}
    trained = start.arms["tau1_keep"]
    assert trained.measures["right"].seeds[1].n == SMOKE.window * SMOKE.problems * SMOKE.group
    assert len(trained.curves["reward"]) == SMOKE.steps
    assert trained.measures["accuracy"].seeds[1].n == SMOKE.asked * len(KINDS)
    assert trained.seconds["cpu"] > 0


@pytest.mark.slow
def test_a_run_goes_on_with_the_jobs_that_have_no_result(done):
    work, findings = done
    results = sorted(work.rglob(RESULT))
    assert len(results) == 3
    before = [path.stat().st_mtime_ns for path in results]
    assert run(work, SMOKE, seeds=[1], starts=["injected"], arms=["tau1_keep"]) == findings
    assert [path.stat().st_mtime_ns for path in results] == before
    with pytest.raises(ConfigError, match="other settings"):
        run(work, SMOKE.model_copy(update={"steps": 3}), seeds=[1])


@pytest.mark.slow
def test_a_start_of_another_run_is_used_as_it_is(done, tmp_path):
    work, _ = done
    given_start, taken = work / "injected" / "build", tmp_path / "injected" / "build"
    take_start(given_start, tmp_path)
    assert read_start(taken) == read_start(given_start)
    weights = [start / "model" / "model.safetensors" for start in (taken, given_start)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    weights[0].write_bytes(b"its own")
    take_start(given_start, tmp_path)
    assert weights[0].read_bytes() == b"its own"  # what a run has it keeps
    with pytest.raises(ConfigError, match="holds no start"):
        run(tmp_path / "third", SMOKE, seeds=[1], given=[work])


@pytest.mark.parametrize("arguments", [("--arms", "tau0_mask,magic"), ("--seeds", "0"), ("--seeds", "1,1")])
def test_what_cannot_be_is_refused_before_anything_is_made(arguments, tmp_path):
    refused = CliRunner().invoke(app, ["ablate-grpo", "--out", str(tmp_path / "run"), *arguments])
    assert isinstance(refused.exception, UsageError)
    assert not (tmp_path / "run").exists()
