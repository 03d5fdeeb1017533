"""``thyme sandbox``: say what this machine offers, and run files of code as a model's code is run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from thyme.cli import options
from thyme.cli.sandbox_bench import bench_command
from thyme.config.sandbox import ALL_REPAIRS, SandboxConfig
from thyme.errors import IsolationError, UsageError
from thyme.images import load_image
from thyme.sandbox import SandboxReport, check, open_sandbox
from thyme.types import Execution, ImageRecord
from thyme.view.terminal import clean

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Run code as a model's code is run.")
app.command("bench")(bench_command)


@app.command("check")
def check_command(as_json: options.Json = False) -> None:
    """Try each level of isolation on this machine, and say what is missing for those it does not offer.

    Exit code 2 where there is none.
    """
    report = check()
    typer.echo(json.dumps({**asdict(report), "best": report.best}) if as_json else describe(report))
    if report.best is None:
        raise IsolationError("no level of isolation is to be had here, so that no code can be run")


def describe(report: SandboxReport) -> str:
    """The report in words."""
    abi = f"version {report.landlock}" if report.landlock else "missing"
    lines = [f"Linux {report.kernel} on {report.machine}, Landlock {abi}"]
    for level in report.levels:
        if level.available:
            lines.append(f"  {level.level:<11} yes, first code after {level.start_s:.2f} s")
        else:
            lines += [f"  {level.level:<11} no: {level.reason}"]
    lines.append(f"taken by default: {report.best or 'nothing; no code is run below landlock'}")
    lines.append(f"importable: the standard library, {', '.join(report.importable)}")
    return "\n".join(lines)


@app.command("run")
def run_command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Code; several files are rounds of one session.")
    ],
    image: Annotated[list[Path] | None, typer.Option(metavar="IMG", help="Input image; may be repeated.")] = None,
    isolation: options.Isolation = "best",
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds one round may take.")] = SandboxConfig().timeout_s,
    repairs: Annotated[str, typer.Option(metavar="all|none|NAME,...", help="Repairs that are on.")] = "all",
    seed: options.Seed = 0,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the images there, as PNG.")] = None,
    as_json: options.Json = False,
) -> None:
    """Run files of code one after the other in one session, and show what the model would be shown.

    Code that fails is a result: the exit code is 0. With --json one line a round.
    """
    config = SandboxConfig(isolation=isolation, timeout_s=timeout, repairs=chosen_repairs(repairs))
    codes = [read_code(file) for file in files]
    images = [load_image(path) for path in image or []]
    asyncio.run(_run(config, codes, images, seed, save, as_json))


def chosen_repairs(text: str) -> tuple[Any, ...]:
    """Names of repairs out of ``all``, ``none`` or a list with commas.

    Raises:
        UsageError: There is no such repair.
    """
    if text in {"all", "none"}:
        return ALL_REPAIRS if text == "all" else ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in ALL_REPAIRS]
    if unknown:
        raise UsageError(f"there is no repair {', '.join(unknown)}; there are {', '.join(ALL_REPAIRS)}, all and none")
    return names


def read_code(file: Path) -> str:
    """The text of a file.

    Raises:
        UsageError: It cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from error


async def _run(
    config: SandboxConfig, codes: list[str], images: list[ImageRecord], seed: int, save: Path | None, as_json: bool
) -> None:
    number = 0
    async for execution in _executions(config, codes, images, seed):
        number += 1
        files = _save(execution, number, save)
        if as_json:
            typer.echo(json.dumps(as_record(execution, files)))
        else:
            typer.echo(as_text(execution, number, len(codes), files))


async def _executions(
    config: SandboxConfig, codes: list[str], images: list[ImageRecord], seed: int
) -> AsyncIterator[Execution]:
    async with open_sandbox(config) as broker, broker.session(images, seed) as session:
        for code in codes:
            yield await session.run(code)


def _save(execution: Execution, number: int, folder: Path | None) -> list[Path]:
    """Write the images under names of our own; where they lie."""
    if folder is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"round_{number}_image_{index + 1}.png" for index in range(len(execution.images))]
    for image, file in zip(execution.images, files, strict=True):
        image.image.save(file)
    return files


def as_record(execution: Execution, files: list[Path]) -> dict[str, Any]:
    """One line of JSON."""
    images: list[dict[str, Any]] = [
        {"width": image.width, "height": image.height, "path": image.name} for image in execution.images
    ]
    for image, file in zip(images, files, strict=False):
        image["file"] = str(file)
    error = execution.error
    return {
        "stdout": execution.stdout,
        "error": error and {"type": error.type, "message": error.message, "line": error.line},
        "images": images,
        "repairs": [repair.model_dump() for repair in execution.repairs],
        "duration_s": execution.duration_s,
        "truncated": execution.truncated,
        "session_lost": execution.session_lost,
        "isolation": execution.isolation,
    }


def as_text(execution: Execution, number: int, rounds: int, files: list[Path]) -> str:
    """For people; what the code wrote comes without control codes."""
    name = f"round {number} of {rounds}" if rounds > 1 else "ran"
    lines = [f"-- {name}: {execution.duration_s * 1000:.1f} ms at level {execution.isolation}"]
    lines += [f"-- repaired {r.name}: {r.note}" + (f" (x{r.count})" if r.count > 1 else "") for r in execution.repairs]
    if execution.stdout:
        lines.append(execution.stdout.removesuffix("\n"))
    for index, image in enumerate(execution.images):
        where = f" -> {files[index]}" if files else ""
        lines.append(f"-- image {image.width}x{image.height} {image.name}{where}")
    if execution.truncated:
        lines.append("-- output or images were cut at a limit")
    if execution.error is not None:
        line = f" (line {execution.error.line})" if execution.error.line else ""
        lines.append(f"-- {execution.error.type}{line}: {execution.error.message}")
    return clean("\n".join(lines))
