"""Tables, figures and a plot of what was measured."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from rollout_peers.protocol import Result, Script, Work

OURS, ONE, BATCHED, VLLM = "thyme", "re-encoding, one by one", "re-encoding, batched", "vLLM"


@dataclass
class Measured:
    """All results of a run."""

    work: Work
    trajectories: int
    parameters: str
    results: dict[str, list[Result]] = field(default_factory=dict)
    """Of each side, one a repetition, side by side."""
    scores: dict[str, list[float]] = field(default_factory=dict)
    """Of each side, the log-probs of all written tokens of the first trajectory."""
    scaling: dict[int, dict[str, list[Result]]] = field(default_factory=dict)
    missing: str = ""
    """Why vLLM is not among them, and how to get it."""

    @property
    def scripts(self) -> list[Script]:
        """What was written."""
        return self.work.scripts[: self.trajectories]

    def ratio(self, side: str, results: dict[str, list[Result]] | None = None) -> float | None:
        """How many times the trajectories a second of a side we reach; median over the repetitions, pair by pair."""
        found = self.results if results is None else results
        if side not in found:
            return None
        return median(other.seconds / ours.seconds for ours, other in zip(found[OURS], found[side], strict=True))

    def gaps(self, side: str) -> tuple[float, float]:
        """Mean and greatest difference between a side's log-probs and ours."""
        found = [abs(a - b) for a, b in zip(self.scores[OURS], self.scores[side], strict=True)]
        return mean(found), max(found)

    def figures(self) -> dict[str, float | None]:
        """What the benchmark promises."""
        return {
            "fed_over_useful": max(result.fed for result in self.results[OURS]) / useful(self.scripts),
            "speedup_over_reencoding": self.ratio(ONE),
            "speedup_over_reencoding_batched": self.ratio(BATCHED),
            "ratio_to_vllm": self.ratio(VLLM),
            "trajectories_per_second": len(self.scripts) / p50(self.results[OURS]),
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "figures": self.figures(),
            "machine": machine(),
            "model": self.parameters,
            "threads": self.work.threads,
            "trajectories": self.trajectories,
            "missing": self.missing,
            "sides": {name: _side(results) for name, results in self.results.items()},
            "log_prob_gaps": {name: dict(zip(("mean", "max"), self.gaps(name), strict=True)) for name in self.scores},
            "scaling": {
                str(n): {name: _side(results) for name, results in sides.items()} for n, sides in self.scaling.items()
            },
        }


def useful(scripts: list[Script]) -> int:
    """Tokens that have to be fed once: prompt, all that is written, observations. The last one feeds nobody."""
    return sum(len(script.ids) - 1 for script in scripts)


def p50(results: list[Result]) -> float:
    """Median of the seconds."""
    return median(result.seconds for result in results)


def _side(results: list[Result]) -> dict[str, Any]:
    return {
        "seconds": [round(result.seconds, 4) for result in results],
        "cpu_s": [round(result.cpu_s, 4) for result in results],
        "fed": results[0].fed,
        "steps": results[0].steps,
        "peak_mib": round(max(result.peak_mib for result in results), 1),
        "ready_mib": round(results[0].ready_mib, 1),
        "pauses_ms": [round(value, 2) for value in results[0].pauses_ms],
    }


def machine() -> str:
    """What it ran on, in words, without its name."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ": unknown")
    return (
        f"{cpu.split(':')[1].strip()}, {os.cpu_count()} cores, Linux {platform.release()}, {platform.python_version()}"
    )


def show(found: Measured, console: Console) -> None:
    """Print the tables."""
    script, count = found.scripts[0], len(found.scripts)
    rounds = "; ".join(f"{len(one.written)} written, {len(one.observation)} observed" for one in script.rounds)
    console.print(f"{found.parameters}, {found.work.threads} thread(s), {machine()}")
    console.print(
        f"{count} trajectories of {len(script.rounds)} rounds, as the first: prompt {len(script.prompt)} tokens; "
        f"{rounds}; answer {len(script.answer)}. {useful(found.scripts)} tokens in all have to be fed."
    )
    table = Table(
        "",
        "p50 s",
        "CPU s",
        "trajectories/s",
        "written/s",
        "fed/useful",
        "peak MiB",
        "thyme is … times as fast",
        box=box.MARKDOWN,
    )
    for name, results in found.results.items():
        table.add_row(name, *_cells(results, found.scripts), f"{found.ratio(name):.2f}")
    console.print(table)
    for name in found.scores:
        if name != OURS:
            console.print(
                "{}: the log-probs differ from ours by {:.1e} on average, {:.1e} at most".format(
                    name, *found.gaps(name)
                )
            )
    _show_pauses(found.results[OURS], count, console)
    ready = found.results[OURS][0].ready_mib
    console.print(f"thyme: {ready:.0f} MiB were there before the first trajectory began")
    if found.missing:
        console.print(found.missing)
    if found.scaling:
        _show_scaling(found, console)


def _show_scaling(found: Measured, console: Console) -> None:
    table = Table(
        "at once",
        "",
        "p50 s",
        "CPU s",
        "trajectories/s",
        "written/s",
        "fed/useful",
        "peak MiB",
        "thyme is … times",
        box=box.MARKDOWN,
    )
    for count, sides in found.scaling.items():
        for name, results in sides.items():
            cells = _cells(results, found.work.scripts[:count])
            table.add_row(str(count), name, *cells, f"{found.ratio(name, sides):.2f}")
    console.print(table)
    for count, sides in found.scaling.items():
        if count > 1 and OURS in sides:
            _show_pauses(sides[OURS], count, console)


def _show_pauses(results: list[Result], count: int, console: Console) -> None:
    middle, late, longest = (median(values) for values in zip(*(one.pauses_ms for one in results), strict=True))
    console.print(
        f"thyme, {count} at once: between two tokens of a trajectory that writes {middle:.1f} ms (median), "
        f"{late:.1f} ms (99 %), {longest:.0f} ms at most, while others read prompts and pictures"
    )


def _cells(results: list[Result], scripts: list[Script]) -> list[str]:
    seconds, written = p50(results), sum(len(script.written) for script in scripts)
    return [
        f"{seconds:.2f}",
        f"{median(result.cpu_s for result in results):.2f}",
        f"{len(scripts) / seconds:.2f}",
        f"{written / seconds:.0f}",
        f"{results[0].fed / useful(scripts):.3f}",
        f"{max(result.peak_mib for result in results):.0f}",
    ]


def plot(found: Measured, file: Path) -> None:
    """Trajectories a second of each side, and how ours and vLLM's grow with their number."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    names = list(found.results)
    rates = [len(found.scripts) / p50(found.results[name]) for name in names]
    left.barh(names[::-1], rates[::-1], color=["tab:blue" if name == OURS else "tab:gray" for name in names[::-1]])
    left.set_xlabel(f"trajectories a second, {len(found.scripts)} at once")
    for name in names:
        points = [(count, sides[name]) for count, sides in found.scaling.items() if name in sides]
        if points:
            right.plot([n for n, _ in points], [n / p50(results) for n, results in points], marker="o", label=name)
            right.legend()
    right.set_xscale("log", base=2)
    right.set_xlabel("trajectories at once")
    right.set_ylabel("trajectories a second")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
