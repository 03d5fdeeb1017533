"""Each figure of a step is what its words say, on groups whose figures can be counted by hand."""

from __future__ import annotations

import json
import math
import pickle
import statistics
from pathlib import Path

import grpo_runs as runs
import pytest
import sample_records

from thyme.train.grpo.monitors import METRICS, measure, observe, tracked
from thyme.train.grpo.outcomes import outcomes
from thyme.train.grpo.records import Gap, StepRecord
from thyme.train.grpo.unseen import read_not_seen, stands_in
from thyme.types import Execution, ImageRecord, StopReason

REPAIRED = sample_records.good_execution()
FAILED = sample_records.failed_execution()
PLAIN = Execution(code="print(1)", ran="print(1)", stdout="1\n")


def groups() -> list[runs.Group]:
    """Two groups: one of four on ``zoom``, one on ``easy`` that has only one scored member."""
    zoom = [
        runs.member(runs.rollout(executions=(REPAIRED,)), 2.0, result=1.0, format=1.0, consistency=1.0),
        runs.member(runs.rollout(executions=(FAILED, PLAIN)), 0.5, result=0.0, format=1.0, attempts=3),
        runs.member(runs.rollout(), 1.0, result=1.0, format=0.0, consistency=0.0),
        runs.member(runs.rollout(stop=StopReason.MAX_TOKENS), 0.0, result=0.0, format=0.0),
    ]
    easy = [
        runs.member(runs.rollout(kind="easy"), 1.0, result=1.0),
        runs.member(runs.rollout(kind="easy", stop=StopReason.ERROR), None),
    ]
    return [runs.group(zoom), runs.group(easy, place=1, attempt=2)]


def test_figures_by_hand() -> None:
    figures = runs.record(groups=groups()).metrics
    expected = {
        "reward/mean": (2.0 + 0.5 + 1.0 + 0.0 + 1.0) / 5,
        "reward/std": statistics.pstdev([2.0, 0.5, 1.0, 0.0, 1.0]),
        "reward/format": 0.5,
        "reward/result": 0.6,
        "reward/consistency": 0.5,
        "reward/process": None,
        "result/right": 0.6,
        "result/with_code": 0.5,
        "result/without_code": 2 / 3,
        "result/code_benefit": 0.0,
        "code/tool_rate": 2 / 5,
        "code/executable": 2 / 3,
        "code/repaired": 1 / 3,
        "code/rests_on_repair": 1 / 3,
        "code/rounds": 3 / 5,
        "code/images": 1 / 5,
        "stop/truncated": 1 / 5,
        "stop/overturn": 0.0,
        "stop/repetition": 0.0,
        "stop/unanswered": 0.0,
        "stop/error": 1 / 6,
        "group/zero_variance": 0.0,
        "group/dropped": 0.5,
        "group/unscored": 1 / 6,
        "train/kl": 0.003,
        "train/entropy_text": 0.31,
        "train/entropy_code": 0.02,
        "train/tokens": 900.0,
        "gap/kl": (300 * 0.0004 + 100 * 0.0008) / 400,
        "gap/drawn": (300 * 0.001 + 100 * 0.003) / 400,
        "gap/drawn_largest": 0.02,
        "gap/greedy": 0.002,
        "gap/greedy_largest": 0.03,
        "speed/rollouts": 6 / 4.0,
        "speed/engine_s": 1.5,
    }
    for name, value in expected.items():
        assert figures[name] == (None if value is None else pytest.approx(value)), name


def test_tokens_are_counted_by_kind_in_rollouts_that_did_not_fail() -> None:
    told = [member.trajectory for group in groups() for member in group.members][:5]
    text = sum(len(s.text) for one in told for s in one.generated if s.kind == "text") / 5
    code = sum(len(s.text) for one in told for s in one.generated if s.kind == "code") / 5
    figures = runs.record(groups=groups()).metrics
    assert figures["length/text"] == pytest.approx(text)
    assert figures["length/code"] == pytest.approx(code)
    assert figures["length/generated"] == pytest.approx(text + code)


def test_advantages_are_the_trainers_own() -> None:
    """The cut member is compared and not in the loss; the lonely one of the second group is in neither."""
    rewards = [2.0, 0.5, 1.0, 0.0]
    unit = statistics.stdev(rewards) + 1e-4
    in_loss = [(value - statistics.fmean(rewards)) / unit for value in rewards[:3]]
    figures = runs.record(groups=groups()).metrics
    assert figures["advantage/mean_abs"] == pytest.approx(statistics.fmean(map(abs, in_loss)))
    assert figures["advantage/largest"] == pytest.approx(max(map(abs, in_loss)))
    assert figures["advantage/positive"] == pytest.approx(2 / 3)
    assert figures["group/spread"] == pytest.approx(statistics.pstdev(rewards))


