"""Figures, tables and the plot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sandbox_peers import OTHERS, PEERS
from sandbox_peers.latency import TIMES, Samples
from sandbox_peers.quiet import Quiet
from sandbox_peers.throughput import RATES
from thyme.sandbox.bench import BenchReport, Timing
from thyme.sandbox.memory import Memory

REFERENCE = "pooled"
"""What the others are divided by."""
_MEMORIES = {"idle": "idle", "used": "after a crop"}
_ALONE = {
    "session_pooled_ms_p50": "a session from the pool, known image, ms",
    "session_cold_ms_p50": "a session without a pool, ms",
    "calc_overhead_ms_p50": "a calculation, over plain `exec` in a bare process in turns with it, ms",
    "calc_between_overhead_ms_p50": "the same between session starts and crops, ms",
    "crop_ms_p50": "crop, resize, save, ms",
    "crop_over_bare_ratio": "the same over a bare process with the image decoded, times",
    "crop_per_minute": "crops a minute, one driver with two sessions at once",
    "calc_per_minute": "calculations a minute, likewise",
    "session_pss_mb": "memory of an idle session, PSS, MiB",
    "session_after_crop_pss_mb": "the same after a crop, MiB",
}
"""What is shown of ours alone."""
_PLOTTED = ("start_first", "start_three", "later_jpg", "later_calc", "crop_per_minute")


@dataclass(frozen=True)
class Measured:
    """Everything that one run of the benchmark found."""

    own: BenchReport
    """Ours alone, with more samples."""
    samples: Samples
    rates: Mapping[str, Mapping[str, float]]
    """Executions a minute, by peer and column."""
    memories: Mapping[str, Mapping[str, Memory]]
    """By peer, ``idle`` and ``used``."""
    decoding_ms: Mapping[str, float]
    """What decoding the input takes, and the picture of an execution."""
    rounds: int
    quiet: Quiet
    missing: Mapping[str, str] = field(default_factory=dict)
    """Peers that were left out, and what to install for them."""

    def values(self) -> dict[str, dict[str, float]]:
        """Medians in milliseconds and executions a minute, by peer and column."""
        found: dict[str, dict[str, float]] = {}
        for peer in sorted(self.samples, key=list(PEERS).index):
            columns = self.samples[peer]
            found[peer] = {column: Timing.of(seconds).p50_ms for column, seconds in columns.items()}
            found[peer] |= self.rates.get(peer, {})
        return found

    def ratios(self) -> dict[str, dict[str, float]]:
        """Each of the others over ours, by peer and column."""
        values = self.values()
        ours = values[REFERENCE]
        found = {
            peer.name: {column: values[peer.name][column] / ours[column] for column in ours}
            for peer in OTHERS
            if peer.name in values
        }
        for peer, ratios in found.items():
            for state, memory in self.memories.get(peer, {}).items():
                if state in self.memories.get(REFERENCE, {}):
                    ratios[f"pss_{state}"] = memory.pss_mb / self.memories[REFERENCE][state].pss_mb
        return found

    def figures(self) -> dict[str, float]:
        """By name: those of ours alone, ``PEER_COLUMN_...`` of everybody, and ``ratio_PEER_COLUMN``."""
        found = self.own.figures()
        for peer, columns in self.samples.items():
            for column, seconds in columns.items():
                timing = Timing.of(seconds)
                found |= {f"{peer}_{column}_ms_p50": timing.p50_ms, f"{peer}_{column}_ms_p99": timing.p99_ms}
                found[f"{peer}_{column}_n"] = timing.count
            found |= {f"{peer}_{column}": rate for column, rate in self.rates.get(peer, {}).items()}
            for state, memory in self.memories.get(peer, {}).items():
                found |= {f"{peer}_{state}_pss_mb": memory.pss_mb, f"{peer}_{state}_private_mb": memory.private_mb}
        found["crop_per_minute_2proc"] = self.rates[REFERENCE]["crop_per_minute"]
        found["calc_per_minute_2proc"] = self.rates[REFERENCE]["calc_per_minute"]
        found |= {f"decode_{name}_ms": value for name, value in self.decoding_ms.items()}
        for peer, ratios in self.ratios().items():
            found |= {f"ratio_{peer}_{column}": ratio for column, ratio in ratios.items()}
        return found | {
            "rounds": self.rounds,
            "measurements": self.quiet.count,
            "measurements_repeated": self.quiet.repeated,
            "measurements_disturbed": self.quiet.disturbed,
        }

    def to_json(self) -> dict[str, object]:
        """What `--json` writes."""
        return {"figures": self.figures(), "machine": machine(self.own), "left_out": dict(self.missing)}


def machine(own: BenchReport) -> dict[str, Any]:
    """Facts that figures depend on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = ("thyme-vl", "numpy", "pillow", "opencv-python-headless", "smolagents", "jupyter-client", "ipykernel")
    versions = {name: importlib.metadata.version(name) for name in packages if _installed(name)}
    if not PEERS["bubblewrap"].missing():
        answer = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False).stdout.split()
        versions["bubblewrap"] = answer[-1] if answer else "?"
    return {
        "cpu": model[0].split(":", 1)[1].strip() if model else platform.machine(),
        "cores": own.cores,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "isolation": own.isolation,
        "load_before": own.load,
        "load_after": os.getloadavg()[0],
        "root": os.geteuid() == 0,
        "versions": versions,
    }


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def show(measured: Measured, console: Console) -> None:
    """Print everything."""
    facts = machine(measured.own)
    console.print(
        f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}, level {facts['isolation']}; "
        + ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    )
    values, ratios = measured.values(), measured.ratios()
    for columns, said in (
        (TIMES, f"ms, median of {measured.rounds}"),
        (RATES, "a minute, two processes"),
    ):
        table = Table(said, box=box.MARKDOWN)
        for heading in columns.values():
            table.add_column(heading, justify="right")
        for peer, found in values.items():
            cells = [_cell(found[column], ratios.get(peer, {}).get(column)) for column in columns]
            table.add_row(PEERS[peer].label, *cells)
        console.print(table)
    console.print("In brackets: times thyme.")
    console.print(_memory_table(measured))
    console.print(_alone_table(measured))
    for peer, advice in measured.missing.items():
        console.print(f"left out: {PEERS[peer].label} ({advice})", highlight=False, markup=False)
    quiet = measured.quiet
    console.print(f"{quiet.repeated} measurements were disturbed by other work and made again", highlight=False)
    if quiet.disturbed:
        console.print(
            f"[bold]{quiet.disturbed} of {quiet.count} count although they were disturbed: trust the ratios more than "
            "the milliseconds, or give it more --patience[/bold]",
            highlight=False,
        )


