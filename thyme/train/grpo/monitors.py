"""Figures of every step: what was earned, what became of the code, whether the machinery is right.

See docs/monitors.md for each of them.

`thyme.train.grpo.outcomes` takes from this process's rollouts the little that figures need; `measure` makes the record
of a step from those of all processes. A rate without cases is None, never 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, pstdev

from thyme.config.grpo import GRPOSettings
from thyme.rewards import PARTS
from thyme.train.distributed import gather
from thyme.train.grpo.groups import OVERLONG, Group
from thyme.train.grpo.outcomes import GroupOutcome, Outcome, outcomes
from thyme.train.grpo.records import Gap, StepRecord, Trained
from thyme.types import StopReason

METRICS: dict[str, str] = {
    "reward/mean": "Mean reward of the scored rollouts",
    "reward/std": "Standard deviation of the reward over all scored rollouts of the step",
    **{f"reward/{part}": f"Mean of the reward's part '{part}', where it was asked for" for part in PARTS},
    "result/right": "Share of rollouts whose answer is right, of those judged",
    "result/with_code": "The same among rollouts that ran code",
    "result/without_code": "The same among rollouts that ran none",
    "result/code_benefit": "Right with code minus right without, within groups that hold both: the same problems",
    "result/read": "Of right answers, those that code printed without having found them out, before any picture",
    "code/tool_rate": "Share of rollouts that ran code",
    "code/executable": "Share of code blocks that ended without an error",
    "code/repaired": "Share of code blocks that the sandbox repaired",
    "code/rests_on_repair": "Of right answers, those with a code block that ran only after a repair",
    "code/rounds": "Code blocks a rollout",
    "code/images": "Pictures made, a rollout",
    "length/generated": "Generated tokens a rollout",
    "length/text": "Generated tokens of text a rollout",
    "length/code": "Generated tokens of code a rollout",
    "stop/truncated": "Share of rollouts cut at a bound of tokens, context, images or pixels",
    "stop/overturn": "Share of rollouts that wanted to run code once more than allowed",
    "stop/repetition": "Share of rollouts stopped because they repeated themselves",
    "stop/unanswered": "Share of rollouts that ended their turn without an answer",
    "stop/error": "Share of rollouts lost to a failure of engine or sandbox, or cancelled",
    "group/zero_variance": "Share of groups whose scored members all earn the same, of those that could be compared",
    "group/dropped": "Share of groups with fewer than two members that can be compared",
    "group/unscored": "Share of rollouts without a reward",
    "group/spread": "Standard deviation of the reward within a group, mean over groups",
    "group/duplicates": "Share of rollouts that repeat an earlier one of their group word for word",
    "advantage/mean_abs": "Mean size of the advantage",
    "advantage/largest": "Largest size of an advantage",
    "advantage/positive": "Share of advantages above 0, of those that are not 0",
    "train/loss": "Loss of the step",
    "train/learning_rate": "Learning rate",
    "train/grad_norm": "Norm of the gradient before clipping",
    "train/kl": "k3 divergence from the start of the run, nats a token",
    "train/entropy_text": "Entropy at text tokens under their own temperature, nats",
    "train/entropy_code": "Entropy at code tokens under their own temperature, nats",
    "train/tokens": "Tokens in the loss: the normaliser",
    "gap/kl": "k3 divergence of trainer from sampler on tokens that were drawn, nats a token",
    "gap/drawn": "Mean |difference| of log-probabilities of sampler and trainer, tokens that were drawn, nats",
    "gap/drawn_largest": "Largest such difference, nats",
    "gap/greedy": "Mean |difference| at greedy tokens, nats",
    "gap/greedy_largest": "Largest such difference, nats",
    "speed/rollouts": "Rollouts a second of the whole step",
    "speed/tokens": "Generated tokens a second of the whole step",
    "speed/engine_s": "Seconds of generation a rollout",
    "speed/sandbox_s": "Seconds in the sandbox a rollout",
}
"""Name to what it is. The names go to trackers as they are; rewards of one's own come as ``reward/NAME``."""


def observe(
    step: int,
    trained: Trained,
    groups: Sequence[Group],
    seconds: Mapping[str, float],
    settings: GRPOSettings,
    counts: Mapping[str, int] | None = None,
) -> StepRecord:
    """The record of a step over all processes, which all call this; it is the same in each of them.

    Args:
        step: From 1.
        trained: What the trainer tells, already over all processes.
        groups: This process's.
        seconds: This process's, by part; the slowest process counts.
        settings: How advantages are made of rewards.
        counts: Further counts of this process in this step (judges, say); they are added up.
    """
    told = gather((outcomes(groups, settings), dict(seconds), dict(counts or {})))
    everything = [outcome for found, _, _ in told for outcome in found]
    parts = dict.fromkeys(name for _, spent, _ in told for name in spent)
    slowest = {name: max(spent.get(name, 0.0) for _, spent, _ in told) for name in parts}
    summed = sum((Counter(more) for _, _, more in told), Counter[str]())
    return measure(step, everything, trained, slowest, summed)


