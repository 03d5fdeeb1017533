"""Measure the embedded model on fresh problems: with tools, with ``<code>`` blocked, against the direct baseline."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from thyme.config import EngineConfig, SandboxConfig
from thyme.engines import open_engine
from thyme.engines.base import Engine
from thyme.eval.runner import evaluate
from thyme.eval.summary import Rate, Sample, Summary, summarise, without_pictures
from thyme.nano import checkpoint_path
from thyme.nano.asked import GREEDY
from thyme.nano.world import KINDS, Kind, problems
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.types import Problem

Arm = Literal["tools", "no_tools", "direct"]
ARMS: tuple[Arm, ...] = ("tools", "no_tools", "direct")
"""``tools``: the final weights. ``no_tools``: the same, ``<code>`` blocked. ``direct``: the base trained to answer."""

BATCH = 32
"""Trajectories that are decoded together."""
CHUNK = 96
"""Problems whose pictures are in memory at a time, about 3 MB each."""


@dataclass(frozen=True)
class Measured:
    """Every arm on the same problems."""

    arms: dict[Arm, dict[str, Summary]]
    """Summaries by arm and kind."""
    seconds: float
    """Wall clock of the whole run, loading included."""

    def rate(self, arm: Arm, kind: str) -> Rate:
        """Accuracy of an arm on a kind; without cases where the arm was not asked."""
        return self.arms[arm][kind].accuracy if arm in self.arms else Rate(0, 0)

    @property
    def executable(self) -> Rate:
        """Of all code blocks that ran, those that ended without an error."""
        kinds = [self.arms["tools"][kind].executable_rate for kind in KINDS if kind in self.arms["tools"]]
        return Rate(sum(rate.hits for rate in kinds), sum(rate.n for rate in kinds))

    def as_json(self) -> dict[str, Any]:
        """The figures that `thyme nano eval --json` writes; a rate without cases is null."""
        kinds = {}
        for kind, summary in self.arms["tools"].items():
            if kind not in KINDS:
                continue
            kinds[kind] = {
                "tools": {
                    "accuracy": summary.accuracy.value,
                    "tool_rate": summary.tool_rate.value,
                    "executable_rate": summary.executable_rate.value,
                },
                "no_tools": {"accuracy": self.rate("no_tools", kind).value},
                "direct": {"accuracy": self.rate("direct", kind).value},
            }
        return {"kinds": kinds, "executable_rate": self.executable.value, "seconds": round(self.seconds, 1)}

    def write(self, path: Path) -> None:
        """Write `as_json`."""
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")

    def table(self) -> Table:
        """The figures with their 95 % intervals."""
        table = Table(
            title="The embedded model, greedy: accuracy in %, 95 % interval", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
        )
        for name in ("kind", "n", "with code", "wrote", "ran", "code blocked", "direct"):
            table.add_column(name, justify="left" if name == "kind" else "right", no_wrap=True)
        for kind, summary in self.arms["tools"].items():
            if kind not in KINDS:
                continue
            table.add_row(
                kind,
                str(summary.n),
                _percent(summary.accuracy),
                _percent(summary.tool_rate, interval=False),
                _percent(summary.executable_rate, interval=False),
                _percent(self.rate("no_tools", kind)),
                _percent(self.rate("direct", kind)),
            )
        table.caption = f"code blocks that ran: {_percent(self.executable)}; {self.seconds:.0f} s"
        return table


def _percent(rate: Rate, *, interval: bool = True) -> str:
    if rate.value is None or rate.interval is None:
        return "-"
    low, high = rate.interval
    return f"{100 * rate.value:.1f} [{100 * low:.0f}, {100 * high:.0f}]" if interval else f"{100 * rate.value:.0f}"


def measure(
    *,
    seed: int = 7,
    per_kind: int = 100,
    kinds: tuple[Kind, ...] = KINDS,
    final: Path | None = None,
    direct: Path | None = None,
    arms: tuple[Arm, ...] = ARMS,
    progress: bool = True,
    sandbox: SandboxConfig | None = None,
) -> Measured:
    """Ask fresh problems of the test split.

    Args:
        seed: Of the problems; any integer, none was used in training.
        per_kind: Problems of each kind.
        kinds: Which kinds.
        final: Checkpoint of the first two arms; None is the shipped one.
        direct: Checkpoint of the third; None is the shipped one.
        arms: Which arms; ``tools`` must be one of them.
        progress: Whether to show bars on stderr.
        sandbox: Where the code runs.

    Raises:
        ModelNotFoundError: A checkpoint is missing.
        IsolationError: This machine offers no isolation that is enough.
    """
    started = time.monotonic()
    folders = {"tools": final or checkpoint_path("final")}
    if "direct" in arms:
        folders["direct"] = direct or checkpoint_path("direct")
    bar = Progress(
        TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True), disable=not progress
    )
    with bar:
        work = _Work(folders, arms, seed, sandbox or SandboxConfig(), bar)
        found = asyncio.run(work.measure(per_kind, kinds))
    return Measured(found, time.monotonic() - started)


@dataclass(frozen=True)
class _Work:
    """One measurement."""

    folders: dict[str, Path]
    arms: tuple[Arm, ...]
    seed: int
    sandbox: SandboxConfig
    bar: Progress

    async def measure(self, per_kind: int, kinds: tuple[Kind, ...]) -> dict[Arm, dict[str, Summary]]:
        """Ask chunk by chunk, so that only one chunk's pictures are in memory."""
        task = self.bar.add_task("", total=len(self.arms) * len(kinds) * per_kind)
        samples: dict[Arm, list[Sample]] = {arm: [] for arm in self.arms}
        async with open_sandbox(self.sandbox) as sandbox, AsyncExitStack() as engines:
            opened: dict[str, Engine] = {}
            for name, folder in self.folders.items():
                opened[name] = open_engine(str(folder), EngineConfig(max_batch=BATCH))
                engines.push_async_callback(opened[name].aclose)
            for kind in kinds:
                drawn = problems("test", self.seed, per_kind, (kind,))
                while chunk := list(islice(drawn, CHUNK)):
                    for arm in self.arms:
                        samples[arm] += await self._ask(chunk, arm, opened, sandbox)
                        self.bar.advance(task, len(chunk))
        return {arm: summarise(found) for arm, found in samples.items()}

    async def _ask(self, chunk: list[Problem], arm: Arm, engines: dict[str, Engine], sandbox: Sandbox) -> list[Sample]:
        name = "direct" if arm == "direct" else "tools"
        asked = await evaluate(
            chunk,
            engines[name],
            sandbox,
            GREEDY.model_copy(update={"tools": arm == "tools"}),
            prompts=PromptSet.load(self.folders[name] / "prompts"),
            seed=self.seed,
            concurrency=BATCH,
        )
        return [without_pictures(sample) for sample in asked]
