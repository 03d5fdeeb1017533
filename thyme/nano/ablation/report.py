"""What the ablation found, as JSON, as tables and as a plot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from thyme.errors import MissingExtraError
from thyme.eval.summary import Rate
from thyme.nano.ablation.arms import ARMS, COMPARISONS, AblationSettings, Comparison
from thyme.nano.ablation.jobs import ArmResult
from thyme.nano.ablation.rows import digest
from thyme.nano.ablation.run import by_arm
from thyme.nano.ablation.stats import IMAGE_KINDS, MEASURES, Estimate, differences, estimate, student, values
from thyme.nano.asked import Outcome
from thyme.nano.sheets import Sheet, as_markdown, as_tables
from thyme.nano.world import KINDS

_USE = (
    "targets a sample",
    "used code, pictures %",
    "used code, arithmetic %",
    "code ran %",
    "nats a token: pictures",
    "two_round",
    "arithmetic",
)
_LOSSES = {"pictures": IMAGE_KINDS, "two_round": ("two_round",), "arithmetic": ("arithmetic",)}
Asks = Mapping[int, Sequence[Outcome]]
"""By seed, what an arm made of its problems."""


@dataclass(frozen=True)
class Ablation:
    """All results of a run, and what follows from them."""

    results: tuple[ArmResult, ...]
    how: AblationSettings
    demonstrations: str
    """SHA-256 of the file that the demonstrations came from; empty where the run made its own."""
    rates: dict[str, dict[str, Estimate]]
    """By arm and measure."""
    gains: dict[tuple[str, str], dict[str, Estimate]]
    """By pair of arms that is compared and by measure: first minus second, problem by problem."""
    nll_gains: dict[tuple[str, str], dict[str, tuple[float, tuple[float, float] | None]]]
    """By pair and kind (``pictures``: mean over the kinds with one): mean difference of the seeds' losses, nats a
    token, and its interval by Student's t."""

    @classmethod
    def of(cls, results: Sequence[ArmResult], how: AblationSettings, demonstrations: Path | None) -> Ablation:
        """Compute everything that is shown."""
        arms = by_arm(results)
        asks = {arm: {seed: result.outcomes for seed, result in seeds.items()} for arm, seeds in arms.items()}
        pairs = dict.fromkeys((c.better, c.worse) for c in COMPARISONS if c.better in arms and c.worse in arms)
        return cls(
            results=tuple(results),
            how=how,
            demonstrations="" if demonstrations is None else digest(demonstrations),
            rates={arm: {name: estimate(values(found, name)) for name in MEASURES} for arm, found in asks.items()},
            gains={pair: _gains(asks[pair[0]], asks[pair[1]]) for pair in pairs},
            nll_gains={pair: _nll_gains(arms[pair[0]], arms[pair[1]]) for pair in pairs},
        )

    def asked(self) -> Iterator[tuple[Comparison, Estimate]]:
        """The comparisons that were named beforehand and can be made with the arms that ran."""
        for comparison in COMPARISONS:
            gains = self.gains.get((comparison.better, comparison.worse))
            if gains is not None:
                yield comparison, gains[comparison.measure]

    def as_json(self) -> dict[str, Any]:
        """Every figure, in plain values."""
        return {
            "settings": self.how.model_dump(),
            "demonstrations_sha256": self.demonstrations or None,
            "arms": {arm: self._arm_json(arm, seeds) for arm, seeds in by_arm(self.results).items()},
            "asked_beforehand": [{**asdict(comparison), **_estimate_json(found)} for comparison, found in self.asked()],
            "differences": {
                f"{one} - {other}": {
                    **{name: _estimate_json(found) for name, found in gains.items()},
                    "nll": self.nll_gains[one, other],
                }
                for (one, other), gains in self.gains.items()
            },
        }

    def _arm_json(self, arm: str, seeds: Mapping[int, ArmResult]) -> dict[str, Any]:
        return {
            "title": ARMS[arm].title,
            "mask": str(ARMS[arm].mask),
            "measures": {name: _estimate_json(found) for name, found in self.rates[arm].items()},
            "seeds": {str(seed): _seed_json(result) for seed, result in seeds.items()},
        }

    def write(self, folder: Path) -> None:
        """Write ``ablation_sft.json``, ``.md`` and ``.png``."""
        text = json.dumps(self.as_json(), indent=1) + "\n"
        (folder / "ablation_sft.json").write_text(text, encoding="utf-8")
        (folder / "ablation_sft.md").write_text(self.markdown(), encoding="utf-8")
        self.plot(folder / "ablation_sft.png")

    def markdown(self) -> str:
        """The tables, for a page."""
        return "\n".join(map(as_markdown, self._sheets()))

    def tables(self) -> Iterator[Table]:
        """The tables, for a terminal."""
        return as_tables(self._sheets())

    def _sheets(self) -> Iterator[Sheet]:
        arms = by_arm(self.results)
        yield Sheet(
            "Accuracy, %, mean of the seeds",
            [
                ["arm", *MEASURES],
                *([ARMS[arm].title, *(f"{100 * self.rates[arm][name].mean:.1f}" for name in MEASURES)] for arm in arms),
            ],
        )
        yield Sheet(
            "How code was used, and the loss on held-out demonstrations",
            [
                ["arm", *_USE],
                *([ARMS[arm].title, *_use(list(seeds.values()))] for arm, seeds in arms.items()),
            ],
        )
        yield Sheet(
            "Differences that were named beforehand, percentage points",
            [
                ["comparison", "measure", "difference", "bootstrap 95 %", "Student's t 95 %", "seeds", "told apart"],
                *(_compared(comparison, found) for comparison, found in self.asked()),
            ],
        )

        yield Sheet(
            "Differences of the loss on held-out demonstrations, nats a token, Student's t 95 %",
            [
                ["comparison", *_LOSSES],
                *(
                    [f"{one} − {other}", *(_loss_gain(gains[name]) for name in _LOSSES)]
                    for (one, other), gains in self.nll_gains.items()
                ),
            ],
        )

    def plot(self, path: Path) -> None:
        """Draw rates and differences with their intervals.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError("a plot", "eval") from error
        figure = Figure(figsize=(11, 6.5), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
        self._plot_rates(left)
        self._plot_gains(right)
        figure.savefig(path, dpi=110)

    def _plot_rates(self, axes: Any) -> None:
        shown = {"perception": "tab:blue", "arithmetic": "tab:orange", "two_round labels": "tab:green"}
        for row, (name, colour) in enumerate(shown.items()):
            for place, arm in enumerate(self.rates):
                _bar(axes, place + 0.22 * (row - 1), self.rates[arm][name], colour, name if place == 0 else None)
        axes.set_yticks(range(len(self.rates)), [ARMS[arm].title for arm in self.rates])
        axes.set(title="Share right, %", xlim=(-2, 102))
        axes.invert_yaxis()
        axes.legend(loc="best", frameon=False)

    def _plot_gains(self, axes: Any) -> None:
        asked = list(self.asked())
        for place, (_, found) in enumerate(asked):
            _bar(axes, place, found, "black" if found.verdict in {"higher", "lower"} else "0.5")
        axes.axvline(0, color="0.7", linewidth=1, zorder=0)
        axes.set_yticks(range(len(asked)), [f"{c.better}\n− {c.worse}\n{c.measure}" for c, _ in asked], fontsize=8)
        axes.set_title("Difference, percentage points")
        axes.invert_yaxis()


def _bar(axes: Any, place: float, found: Estimate, colour: str, label: str | None = None) -> None:
    """A mean with its intervals: bootstrap thick, Student's t thin; each seed a small ring."""
    if found.student is not None:
        axes.plot([100 * end for end in found.student], [place, place], color=colour, linewidth=1)
    axes.plot([100 * end for end in found.bootstrap], [place, place], color=colour, linewidth=3, alpha=0.6)
    axes.plot([100 * seed for seed in found.seeds], [place] * len(found.seeds), "o", color=colour, mfc="none", ms=4)
    axes.plot([100 * found.mean], [place], "D", color=colour, ms=6, label=label)


