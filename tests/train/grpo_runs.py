"""Hand-made rollouts and records of GRPO for the tests of what is measured and shown of them. Not a test."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import run_reports
import sample_records

from thyme.config.grpo import GRPOSettings
from thyme.rewards import PARTS
from thyme.train.grpo.groups import Asked, Group, Member
from thyme.train.grpo.monitors import METRICS, measure
from thyme.train.grpo.outcomes import outcomes
from thyme.train.grpo.records import Gap, GRPORunReport, StepRecord, Trained
from thyme.train.run.records import EvaluationPoint
from thyme.types import Execution, Generated, Score, StopReason, Trajectory

SETTINGS = GRPOSettings(problems=2, group=4, batch_size=8)


def rollout(
    *,
    executions: tuple[Execution, ...] = (),
    answer: str = "KX 47",
    stop: StopReason = StopReason.ANSWER,
    kind: str = "zoom",
    thought: str = "I crop it.",
    taus: tuple[float, float] = (1.0, 0.0),
) -> Trajectory:
    """A rollout whose generated segments have a token a character, drawn at (text, code)."""
    made = sample_records.trajectory(executions=executions, answer=answer, stop=stop, kind=kind, thought=thought)
    segments = [
        segment.model_copy(
            update={
                "token_ids": tuple(range(len(segment.text))),
                "temperature": taus[segment.kind == "code"],
            }
        )
        if isinstance(segment, Generated)
        else segment
        for segment in made.segments
    ]
    return made.model_copy(update={"segments": tuple(segments)})


def member(trajectory: Trajectory, reward: float | None, *, attempts: int = 1, **parts: float | None) -> Member:
    """A scored rollout; parts that are not given are None."""
    return Member(trajectory, Score(value=reward, parts={**dict.fromkeys(PARTS), **parts}), attempts)


def group(members: Sequence[Member], *, place: int = 0, attempt: int = 0) -> Group:
    """A group on the problem of its first member."""
    return Group(Asked(place, members[0].trajectory.problem, attempt), tuple(members))


def trained(**changes: object) -> Trained:
    """An ordinary optimiser step."""
    usual = Trained(
        loss=-0.02,
        learning_rate=1e-4,
        grad_norm=0.8,
        kl=0.003,
        entropy={"text": 0.31, "code": 0.02},
        tokens=900,
        members=8,
        gaps={
            "text": Gap(tokens=300, mean=0.001, largest=0.02, kl=0.0004),
            "code": Gap(tokens=100, mean=0.003, largest=0.01, kl=0.0008),
            "greedy": Gap(tokens=500, mean=0.002, largest=0.03),
        },
    )
    return usual.model_copy(update=changes)


SECONDS = {"rollout": 2.5, "reference": 0.2, "train": 1.2, "sync": 0.1, "total": 4.0}


def record(step: int = 1, groups: Sequence[Group] = (), counts: Mapping[str, int] | None = None) -> StepRecord:
    """A measured step."""
    return measure(step, outcomes(groups, SETTINGS), trained(), SECONDS, counts)


def healthy(step: int, steps: int = 60, **changes: float | None) -> StepRecord:
    """A step of a run that goes well, with some noise; `changes` names metrics with ``__`` for the slash."""
    noise, done = random.Random(step), step / steps
    rise = 1 - math.exp(-3 * done)
    usual: dict[str, float | None] = dict.fromkeys(METRICS)
    usual |= {
        "reward/mean": 0.9 + 0.6 * rise + noise.gauss(0, 0.05),
        "reward/std": 0.6 - 0.2 * rise,
        "reward/result": 0.45 + 0.3 * rise + noise.gauss(0, 0.05),
        "reward/format": 0.93 + 0.06 * rise,
        "reward/consistency": 0.8 + 0.1 * rise,
        "result/right": 0.45 + 0.3 * rise + noise.gauss(0, 0.05),
        "result/with_code": 0.6 + 0.2 * rise + noise.gauss(0, 0.05),
        "result/without_code": 0.35 + 0.05 * rise + noise.gauss(0, 0.05),
        "result/code_benefit": 0.25 + noise.gauss(0, 0.1),
        "result/read": 0.0,
        "code/tool_rate": 0.4 + 0.4 * rise + noise.gauss(0, 0.04),
        "code/executable": min(0.9 + 0.08 * rise + noise.gauss(0, 0.02), 1.0),
        "code/repaired": 0.06 - 0.04 * rise,
        "code/rests_on_repair": 0.03,
        "code/rounds": 0.5 + 0.4 * rise,
        "code/images": 0.4 + 0.4 * rise,
        "length/generated": 90 - 20 * rise + noise.gauss(0, 3),
        "length/text": 40 - 10 * rise + noise.gauss(0, 2),
        "length/code": 50 - 10 * rise + noise.gauss(0, 2),
        "stop/truncated": 0.02,
        "stop/overturn": 0.01,
        "stop/repetition": 0.0,
        "stop/unanswered": 0.01,
        "stop/error": 0.0,
        "group/zero_variance": 0.2 + 0.2 * rise,
        "group/dropped": 0.0,
        "group/unscored": 0.0,
        "group/spread": 0.4 - 0.1 * rise,
        "group/duplicates": 0.1 + 0.1 * rise,
        "advantage/mean_abs": 0.7,
        "advantage/largest": 1.7,
        "advantage/positive": 0.5,
        "train/loss": noise.gauss(0, 0.02),
        "train/learning_rate": 1e-4 * (1 - done),
        "train/grad_norm": 0.8 + abs(noise.gauss(0, 0.1)),
        "train/kl": 0.03 * rise,
        "train/entropy_text": 0.3 - 0.15 * rise,
        "train/entropy_code": 0.03 - 0.01 * rise,
        "train/tokens": 2600.0,
        "gap/kl": 1e-5 + abs(noise.gauss(0, 1e-5)),
        "gap/drawn": 1e-4,
        "gap/drawn_largest": 2e-3,
        "gap/greedy": 2e-4,
        "gap/greedy_largest": 4e-3,
        "speed/rollouts": 16.0,
        "speed/tokens": 1200.0,
        "speed/engine_s": 1.1,
        "speed/sandbox_s": 0.1,
    }
    usual |= {name.replace("__", "/"): value for name, value in changes.items()}
    kind = {"rollouts": 32.0, "reward": usual["reward/mean"], "right": usual["result/right"], "executable": 0.95}
    kinds = {
        "easy": {**kind, "tool_rate": 0.1, "with_code": None, "without_code": 0.8, "code_benefit": None},
        "zoom": {
            **kind,
            "tool_rate": usual["code/tool_rate"],
            "with_code": usual["result/with_code"],
            "without_code": usual["result/without_code"],
            "code_benefit": usual["result/code_benefit"],
        },
    }
    counts = {"members": 64, "unscored": 0, "judge_requests": 12, "not_finite": 0}
    return StepRecord(step=step, metrics=usual, kinds=kinds, seconds=SECONDS, counts=counts)


def evaluation(step: int, hits: int) -> EvaluationPoint:
    """An evaluation of 40 problems a kind; see `run_reports`."""
    kinds = {"easy": run_reports.rates(33, 40, 4), "zoom": run_reports.rates(hits, 40, min(2 * hits, 40))}
    return EvaluationPoint(
        stage="grpo", step=step, seconds=8.0, kinds={**kinds, "all": run_reports.rates(33 + hits, 80, 2 * hits)}
    )


def report(steps: Sequence[StepRecord] | None = None, **changes: object) -> GRPORunReport:
    """A run of sixty steps that goes well."""
    records = tuple(healthy(step) for step in range(1, 61)) if steps is None else tuple(steps)
    made = GRPORunReport(
        name="nano_grpo",
        model="nano:undecided",
        steps=records,
        evaluations=(evaluation(0, 14), evaluation(30, 24), evaluation(60, 31)),
        planned=60,
        seconds=4.0 * len(records),
        versions={"python": "3.11", "torch": "2.13.0"},
        settings=SETTINGS,
        code_temperature=0.0,
        recipe={"model": "nano:undecided", "rollout": {"text_temperature": 1.0, "code_temperature": 0.0}},
    )
    return made.model_copy(update=changes)
