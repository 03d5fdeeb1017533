"""What ``thyme eval`` does: find the benchmarks, ask, report."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.table import Table

from thyme.config import SandboxConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.errors import UsageError
from thyme.eval.arms import ARMS
from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.benchmarks.custom import custom
from thyme.eval.benchmarks.files import ENDINGS, data_folders, find_file
from thyme.eval.run.folder import Run, read_run
from thyme.eval.run.run import run_evaluation
from thyme.eval.run.settings import chosen_arms
from thyme.eval.run.sources import Shard, Source, drawn_source, file_source
from thyme.eval.run.spread import Spread
from thyme.models import open_model
from thyme.nano import mini
from thyme.prompts import PromptSet
from thyme.sandbox.facade import opened

KNOWN: Mapping[str, Benchmark] = {**BENCHMARKS, mini.NAME: mini.BENCHMARK}
"""Every benchmark that the command knows by name."""


@dataclass(frozen=True)
class Asked:
    """One call of the command; other processes get it whole."""

    config: EvaluationConfig
    bench: tuple[str, ...]
    out: Path
    data: Path | None = None
    prompts: Path | None = None
    sandbox_url: str | None = None
    progress: bool = False

    async def run(self, shard: Shard) -> Run:
        """Ask a part of it."""
        sources = await asyncio.to_thread(self.sources)
        words = None if self.prompts is None else PromptSet.load(self.prompts)
        return await run_evaluation(
            self.config,
            sources,
            self.out,
            open_model=open_model,
            open_sandbox=partial(_sandbox, url=self.sandbox_url),
            prompts=words,
            shard=shard,
            progress=self.progress,
        )

    def sources(self) -> list[Source]:
        """The benchmarks that were named.

        Raises:
            UsageError: There is no such benchmark, or no file of it.
        """
        found = [open_source(text, self.data, self.config.limit, self.config.seed) for text in self.bench]
        names = [source.benchmark.name for source in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"{', '.join(twice)} is named twice; name each benchmark once, or rename one of the files")
        return found


def _sandbox(config: SandboxConfig, *, url: str | None) -> Any:
    return opened(config, url, None)


def run_spread(asked: Asked, spread: Spread) -> None:
    """Ask all parts in other processes, and once more what had to wait until every part was asked with code."""
    spread.run(partial(run_part, asked))
    waits = any(ARMS[name].needs_donor for name in chosen_arms(asked.config))
    if waits and read_run(asked.out).missing:
        spread.run(partial(run_part, asked))


def run_part(asked: Asked, shard: Shard) -> None:
    """Ask one part, in a process of its own; the first one shows its progress."""
    asyncio.run(replace(asked, progress=asked.progress and shard.number == 0).run(shard))


def open_source(text: str, data: Path | None, limit: int | None, seed: int) -> Source:
    """The problems that a word of the command line means.

    Args:
        text: Name of a benchmark, ``NAME=FILE``, or a file.
        data: Where files are looked for first.
        limit: See `EvaluationConfig`.
        seed: See `EvaluationConfig`.

    Raises:
        UsageError: There is no such benchmark, or no file of it.
        StoreError: The file cannot be read.
    """
    name, equals, path = text.partition("=")
    if equals and name in KNOWN:
        return file_source(KNOWN[name], _file(path, text), limit=limit, seed=seed)
    if text == mini.NAME:
        count = min(mini.ROWS, limit or mini.ROWS)
        return drawn_source(mini.BENCHMARK, f"{mini.NAME} version {mini.VERSION}", mini.problems, count)
    if text in KNOWN:
        benchmark = KNOWN[text]
        return file_source(
            benchmark, find_file(text, data_folders(data), other=benchmark.files), limit=limit, seed=seed
        )
    if not Path(text).expanduser().exists():
        raise UsageError(_unknown(text if not equals else name))
    file = _file(text, text)
    return file_source(KNOWN.get(file.stem) or custom(file), file, limit=limit, seed=seed)


def _file(path: str, text: str) -> Path:
    if not path:
        raise UsageError(f"'{text}' names no file; write NAME=FILE")
    return find_file(path if "/" in path else f"./{path}", ())


def _unknown(text: str) -> str:
    by_lower = {name.lower(): name for name in KNOWN}
    parts = [name for name in by_lower if text and text.lower() in name]
    near = parts or difflib.get_close_matches(text.lower(), by_lower, n=1, cutoff=0.6)
    hint = f"; did you mean {' or '.join(by_lower[name] for name in near)}?" if near else ";"
    return (
        f"there is no benchmark or file '{text}'{hint} `thyme eval list` shows the benchmarks; a file of your own is "
        f"named by its path ({', '.join(ENDINGS)})"
    )


def conclude(asked: Asked, part: Shard) -> None:
    """Say what there is, and write the report where nothing is missing any more."""
    run = read_run(asked.out)
    failed = sum(item.failed for item in run.items)
    if failed:
        typer.echo(f"thyme: {failed} rollouts failed and are not scored; the same command asks them again", err=True)
    waiting = sum(item.waits_for_verdict for item in run.items)
    if waiting:
        told = "the same command asks the judge again"
        typer.echo(f"thyme: {waiting} answers got no verdict and are not scored; {told}", err=True)
    if run.missing:
        missing = sum(run.missing.values())
        told = "other parts, or the same command again, ask them" if part.of > 1 else "the same command goes on"
        typer.echo(f"thyme: {missing} items of {asked.out} are missing yet: {told}", err=True)
    if part.of == 1 or not run.missing:
        write_report(asked.out)


def write_report(folder: Path) -> None:
    """Write results, pages and submissions of a run."""
    from thyme.eval.report.write import write_report as write

    write(folder, benchmarks=KNOWN)
    typer.echo(f"report: {folder / 'report.html'}, report.md, results.json", err=True)


def write_comparison(one: Path, other: Path, out: Path | None) -> None:
    """Hold two runs against each other, on the screen and in a page."""
    from rich.console import Console

    from thyme.eval.compare import compare_runs
    from thyme.eval.report.comparison import comparison_table
    from thyme.eval.report.comparison import write_comparison as write

    found = compare_runs(one, other, benchmarks=KNOWN)
    Console().print(comparison_table(found))
    if out is not None:
        write(found, out)
        typer.echo(f"comparison: {out}", err=True)


def known_benchmarks(data: Path | None) -> list[dict[str, Any]]:
    """What is known of each benchmark, and where its file is."""
    return [_told(benchmark, data) for benchmark in KNOWN.values()]


def _told(benchmark: Benchmark, data: Path | None) -> dict[str, Any]:
    try:
        file: str | None = str(find_file(benchmark.name, data_folders(data), other=benchmark.files))
    except UsageError:
        file = None
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "rows": benchmark.rows,
        "figure": benchmark.headline,
        "judge": benchmark.judge,
        "mathematics": benchmark.mathematics,
        "notes": benchmark.notes,
        "source": benchmark.source,
        "file": file or ("drawn when asked for" if benchmark.name == mini.NAME else None),
    }


def benchmarks_table(rows: list[dict[str, Any]]) -> Table:
    """The same to look at."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("benchmark", "rows", "figure", "scored by", "file"):
        table.add_column(name, justify="right" if name == "rows" else "left", overflow="fold")
    for row in rows:
        how = [
            "rules",
            *(["mathematics"] if row["mathematics"] else []),
            *([f"judge ({row['judge']})"] if row["judge"] else []),
        ]
        table.add_row(row["name"], str(row["rows"] or "?"), row["figure"], ", ".join(how), row["file"] or "not found")
    table.caption = "published rows; files are looked for in --data, $LMUData and ~/LMUData"
    return table