def measure(
    step: int,
    outcomes: Sequence[GroupOutcome],
    trained: Trained,
    seconds: Mapping[str, float],
    counts: Mapping[str, int] | None = None,
) -> StepRecord:
    """The record of a step, without its alarms.

    Args:
        step: From 1.
        outcomes: Of all processes.
        trained: What the optimiser did.
        seconds: Wall clock by part, ``total`` among them.
        counts: Further counts of this step.
    """
    members = [member for group in outcomes for member in group.members]
    figures = {
        **_rewards(members),
        **_results(outcomes, members),
        **_code(members),
        **_lengths(members),
        **_stops(members),
        **_groups(outcomes),
        **_advantages(members),
        **_training(trained),
        **_gaps(trained.gaps),
        **_speed(members, seconds),
    }
    broken = [name for name, value in figures.items() if value is not None and not math.isfinite(value)]
    return StepRecord(
        step=step,
        metrics={name: None if name in broken else figures.get(name) for name in {**METRICS, **figures}},
        kinds=_kinds(outcomes),
        seconds={name: round(value, 4) for name, value in seconds.items()},
        counts={**_counts(outcomes, members), "not_finite": len(broken), **(counts or {})},
    )


def tracked(record: StepRecord) -> dict[str, float]:
    """A record's figures under the names that trackers show; what has no value is left out."""
    kinds = {f"kind/{kind}/{name}": value for kind, found in record.kinds.items() for name, value in found.items()}
    figures: dict[str, float | None] = {**record.metrics, **kinds}
    return {
        **{name: value for name, value in figures.items() if value is not None},
        **{f"seconds/{name}": value for name, value in record.seconds.items()},
        **{f"count/{name}": float(value) for name, value in record.counts.items()},
    }


