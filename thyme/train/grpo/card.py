"""The card of a model that a run of GRPO leaves: where it comes from, how it was trained, what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from thyme.eval.summary import ALL
from thyme.train.grpo.records import GRPORunReport
from thyme.train.run.disk import write_atomically
from thyme.train.run.records import EvaluationPoint

CARD_FILE = "README.md"


def write_card(report: GRPORunReport, folder: Path) -> None:
    """Write the card beside the weights."""
    write_atomically(folder / CARD_FILE, "\n".join(_lines(report)) + "\n")


def _lines(report: GRPORunReport) -> Iterator[str]:
    settings = report.settings
    yield f"# {report.name}"
    yield ""
    yield (
        f"Trained by reinforcement (GRPO with adaptive temperature sampling) from `{report.model}` with "
        f"`thyme grpo`: {len(report.steps)} steps of {settings.problems} problems x {settings.group} rollouts, tau "
        f"{report.code_temperature:g} in code, code tokens `{settings.code_policy}`, rate {settings.learning_rate:g}, "
        f"beta {settings.beta:g}, on {report.processes} process(es), {report.device}."
    )
    yield ""
    yield "Ask it: `thyme ask --model FOLDER`. The prompts that it was trained with lie in `prompts`."
    if report.evaluations:
        yield ""
        yield "Measured by the run on its own evaluation, greedy, with 95 % intervals; not comparable with other runs':"
        yield ""
        yield "| kind | problems | before | after |"
        yield "|---|---|---|---|"
        first, last = report.evaluations[0], report.evaluations[-1]
        for kind in last.kinds:
            yield f"| {kind} | {last.kinds[kind].get('scored')} | {_rate(first, kind)} | {_rate(last, kind)} |"


def _rate(point: EvaluationPoint, kind: str = ALL) -> str:
    figures = point.kinds.get(kind, {})
    accuracy, interval = figures.get("accuracy"), figures.get("accuracy_interval")
    if accuracy is None:
        return "-"
    spread = f" ({interval[0]:.0%} to {interval[1]:.0%})" if interval else ""
    return f"{accuracy:.1%}{spread}, step {point.step}"
