"""``thyme ask``: one question, answered in front of you."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from thyme.agent.rollout import rollout_events
from thyme.api.result import PAGE_FILE, TRAJECTORY_FILE, Result
from thyme.cli import options
from thyme.cli.runtime import open_runtime
from thyme.config import EngineConfig, RolloutConfig, RunConfig, SandboxConfig
from thyme.config.load import overridden
from thyme.errors import EngineError, UsageError
from thyme.events import Event, FinishedEvent
from thyme.images import MAX_PIXELS, load_image
from thyme.models import NANO
from thyme.prompts import PromptSet
from thyme.types import ImageRecord, Problem, Trajectory
from thyme.view.terminal import TrajectoryPrinter

app = typer.Typer(add_completion=False)


@app.command()
def ask(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="Image files; - is stdin. Without one the question is asked in words alone.",
            default_factory=list,
            show_default=False,
        ),
    ],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask about them.")],
    model: options.Model = NANO,
    no_tools: Annotated[bool, typer.Option("--no-tools", help="The same prompt, with code blocked.")] = False,
    text_temperature: Annotated[float, typer.Option(min=0, max=10, help="0 is greedy.")] = 0.0,
    code_temperature: Annotated[float, typer.Option(min=0, max=10, help="0 is greedy.")] = 0.0,
    max_rounds: Annotated[int, typer.Option(min=0, help="Code blocks that may run.")] = RolloutConfig().max_rounds,
    seed: options.Seed = 0,
    prompts: options.Prompts = None,
    isolation: options.Isolation = "best",
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help=f"Write {TRAJECTORY_FILE}, images/ and {PAGE_FILE} there, in place of older ones."
        ),
    ] = None,
    as_json: options.Json = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image that is read, pixels.")] = MAX_PIXELS,
    settings: options.Set = None,
) -> None:
    """Ask a model a question about images, and watch it think.

    The model reasons, writes Python where it helps, sees what the code made, and answers.

    Example: thyme ask photo.jpg 'What does the sign say?' --model Qwen/Qwen2.5-VL-7B-Instruct --save out

    Example: thyme ask photo.jpg 'What does the sign say?' --model http://localhost:8000/v1#Qwen/Qwen2.5-VL-7B-Instruct
    """
    problem = read_problem(images, question, max_pixels)
    if save is not None:
        options.make_folder(save, "--save")
    words = None if prompts is None else PromptSet.load(prompts)
    rollout = RolloutConfig(
        text_temperature=text_temperature, code_temperature=code_temperature, tools=not no_tools, max_rounds=max_rounds
    )
    engine = EngineConfig(model=model, device=device, dtype=dtype)
    config = RunConfig(engine=engine, sandbox=SandboxConfig(isolation=isolation), rollout=rollout, seed=seed)
    config = overridden(config, settings or [])
    if config.engine.model == NANO:
        warn_of_foreign(problem.images)
    printer = None if as_json else TrajectoryPrinter()
    hand_over(asyncio.run(_answered(problem, config, words, printer)), save, as_json=as_json)


async def _answered(
    problem: Problem, config: RunConfig, words: PromptSet | None, printer: TrajectoryPrinter | None
) -> Trajectory:
    async with open_runtime(config.engine.model, config.engine, config.sandbox) as (engine, sandbox):
        if printer is not None:
            printer.question(problem)
        events = rollout_events(problem, engine, sandbox, config.rollout, prompts=words, seed=config.seed)
        return await watch(events, printer)


def hand_over(trajectory: Trajectory, save: Path | None, *, as_json: bool) -> None:
    """Print and save what there is, also of a rollout that failed.

    Raises:
        UsageError: The folder cannot be written.
        EngineError: The rollout failed.
    """
    if as_json:
        typer.echo(trajectory.model_dump_json())
    if save is not None:
        save_trajectory(save, trajectory)
    if trajectory.error is not None:
        raise EngineError(f"the {trajectory.error.where} failed: {trajectory.error.message}")


def read_problem(files: Sequence[str], question: str, max_pixels: int = MAX_PIXELS) -> Problem:
    """Make the problem of what stands on the command line.

    Args:
        files: Image files; ``-`` is stdin.
        question: What to ask about them.
        max_pixels: Largest image that is read.

    Raises:
        UsageError: The question is missing or empty.
        ImageError: An image cannot be used.
    """
    question = question.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # stored as JSON, which is UTF-8
    if not files and os.path.isfile(question):  # not Path.is_file, which raises where a question is too long for a name
        raise UsageError(f"no question about {question}; write: thyme ask {question} 'What ...?'")
    if not question.strip():
        raise UsageError("the question is empty; write: thyme ask IMAGE 'What ...?'")
    if files.count("-") > 1:
        raise UsageError("stdin (-) holds one image; name the others by file")
    images = tuple(_read_image(file, max_pixels) for file in files)
    return Problem(id="ask", question=question, images=images)


def _read_image(file: str, max_pixels: int) -> ImageRecord:
    if file == "-":
        return load_image(sys.stdin.buffer.read(), name="stdin", max_pixels=max_pixels)
    return load_image(Path(file), max_pixels=max_pixels)


def warn_of_foreign(images: Sequence[ImageRecord]) -> None:
    """Say on stderr which pictures are from outside nano's world, so that nobody takes its answer for knowledge."""
    from thyme.nano.foreign import foreign

    for image in images:
        reason = foreign(image.image)
        if reason is not None:
            typer.echo(
                f"thyme: {image.name} is no picture of nano's world: {reason}. nano is tiny and knows nothing else, so "
                "its answer means nothing; for real pictures name a real model (--model FOLDER or HUB_ID)",
                err=True,
            )


async def watch(events: AsyncGenerator[Event, None], printer: TrajectoryPrinter | None) -> Trajectory:
    """Follow a rollout to its end, printing it if there is a printer."""
    trajectory: Trajectory | None = None
    async with aclosing(events):
        async for event in events:
            if printer is not None:
                printer.feed(event)
            if isinstance(event, FinishedEvent):
                trajectory = event.trajectory
    assert trajectory is not None  # the last event of every rollout that was not cancelled
    return trajectory


def save_trajectory(folder: Path, trajectory: Trajectory) -> None:
    """Write the record, its images and its page.

    Raises:
        UsageError: The folder cannot be written.
    """
    Result(trajectory).save(folder)
    typer.echo(f"saved in {folder}: {TRAJECTORY_FILE}, images/, {PAGE_FILE}", err=True)