def test_kinds_and_counts() -> None:
    record = runs.record(groups=groups(), counts={"judge_requests": 7})
    assert list(record.kinds) == ["easy", "zoom"]
    assert record.kinds["easy"] == {
        "rollouts": 2.0,
        "reward": 1.0,
        "right": 1.0,
        "tool_rate": 0.0,
        "executable": None,
        "with_code": None,
        "without_code": 1.0,
        "code_benefit": None,
    }
    assert record.kinds["zoom"]["with_code"] == 0.5
    counts = {"groups": 2, "members": 6, "unscored": 1, "dropped": 1, "zero_variance": 0, "resampled": 2, "retries": 2}
    assert counts.items() <= record.counts.items()
    assert record.counts["judge_requests"] == 7
    assert record.counts["code_blocks"] == 3


def test_groups_that_teach_nothing_and_members_that_repeat() -> None:
    same = [runs.member(runs.rollout(), 1.0, result=1.0) for _ in range(3)]
    other = runs.member(runs.rollout(thought="", answer="B"), 1.0, result=1.0)
    figures = runs.record(groups=[runs.group([*same, other])]).metrics
    assert figures["group/zero_variance"] == 1.0
    assert figures["group/duplicates"] == 0.5
    assert figures["advantage/mean_abs"] == 0.0
    assert figures["advantage/positive"] is None


def test_the_benefit_of_code_is_found_within_a_problem() -> None:
    """Code is used on the hard problem, which is mostly wrong: right with code is rarer overall, and yet code helps."""
    hard = [runs.member(runs.rollout(executions=(PLAIN,)), value, result=value) for value in (1.0, 0.0, 0.0)] + [
        runs.member(runs.rollout(), 0.0, result=0.0)
    ]
    easy = [runs.member(runs.rollout(), 1.0, result=1.0) for _ in range(4)]
    figures = runs.record(groups=[runs.group(hard), runs.group(easy)]).metrics
    assert figures["result/with_code"] == pytest.approx(1 / 3)
    assert figures["result/without_code"] == pytest.approx(4 / 5)
    assert figures["result/code_benefit"] == pytest.approx(1 / 3)


def test_nothing_measured_is_none_and_never_nought() -> None:
    quiet = runs.trained(grad_norm=None, kl=None, entropy={}, gaps={})
    record = measure(3, [], quiet, {})
    known = {name for name, value in record.metrics.items() if value is not None}
    assert known == {"train/loss", "train/learning_rate", "train/tokens"}
    assert record.kinds == {}
    assert set(record.metrics) == set(METRICS)


def test_figures_that_are_no_numbers_are_counted_and_leave_a_record_that_can_be_read(tmp_path: Path) -> None:
    record = measure(
        1,
        [],
        runs.trained(loss=math.nan, grad_norm=math.inf, gaps={"text": Gap(tokens=1, mean=0, largest=0, kl=math.inf)}),
        {},
    )
    assert record.counts["not_finite"] == 3
    assert record.metrics["train/loss"] is None
    assert StepRecord.model_validate_json(record.model_dump_json()) == record


def test_observing_is_measuring_what_small_facts_say() -> None:
    found = outcomes(groups(), runs.SETTINGS)
    assert len(pickle.dumps(found)) < 6000  # no text, no picture travels between processes
    made = observe(1, runs.trained(), groups(), runs.SECONDS, runs.SETTINGS, {"judge_requests": 2})
    assert made == runs.record(groups=groups(), counts={"judge_requests": 2})


def test_several_processes_have_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of all groups, the slowest process's seconds, counts added up."""
    mine, other = groups()
    theirs = (outcomes([other], runs.SETTINGS), {"rollout": 1.0, "train": 2.0, "total": 5.0}, {"judge_requests": 3})
    monkeypatch.setattr("thyme.train.grpo.monitors.gather", lambda own: [own, theirs])
    made = observe(1, runs.trained(), [mine], runs.SECONDS, runs.SETTINGS, {"judge_requests": 4})
    slowest = {**runs.SECONDS, "train": 2.0, "total": 5.0}
    together = measure(1, outcomes([mine, other], runs.SETTINGS), runs.trained(), slowest, {"judge_requests": 7})
    assert made == together


