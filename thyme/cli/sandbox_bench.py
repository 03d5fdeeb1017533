"""``thyme sandbox bench``: how fast the sandbox is on this machine."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from thyme.cli import options
from thyme.config.sandbox import SandboxConfig
from thyme.sandbox.bench import BenchReport, Timing, measure
from thyme.sandbox.memory import Memory


def bench_command(
    isolation: options.Isolation = "best",
    n: Annotated[int, typer.Option("--n", min=3, help="Session starts and calculations that are timed.")] = 100,
    as_json: options.Json = False,
) -> None:
    """Measure session start, the cost of a calculation and of a crop, memory and executions a minute.

    Takes about ten seconds. benchmarks/sandbox.py compares with other ways to run code.

    Example: thyme sandbox bench
    """
    report = asyncio.run(measure(SandboxConfig(isolation=isolation), n))
    if as_json:
        facts = {"isolation": report.isolation, "cores": report.cores, "load": report.load}
        typer.echo(json.dumps({"figures": report.figures(), **facts}))
    else:
        typer.echo(describe(report))


def describe(report: BenchReport) -> str:
    """The report in words."""
    figures = report.figures()
    overhead, between = figures["calc_overhead_ms_p50"], figures["calc_between_overhead_ms_p50"]
    ratio = figures["crop_over_bare_ratio"]
    lines = [
        f"level {report.isolation}, {report.cores} cores",
        _line("session from the pool", report.session_pooled),
        _line("session without a pool", report.session_cold),
        _line("calculation", report.calculation) + f", {overhead:.2f} ms more than in a plain process",
        f"  {'':<24}between starts and crops {between:.2f} ms more",
        _line("crop, resize, save", report.crop)
        + f", {ratio:.2f} times a plain process that has the image decoded ({report.crop_bare.p50_ms:.2f} ms)",
        f"  {'two sessions at once':<24}{report.crop_per_minute:,.0f} crops or "
        f"{report.calculation_per_minute:,.0f} calculations a minute",
        _memory("memory of a session", report.idle),
        _memory("after a crop", report.used),
    ]
    if report.load > report.cores / 2:
        lines.append(f"the machine was busy (load {report.load:.1f}): expect better figures when it is quiet")
    return "\n".join(lines)


def _line(name: str, timing: Timing) -> str:
    return f"  {name:<24}{timing.p50_ms:.2f} ms (p99 {timing.p99_ms:.2f}, n {timing.count})"


def _memory(name: str, memory: Memory | None) -> str:
    if memory is None:
        return f"  {name:<24}not known: only root may look at it"
    return f"  {name:<24}{memory.pss_mb:.1f} MiB: {memory.private_mb:.1f} of its own, {memory.share_mb:.1f} its share"
