"""Curves of a run of GRPO: what is earned, by kind of problem, the health of code, the step itself, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thyme.train.grpo.alarms import ALARMS, Spell
from thyme.train.grpo.records import GRPORunReport
from thyme.train.report.plots import Line, Plot, kinds, plot, rate_line


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot of some metrics."""

    title: str
    lines: tuple[tuple[str, str], ...]
    """Metric and its name in the key; at most four."""
    share: bool = False
    evaluated: str = ""
    """Rate of the evaluations whose values stand beside the first line."""
    smooth: bool = True
    """Whether the mean over a window is drawn, and the steps faintly behind it."""


@dataclass(frozen=True, slots=True)
class Section:
    """Plots that belong together."""

    title: str
    lead: str
    plots: Sequence[Plot]


FIGURES: dict[tuple[str, str], tuple[Figure, ...]] = {
    ("What is earned", "Means over the rollouts of a step; answers also as the evaluations found them."): (
        Figure("Reward", (("reward/mean", "reward"),)),
        Figure(
            "Parts of the reward",
            (("reward/result", "result"), ("reward/consistency", "consistency"), ("reward/format", "format")),
        ),
        Figure("Judged parts", (("reward/process", "process"), ("reward/code", "code"))),
        Figure("Answers right", (("result/right", "rollouts"),), share=True, evaluated="accuracy"),
        Figure(
            "Right with code and without",
            (("result/with_code", "with code"), ("result/without_code", "without")),
            share=True,
        ),
        Figure("What code adds, on the same problem", (("result/code_benefit", "share of right answers"),)),
    ),
    ("Code", "Whether it is used, whether it runs, and what it leans on."): (
        Figure("Rollouts that ran code", (("code/tool_rate", "rollouts"),), share=True, evaluated="tool_rate"),
        Figure("Blocks that ran without error", (("code/executable", "rollouts"),), share=True),
        Figure(
            "Repairs",
            (("code/repaired", "of blocks"), ("code/rests_on_repair", "of right answers")),
            share=True,
        ),
        Figure("Answers read instead of seen", (("result/read", "of right answers"),), share=True),
        Figure("In a rollout", (("code/rounds", "code blocks"), ("code/images", "pictures made"))),
    ),
    ("Length, and how rollouts end", "Tokens that the model wrote; what the sandbox gave back is not counted."): (
        Figure("Generated tokens", (("length/text", "text"), ("length/code", "code"))),
        Figure(
            "Rollouts that ended without answering",
            (
                ("stop/truncated", "cut"),
                ("stop/overturn", "too many rounds"),
                ("stop/repetition", "repeated"),
                ("stop/unanswered", "no answer"),
            ),
            share=True,
        ),
        Figure("Lost", (("stop/error", "failed"), ("group/unscored", "not scored")), share=True),
    ),
    ("What there is to learn from", "A group whose members all earn the same has no advantage, and teaches nothing."): (
        Figure(
            "Groups and rollouts alike",
            (("group/zero_variance", "groups of one reward"), ("group/duplicates", "rollouts word for word")),
            share=True,
        ),
        Figure("Spread of reward within groups", (("group/spread", "standard deviation"),)),
        Figure("Advantages", (("advantage/mean_abs", "mean size"), ("advantage/largest", "largest"))),
        Figure("Entropy, nats", (("train/entropy_text", "text"), ("train/entropy_code", "code"))),
    ),
    ("The step", "Sampler and trainer must agree on what was drawn: their gap is an invariant, not a result."): (
        Figure("Divergence from the start, nats a token", (("train/kl", "k3"),)),
        Figure("Sampler and trainer: divergence, drawn tokens", (("gap/kl", "k3, nats a token"),)),
        Figure("Sampler and trainer: mean |difference|, nats", (("gap/drawn", "drawn"), ("gap/greedy", "greedy"))),
        Figure("Gradient norm", (("train/grad_norm", "before clipping"),)),
        Figure("Loss", (("train/loss", "loss"),)),
        Figure("Learning rate", (("train/learning_rate", "rate"),), smooth=False),
        Figure("Tokens in the loss", (("train/tokens", "tokens"),)),
    ),
}


