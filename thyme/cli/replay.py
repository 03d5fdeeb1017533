"""``thyme replay``: does stored code still do what the record says it did?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from thyme.cli import options
from thyme.config import SandboxConfig
from thyme.errors import StoreError, UsageError
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.store import read_trajectories
from thyme.types import Execution, Trajectory
from thyme.view import words
from thyme.view.terminal import clean

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What of one code block is the same when it runs again."""

    number: int
    stdout: bool
    images: bool
    """The same pixels, in the same order."""
    error: bool
    """The same error, or none both times."""
    details: tuple[str, ...] = ()
    """What is different, in words."""

    @property
    def same(self) -> bool:
        """Whether everything is."""
        return self.stdout and self.images and self.error


@app.command()
def replay(
    trajectory: Annotated[
        Path,
        typer.Argument(
            metavar="TRAJECTORY",
            help="A .jsonl file of trajectories, or a folder that `thyme ask --save` or `thyme demo` wrote.",
        ),
    ],
    isolation: options.Isolation = "best",
    as_json: options.Json = False,
) -> None:
    """Run the code of a stored trajectory again, and compare.

    It runs in a fresh session with the same images and seed. Exit code 1 if printed output, images or errors differ.

    Example: thyme replay asked/trajectory.jsonl
    """
    path = records_file(trajectory)
    records = list(read_trajectories(path))
    if not records:
        raise StoreError(f"{path} holds no trajectory")
    compared = asyncio.run(replay_all(records, SandboxConfig(isolation=isolation)))
    same = all(block.same for blocks in compared for block in blocks)
    if as_json:
        typer.echo(json.dumps({"same": same, "trajectories": _plain(records, compared)}))
    else:
        console = Console(highlight=False)
        for record, blocks in zip(records, compared, strict=True):
            _print(console, record, blocks)
    if not same:
        raise typer.Exit(1)


def records_file(path: Path) -> Path:
    """The file itself, or the one in a folder."""
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.jsonl"))
    if len(files) != 1:
        raise UsageError(f"{path} holds {len(files)} files of trajectories (.jsonl); name a file")
    return files[0]


async def replay_all(records: Sequence[Trajectory], config: SandboxConfig) -> list[list[Comparison]]:
    """Run the code of each trajectory again; one list of comparisons a trajectory.

    Raises:
        SandboxError: The sandbox failed, not the code.
    """
    async with open_sandbox(config) as sandbox:
        return [await replay_one(record, sandbox) for record in records]


async def replay_one(record: Trajectory, sandbox: Sandbox) -> list[Comparison]:
    """Run the code of one trajectory again, block after block in one session."""
    before = [observation.execution for observation in record.observations]
    if not before:
        return []
    async with sandbox.session(record.problem.images, record.seed) as session:
        return [
            compare(number, execution, await session.run(execution.code))
            for number, execution in enumerate(before, start=1)
        ]


def compare(number: int, before: Execution, after: Execution) -> Comparison:
    """Compare two runs of one block by what the model saw of them."""
    images = [image.id for image in before.images] == [image.id for image in after.images]
    details = []
    if before.stdout != after.stdout:
        details.append(f"printed {before.stdout!r} before, {after.stdout!r} now")
    if not images:
        shown = [", ".join(map(words.size, run.images)) or "none" for run in (before, after)]
        details.append(f"images before: {shown[0]}; now: {shown[1]}" + (", other pixels" * (shown[0] == shown[1])))
    if before.error != after.error:
        shown = [words.error_line(run) or "none" for run in (before, after)]
        details.append(f"error before: {shown[0]}; now: {shown[1]}")
    return Comparison(number, before.stdout == after.stdout, images, before.error == after.error, tuple(details))


def _plain(records: Sequence[Trajectory], compared: Sequence[Sequence[Comparison]]) -> list[dict[str, object]]:
    return [
        {"id": record.id, "blocks": [{**asdict(block), "same": block.same} for block in blocks]}
        for record, blocks in zip(records, compared, strict=True)
    ]


def _print(console: Console, record: Trajectory, blocks: Sequence[Comparison]) -> None:
    console.print(Text(clean(f"{record.id}: {record.problem.question}"), style="bold"), soft_wrap=True)
    if not blocks:
        console.print("  no code ran")
    for block in blocks:
        verdict = ("same", "green") if block.same else ("different", "red")
        parts = {"output": block.stdout, "images": block.images, "error": block.error}
        told = ", ".join(f"{name} {'same' if same else 'different'}" for name, same in parts.items())
        console.print(Text.assemble(f"  code {block.number}  ", verdict, (f"  ({told})", "dim")), soft_wrap=True)
        for detail in block.details:
            console.print(Text(f"    {clean(detail)}"), soft_wrap=True)
