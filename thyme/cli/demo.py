"""``thyme demo``: fresh scenes of nano's world, a question of each kind, with code and with code blocked."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from thyme.agent.rollout import rollout_events
from thyme.cli import options
from thyme.cli.ask import watch
from thyme.cli.runtime import open_runtime
from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
from thyme.errors import UsageError
from thyme.eval.runner import score_trajectory
from thyme.eval.summary import Sample, summarise
from thyme.eval.table import results_table
from thyme.models import NANO
from thyme.store import write_trajectories
from thyme.types import Problem
from thyme.view.html import render_page
from thyme.view.terminal import TrajectoryPrinter

app = typer.Typer(add_completion=False)

INTRO = (
    "nano is a model of a few million parameters that knows one drawn world and nothing else. It sees each scene "
    "reduced to 128 × 128 pixels, and may write Python to look at the original. Each question is asked twice: with "
    "code, and with code blocked."
)


@app.command()
def demo(
    seed: Annotated[int | None, typer.Option(help="Which scenes; drawn anew where it is not given.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the page and the records.")] = Path("demo"),
    per_kind: Annotated[int, typer.Option(min=1, help="Questions of each kind.")] = 1,
    model: options.Model = NANO,
    isolation: options.Isolation = "best",
    device: options.Device = "auto",
) -> None:
    """Show the embedded model at work on fresh scenes.

    Prints every transcript and a table, and writes DIR/index.html and DIR/trajectories.jsonl.

    Example: thyme demo --out demo
    """
    from thyme.nano.world import problems

    options.make_folder(out, "--out")
    drawn = secrets.randbelow(1_000_000) if seed is None else seed
    console = Console(highlight=False)
    console.print(f"scenes of seed {drawn} (thyme demo --seed {drawn} draws them again)\n", soft_wrap=True)
    asked = list(problems("test", drawn, per_kind))
    engine_config = EngineConfig(model=model, device=device)
    pairs = asyncio.run(_run(asked, model, engine_config, SandboxConfig(isolation=isolation), console))
    arms = {"with code": [pair[0] for pair in pairs], "code blocked": [pair[1] for pair in pairs]}
    console.print(results_table({name: summarise(samples) for name, samples in arms.items()}))
    _write(out, [sample for pair in pairs for sample in pair], drawn)
    console.print(f"\npage: {out / 'index.html'}", soft_wrap=True)
    failed = [sample for pair in pairs for sample in pair if sample.failed]
    for sample in failed:
        typer.echo(f"thyme: {sample.trajectory.problem.id}: {sample.score.note}", err=True)
    if failed:
        raise typer.Exit(1)


async def _run(
    asked: Sequence[Problem], model: str, engine_config: EngineConfig, sandbox_config: SandboxConfig, console: Console
) -> list[tuple[Sample, Sample]]:
    """Ask each problem with code, then with code blocked, printing as it goes."""
    printer = TrajectoryPrinter(console)
    pairs = []
    async with open_runtime(model, engine_config, sandbox_config) as (engine, sandbox):
        for problem in asked:
            samples = []
            for tools in (True, False):
                console.rule(f"{problem.kind}, {'with code' if tools else 'code blocked'}", align="left", style="dim")
                printer.question(problem)
                events = rollout_events(problem, engine, sandbox, RolloutConfig(tools=tools))
                trajectory = await watch(events, printer)
                samples.append(Sample(trajectory, score_trajectory(trajectory)))
                _print_verdict(console, samples[-1])
            pairs.append((samples[0], samples[1]))
    return pairs


def _print_verdict(console: Console, sample: Sample) -> None:
    verdict = {None: "not scored", 1.0: "right"}.get(sample.score.value, "wrong")
    console.print(f"{verdict} (reference: {sample.trajectory.problem.answer})\n", style="bold", soft_wrap=True)


def _write(out: Path, samples: Sequence[Sample], seed: int) -> None:
    """Write records and page."""
    trajectories = [sample.trajectory for sample in samples]
    page = render_page(
        trajectories,
        "thyme demo: a model thinks with images through code",
        scores=[sample.score for sample in samples],
        intro=f"{INTRO} Scenes of seed {seed}.",
    )
    try:
        write_trajectories(out / "trajectories.jsonl", trajectories)
        (out / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); name another folder with --out") from error