def _cell(value: float, ratio: float | None) -> str:
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return text if ratio is None else f"{text} ({ratio:.1f}x)" if ratio >= 0.1 else f"{text} ({ratio:.2f}x)"


def _memory_table(measured: Measured) -> Table:
    """The mean of sessions that live at once."""
    table = Table("MiB a session", "when", box=box.MARKDOWN)
    for heading in ("PSS", "private", "share"):
        table.add_column(heading, justify="right")
    for peer, states in measured.memories.items():
        for state, memory in states.items():
            cells = [f"{value:.1f}" for value in (memory.pss_mb, memory.private_mb, memory.share_mb)]
            table.add_row(PEERS[peer].label, _MEMORIES[state], *cells)
    return table


def _alone_table(measured: Measured) -> Table:
    table = Table("thyme alone", box=box.MARKDOWN)
    table.add_column("median", justify="right")
    found = measured.own.figures()
    for name, said in _ALONE.items():
        if name in found:
            table.add_row(said, f"{found[name]:,.0f}" if found[name] >= 100 else f"{found[name]:.2f}")
    for name, milliseconds in measured.decoding_ms.items():
        table.add_row(f"decoding the {name} in a plain process, ms", f"{milliseconds:.1f}")
    return table


def plot(measured: Measured, file: Path) -> None:
    """Draw bars, one panel a column, ours on top.

    Args:
        measured: What to draw.
        file: PNG or SVG by its ending.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values = measured.values()
    headings = TIMES | RATES
    peers = [peer for peer in values if peer in {REFERENCE, "cold"} or peer in {other.name for other in OTHERS}]
    figure, panels = pyplot.subplots(
        1, len(_PLOTTED), figsize=(3.1 * len(_PLOTTED), 0.42 * len(peers) + 1), sharey=True
    )
    for panel, column in zip(panels, _PLOTTED, strict=True):
        found = [values[peer][column] for peer in peers]
        colours = ["#1a7f5a" if peer == REFERENCE else "#8fc7b1" if peer == "cold" else "#b9bec6" for peer in peers]
        bars = panel.barh([PEERS[peer].label for peer in peers], found, color=colours)
        panel.bar_label(bars, [_cell(value, None) for value in found], padding=3, fontsize=8)
        panel.set_title(headings[column] + (", ms" if column in TIMES else ""), fontsize=9)
        panel.set_xlim(0, max(found) * 1.25)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.tick_params(left=False, bottom=False, labelbottom=False, labelsize=8)
    panels[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