def _gains(one: Asks, other: Asks) -> dict[str, Estimate]:
    return {name: estimate(differences(values(one, name), values(other, name))) for name in MEASURES}


def _nll_gains(
    one: Mapping[int, ArmResult], other: Mapping[int, ArmResult]
) -> dict[str, tuple[float, tuple[float, float] | None]]:
    gains: dict[str, tuple[float, tuple[float, float] | None]] = {}
    groups: dict[str, Sequence[str]] = {"pictures": IMAGE_KINDS, **{kind: [kind] for kind in KINDS}}
    for name, kinds in groups.items():
        found = np.array([_nll(one[seed], kinds) - _nll(other[seed], kinds) for seed in sorted(one)])
        gains[name] = (float(found.mean()), student(found))
    return gains


def _nll(result: ArmResult, kinds: Sequence[str]) -> float:
    return float(np.mean([result.nll[kind] for kind in kinds]))


def _estimate_json(found: Estimate) -> dict[str, Any]:
    return {**asdict(found), "verdict": found.verdict}


def _seed_json(result: ArmResult) -> dict[str, Any]:
    kinds = {}
    for kind in KINDS:
        asked = [outcome for outcome in result.outcomes if outcome.kind == kind]
        kinds[kind] = {
            "n": len(asked),
            "right": sum(outcome.right for outcome in asked),
            "labels_right": sum(outcome.labels for outcome in asked) / len(asked),
            "tool_rate": sum(outcome.blocks > 0 for outcome in asked) / len(asked),
            "code_blocks": sum(outcome.blocks for outcome in asked),
            "code_blocks_ran": sum(outcome.ran for outcome in asked),
            "nll": result.nll[kind],
        }
    return {**result.model_dump(exclude={"arm", "seed", "outcomes", "nll"}), "kinds": kinds}


def _use(seeds: Sequence[ArmResult]) -> list[str]:
    outcomes = [outcome for result in seeds for outcome in result.outcomes]
    pictures = [outcome for outcome in outcomes if outcome.kind in IMAGE_KINDS]
    sums = [outcome for outcome in outcomes if outcome.kind not in IMAGE_KINDS]
    return [
        f"{sum(r.trained_tokens for r in seeds) / sum(r.samples for r in seeds):.0f}",
        _percent(Rate(sum(o.blocks > 0 for o in pictures), len(pictures))),
        _percent(Rate(sum(o.blocks > 0 for o in sums), len(sums))),
        _percent(Rate(sum(o.ran for o in outcomes), sum(o.blocks for o in outcomes))),
        *(f"{np.mean([_nll(result, kinds) for result in seeds]):.4f}" for kinds in _LOSSES.values()),
    ]


def _percent(rate: Rate) -> str:
    return "-" if rate.value is None else f"{100 * rate.value:.1f}"


def _compared(comparison: Comparison, found: Estimate) -> list[str]:
    return [
        f"{comparison.better} − {comparison.worse}",
        comparison.measure,
        f"{100 * found.mean:+.1f}",
        _interval(found.bootstrap),
        "-" if found.student is None else _interval(found.student),
        ", ".join(f"{100 * seed:+.1f}" for seed in found.seeds),
        found.verdict,
    ]


def _loss_gain(gain: tuple[float, tuple[float, float] | None]) -> str:
    mean, interval = gain
    return f"{mean:+.4f}" + ("" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})")


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"
