"""``thyme sandbox``: say what this machine offers, and run files of code as a model's code is run."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from thyme.cli import options
from thyme.cli.sandbox_bench import bench_command
from thyme.cli.sandbox_serve import serve_command
from thyme.config.sandbox import SandboxConfig
from thyme.errors import IsolationError, UsageError
from thyme.sandbox import SandboxReport, base, check
from thyme.sandbox.facade import MAX_INPUT_PIXELS, code_text, made_config, opened, read_images
from thyme.types import Execution, ImageRecord
from thyme.view.terminal import clean

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Run code as a model's code is run.")

_SECONDS = SandboxConfig().timeout_s
_MOST_BYTES = 16 << 20
"""Of a file of code; what is too long to run is said by the sandbox, but /dev/zero has no end."""
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
"""How files begin that are no code."""


@app.command("check")
def check_command(as_json: options.Json = False) -> None:
    """Try each level of isolation on this machine, and say what is missing for those it does not offer.

    Exit code 2 where there is none.

    Example: thyme sandbox check
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
    found = [f"{name} {version}" for name, version in report.libraries.items() if version]
    lines.append(f"code may import: the standard library, {', '.join(found)}, and what they require")
    missing = [name for name, version in report.libraries.items() if not version and not name.startswith("opencv-")]
    if missing:
        lines.append(f"not installed: {', '.join(missing)}; to get what code may use: pip install 'thyme-vl[sandbox]'")
    return "\n".join(lines)


@app.command("run")
def run_command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Code; several files are rounds of one session. - is stdin.")
    ],
    image: Annotated[list[Path] | None, typer.Option(metavar="IMG", help="Input image. Repeatable.")] = None,
    isolation: options.Isolation = "best",
    timeout: Annotated[
        float | None, typer.Option(min=0.01, help="Seconds one round may take.", show_default=f"{_SECONDS:g}")
    ] = None,
    repairs: Annotated[
        str | None, typer.Option(metavar="all|none|NAME,...", help="Repairs that are on.", show_default="all")
    ] = None,
    seed: options.Seed = 0,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the images there, as PNG.")] = None,
    as_json: options.Json = False,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image that is read, pixels.")] = MAX_INPUT_PIXELS,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Run on a server: http://HOST:PORT, https://..., or unix:PATH.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="The server's token; better in the environment, as THYME_SANDBOX_TOKEN.")
    ] = None,
) -> None:
    """Run files of code one after the other in one session, and show what the model would be shown.

    Code that fails is a result: the exit code is 0.

    With --json each round is one line: an image's path is where the code saved it, its file where --save put it.

    Example: thyme sandbox run crop.py --image photo.jpg --save out
    """
    # Only what was asked for: a server has settings of its own.
    asked = {name: value for name, value in {"timeout_s": timeout, "repairs": repairs}.items() if value is not None}
    config = made_config(isolation=isolation, **asked)
    codes = read_codes(files)
    images = read_images(image or [], max_pixels)
    if save is not None:
        options.make_folder(save, "--save")
    asyncio.run(_run(opened(config, url, token), codes, images, seed, save, as_json))


def read_codes(files: list[str]) -> list[str]:
    """The text of each file.

    Raises:
        UsageError: One cannot be read, or is no code.
    """
    if files.count("-") > 1:
        raise UsageError("stdin (-) holds one round; name files for the others")
    return [_read_code(file) for file in files]


def _read_code(file: str) -> str:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with open(file, "rb") as stream:
                data = stream.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{file} cannot be read: {reason}; name a file of Python, or - for stdin") from error
    if data.startswith(_PICTURES):
        raise UsageError(f"{file} is a picture, not code; give it as --image {file}")
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{file} holds more than {_MOST_BYTES >> 20} MiB, too much for code")
    return code_text(data, "stdin" if file == "-" else file)


async def _run(
    opening: AbstractAsyncContextManager[base.Sandbox],
    codes: list[str],
    images: list[ImageRecord],
    seed: int,
    save: Path | None,
    as_json: bool,
) -> None:
    async with opening as sandbox, sandbox.session(images, seed) as session:
        for number, code in enumerate(codes, start=1):
            execution = await session.run(code)
            files = _save(execution, number, save)
            if as_json:
                typer.echo(json.dumps(as_record(execution, files)))
            else:
                typer.echo(as_text(execution, number, len(codes), files))


def _save(execution: Execution, number: int, folder: Path | None) -> list[Path]:
    """Write the images under names of our own; where they lie."""
    if folder is None:
        return []
    files = [folder / f"round_{number}_image_{index + 1}.png" for index in range(len(execution.images))]
    for image, file in zip(execution.images, files, strict=True):
        try:
            image.image.save(file)
        except OSError as error:
            raise UsageError(f"{file} cannot be written ({error.strerror}); name another folder with --save") from error
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


app.command("bench")(bench_command)
app.command("serve")(serve_command)