# --- figures ----------------------------------------------------------------------------------------------------------


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known; None without cases."""
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None


def _share(members: Iterable[Outcome], of: Callable[[Outcome], bool | None]) -> float | None:
    return _mean(of(member) for member in members)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _rewards(members: Sequence[Outcome]) -> dict[str, float | None]:
    values = [member.reward for member in members if member.reward is not None]
    own = sorted({part for member in members for part in member.parts} - set(PARTS))
    return {
        "reward/mean": _mean(values),
        "reward/std": pstdev(values) if values else None,
        **{f"reward/{part}": _mean(member.parts.get(part) for member in members) for part in (*PARTS, *own)},
    }


def _results(groups: Sequence[GroupOutcome], members: Sequence[Outcome]) -> dict[str, float | None]:
    right = [member for member in members if member.right]
    return {
        "result/right": _share(members, lambda one: one.right),
        **_by_code(members),
        "result/code_benefit": _mean(map(_benefit, groups)),
        "result/read": _share(right, lambda one: one.read),
        "code/rests_on_repair": _share(right, lambda one: one.rests_on_repair),
    }


def _by_code(members: Sequence[Outcome]) -> dict[str, float | None]:
    return {
        "result/with_code": _share((one for one in members if one.blocks), lambda one: one.right),
        "result/without_code": _share((one for one in members if not one.blocks), lambda one: one.right),
    }


def _benefit(group: GroupOutcome) -> float | None:
    """How much more often members with code are right than those without; None where one of them is missing."""
    with_code, without = _by_code(group.members).values()
    return None if with_code is None or without is None else with_code - without


def _code(members: Sequence[Outcome]) -> dict[str, float | None]:
    told = [member for member in members if member.told]
    blocks = sum(member.blocks for member in told)
    return {
        "code/tool_rate": _share(told, lambda one: one.blocks > 0),
        "code/executable": _ratio(blocks - sum(member.failed for member in told), blocks),
        "code/repaired": _ratio(sum(member.repaired for member in told), blocks),
        "code/rounds": _mean(member.blocks for member in told),
        "code/images": _mean(member.images for member in told),
    }


def _lengths(members: Sequence[Outcome]) -> dict[str, float | None]:
    told = [member for member in members if member.told]
    return {
        "length/generated": _mean(member.text_tokens + member.code_tokens for member in told),
        "length/text": _mean(member.text_tokens for member in told),
        "length/code": _mean(member.code_tokens for member in told),
    }


def _stops(members: Sequence[Outcome]) -> dict[str, float | None]:
    told = [member for member in members if member.told]
    return {
        "stop/truncated": _share(told, lambda one: one.stop in OVERLONG),
        "stop/overturn": _share(told, lambda one: one.stop is StopReason.MAX_ROUNDS),
        "stop/repetition": _share(told, lambda one: one.stop is StopReason.REPETITION),
        "stop/unanswered": _share(told, lambda one: one.stop is StopReason.END),
        "stop/error": _share(members, lambda one: not one.told),
    }


def _groups(groups: Sequence[GroupOutcome]) -> dict[str, float | None]:
    members = [member for group in groups for member in group.members]
    compared = [group for group in groups if group.verdict != "dropped"]
    return {
        "group/zero_variance": _mean(group.verdict == "flat" for group in compared),
        "group/dropped": _mean(group.verdict == "dropped" for group in groups),
        "group/unscored": _share(members, lambda one: one.reward is None),
        "group/spread": _mean(pstdev(group.rewards) for group in compared),
        "group/duplicates": _share(members, lambda one: one.repeats),
    }


def _advantages(members: Sequence[Outcome]) -> dict[str, float | None]:
    values = [member.advantage for member in members if member.advantage is not None]
    return {
        "advantage/mean_abs": _mean(map(abs, values)),
        "advantage/largest": max(map(abs, values), default=None),
        "advantage/positive": _mean(value > 0 for value in values if value),
    }


def _training(trained: Trained) -> dict[str, float | None]:
    return {
        "train/loss": trained.loss,
        "train/learning_rate": trained.learning_rate,
        "train/grad_norm": trained.grad_norm,
        "train/kl": trained.kl,
        "train/entropy_text": trained.entropy.get("text"),
        "train/entropy_code": trained.entropy.get("code"),
        "train/tokens": float(trained.tokens),
    }


def _gaps(gaps: Mapping[str, Gap]) -> dict[str, float | None]:
    drawn = [gap for sort, gap in gaps.items() if sort != "greedy" and gap.tokens]
    greedy = gaps.get("greedy")
    tokens = sum(gap.tokens for gap in drawn)
    known = [gap for gap in drawn if gap.kl is not None]
    return {
        "gap/kl": _ratio(sum(gap.tokens * (gap.kl or 0.0) for gap in known), sum(gap.tokens for gap in known)),
        "gap/drawn": _ratio(sum(gap.tokens * gap.mean for gap in drawn), tokens),
        "gap/drawn_largest": max((gap.largest for gap in drawn), default=None),
        "gap/greedy": greedy.mean if greedy and greedy.tokens else None,
        "gap/greedy_largest": greedy.largest if greedy and greedy.tokens else None,
    }


def _speed(members: Sequence[Outcome], seconds: Mapping[str, float]) -> dict[str, float | None]:
    total = seconds.get("total", 0.0)
    return {
        "speed/rollouts": _ratio(len(members), total),
        "speed/tokens": _ratio(sum(member.text_tokens + member.code_tokens for member in members), total),
        "speed/engine_s": _mean(member.engine_s for member in members),
        "speed/sandbox_s": _mean(member.sandbox_s for member in members),
    }


def _kinds(groups: Sequence[GroupOutcome]) -> dict[str, dict[str, float | None]]:
    """The figures that are worth seeing for each kind of problem, by kind in alphabetical order."""
    kinds = sorted({group.kind for group in groups})
    return {kind: _kind([group for group in groups if group.kind == kind]) for kind in kinds}


def _kind(groups: Sequence[GroupOutcome]) -> dict[str, float | None]:
    members = [member for group in groups for member in group.members]
    code, by_code = _code(members), _by_code(members)
    return {
        "rollouts": float(len(members)),
        "reward": _mean(member.reward for member in members),
        "right": _share(members, lambda one: one.right),
        "tool_rate": code["code/tool_rate"],
        "executable": code["code/executable"],
        "with_code": by_code["result/with_code"],
        "without_code": by_code["result/without_code"],
        "code_benefit": _mean(map(_benefit, groups)),
    }


def _counts(groups: Sequence[GroupOutcome], members: Sequence[Outcome]) -> dict[str, int]:
    return {
        "groups": len(groups),
        "members": len(members),
        "unscored": sum(1 for member in members if member.reward is None),
        "zero_variance": sum(1 for group in groups if group.verdict == "flat"),
        "dropped": sum(1 for group in groups if group.verdict == "dropped"),
        "resampled": sum(group.attempt for group in groups),
        "retries": sum(member.attempts - 1 for member in members),
        "code_blocks": sum(member.blocks for member in members),
        "images": sum(member.images for member in members),
        "generated_tokens": sum(member.text_tokens + member.code_tokens for member in members),
    }