def test_what_trackers_get() -> None:
    values = tracked(runs.record(groups=groups(), counts={"judge_requests": 2}))
    assert values["kind/zoom/right"] == 0.5
    assert values["count/judge_requests"] == 2.0
    assert values["seconds/rollout"] == 2.5
    assert "reward/process" not in values
    assert all(isinstance(value, float) for value in values.values())
    json.dumps(values, allow_nan=False)


# --- read instead of seen ---------------------------------------------------------------------------------------------


def execution(code: str, stdout: str, *, image: bool = False) -> Execution:
    images = (ImageRecord.of(sample_records.picture()),) if image else ()
    return Execution(code=code, ran=code, stdout=stdout, images=images)


CROP = execution("crop.save('a.png')\nprint('a.png')", "a.png\n", image=True)


@pytest.mark.parametrize(
    ("name", "executions", "expected"),
    [
        ("written in a print", [execution("print('KX 47')", "KX 47\n")], True),
        ("in a sentence", [execution("print('the sign says kx 47.')", "the sign says kx 47.\n")], True),
        ("by a name", [execution("label = 'KX 47'\nprint(f'Answer: {label}')", "Answer: KX 47\n")], True),
        ("with a picture beside it", [execution("save()\nprint('KX 47')", "KX 47\n", image=True)], True),
        ("after a failed block", [FAILED, execution("print('KX 47')", "KX 47\n")], True),
        ("after it was seen in a crop", [CROP, execution("print('KX 47')", "KX 47\n")], False),
        ("names of files", [execution("import os\nprint(os.listdir('.'))", "['KX 47.png']\n")], True),
        ("metadata", [execution("print(image.info['title'])", "KX 47\n")], True),
        ("a file", [execution("print(open('/etc/label').read())", "KX 47\n")], True),
        ("computed", [execution("print('K' + 'X', 40 + 7)", "KX 47\n")], False),
        ("a name of several values", [execution("a = 'KX 47'\na = f(a)\nprint(a)", "KX 47\n")], False),
        ("from pixels", [execution("print(read(image.crop(box)))", "KX 47\n")], False),
        ("something else printed", [execution("print('KX 48')", "KX 48\n")], False),
        ("part of a word", [execution("print('AKX 471')", "AKX 471\n")], False),
        ("no Python", [execution("print('KX 47", "KX 47\n")], False),
        ("too long to look at", [execution("print('KX 47')" + " " * 20_000, "KX 47\n")], False),
        ("no code", [], False),
    ],
)
def test_answers_read_instead_of_seen(name: str, executions: list[Execution], expected: bool) -> None:
    assert read_not_seen(runs.rollout(executions=tuple(executions))) is expected, name


@pytest.mark.parametrize(
    ("code", "printed", "answer", "expected"),
    [
        ("print(3 + 4)", "7\n", "7", False),
        ("print(7 * 1)", "7\n", "7", False),
        ("print(7)", "7\n", "7", True),
        ("print('zoom 7 of 9')", "zoom 7 of 9\n", "7", False),  # one character says little inside a line
        ("print('answer: B')", "answer: B\n", "B", True),
    ],
)
def test_numbers_and_letters(code: str, printed: str, answer: str, expected: bool) -> None:
    trajectory = runs.rollout(executions=(execution(code, printed),), answer=answer)
    assert read_not_seen(trajectory) is expected


def test_a_rollout_without_answer_read_nothing() -> None:
    trajectory = runs.rollout(executions=(execution("print('KX 47')", "KX 47\n"),), stop=StopReason.MAX_TOKENS)
    assert read_not_seen(trajectory) is False


def test_hostile_code_is_looked_at_and_never_run(tmp_path: Path) -> None:
    for code in ("(" * 9000 + "print('KX 47')", "-" * 15_000 + "1", "print('KX 47'\0)", "x = '\\d'\n" * 900):
        assert not read_not_seen(runs.rollout(executions=(execution(code, "KX 47\n"),))), (
            "what cannot be read is no proof"
        )
    acts = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nprint('KX 47')"
    assert read_not_seen(runs.rollout(executions=(execution(acts, "KX 47\n"),)))
    assert not (tmp_path / "ran").exists()


def test_an_answer_is_no_pattern() -> None:
    assert not stands_in("a.c", "abc")
    assert stands_in("a.c", "it is A.C!")
    assert stands_in("(x+1)^2", "= (x+1)^2")