def sections(report: GRPORunReport, spells: Sequence[Spell]) -> list[Section]:
    """All curves that have something to show; a dashed line stands where an alarm began that looks at the figure.

    Args:
        report: The run.
        spells: Its alarms.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    made: list[Section] = []
    for (title, lead), figures in FIGURES.items():
        own = () if made else _own(report)  # with what is earned
        drawn = [_drawn(figure, report, spells) for figure in (*figures, *own)]
        made.append(Section(title, lead, [one for one in drawn if one is not None]))
    lead = "Lines: rollouts in training, sampled. Diamonds: evaluations with their 95 % interval."
    made.insert(1, Section("By kind of problem", lead, _by_kind(report)))
    made.append(Section("Time", "Wall clock of a step, by part.", _time(report)))
    return [section for section in made if section.plots]


def _own(report: GRPORunReport) -> list[Figure]:
    """A figure for each reward of one's own."""
    names = report.recipe.get("rewards", {}).get("own", {})
    return [Figure(f"Own part: {name.replace('_', ' ')}", ((f"reward/{name}", name),)) for name in names]


def _drawn(figure: Figure, report: GRPORunReport, spells: Sequence[Spell]) -> Plot | None:
    lines = [_metric(report, metric, smooth=figure.smooth) for metric, _ in figure.lines]
    shown = [(line, name) for line, (_, name) in zip(lines, figure.lines, strict=True) if line.steps]
    if not shown:
        return None
    names = [name for _, name in shown]
    drawn = [line for line, _ in shown]
    if figure.evaluated and report.evaluations:
        drawn.append(_evaluated(report, "all", figure.evaluated, like=1))
        names.append("evaluation ◆")
    looked_at = {metric for metric, _ in figure.lines}
    borders = [one.alarm.step for one in spells if looked_at & set(ALARMS[one.alarm.name].metrics)]
    keys = names if len(names) > 1 else ()
    return plot(f"grpo-{figure.title}", figure.title, drawn, keys=keys, share=figure.share, borders=borders)


def _metric(report: GRPORunReport, name: str, *, smooth: bool = True) -> Line:
    line = _line(report, [(record.step, record.metrics.get(name)) for record in report.steps])
    return line if smooth else Line(line.steps, line.values)


def _line(report: GRPORunReport, points: Sequence[tuple[int, float | None]]) -> Line:
    known = [(step, value) for step, value in points if value is not None]
    window = report.settings.alarms.window
    return Line([step for step, _ in known], [value for _, value in known], smooth=window)


def _evaluated(report: GRPORunReport, kind: str, rate: str, *, like: int) -> Line:
    steps = [point.step for point in report.evaluations]
    return rate_line(steps, report.evaluations, kind, rate, dots=True, like=like)


def _by_kind(report: GRPORunReport) -> list[Plot]:
    """A figure for each kind: right answers and use of code, of rollouts and of evaluations."""
    names = dict.fromkeys(kind for record in report.steps for kind in record.kinds)
    names |= dict.fromkeys(kind for kind in kinds(report.evaluations) if kind != "all")
    drawn = [_kind(report, kind) for kind in sorted(names)]
    return [one for one in drawn if one is not None]


def _kind(report: GRPORunReport, kind: str) -> Plot | None:
    lines = [
        _line(report, [(record.step, record.kinds.get(kind, {}).get(rate)) for record in report.steps])
        for rate in ("right", "tool_rate")
    ]
    lines.append(_evaluated(report, kind, "accuracy", like=0))
    lines.append(_evaluated(report, kind, "tool_rate", like=1))
    return plot(f"grpo-kind-{kind}", kind or "no kind", lines, keys=("right", "ran code"), share=True)


def _time(report: GRPORunReport) -> list[Plot]:
    spent: dict[str, float] = {}
    for record in report.steps:
        for name, seconds in record.seconds.items():
            spent[name] = spent.get(name, 0.0) + seconds
    spent.pop("total", None)
    parts = sorted(spent, key=lambda name: -spent[name])[:4]
    lines = [_line(report, [(record.step, record.seconds.get(part)) for record in report.steps]) for part in parts]
    made = [
        plot("grpo-seconds", "Seconds a step", lines, keys=parts),
        plot("grpo-rollouts", "Rollouts a second", [_metric(report, "speed/rollouts")]),
        plot("grpo-tokens", "Generated tokens a second", [_metric(report, "speed/tokens")]),
        plot(
            "grpo-waits",
            "Seconds a rollout",
            [_metric(report, "speed/engine_s"), _metric(report, "speed/sandbox_s")],
            keys=("generation", "sandbox"),
        ),
    ]
    return [one for one in made if one is not None]
