"""``thyme eval``: measure a model on benchmarks, under arms, and hold it against what is published."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from thyme.cli import eval_work, options
from thyme.cli.training import Quiet
from thyme.config import EngineConfig, SandboxConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.config.load import changed, overridden
from thyme.config.rewards import JudgeSettings
from thyme.errors import UsageError
from thyme.eval.arms import ARMS
from thyme.eval.run.sources import Shard
from thyme.eval.run.spread import Spread
from thyme.models import NANO

SEVERAL = ("--bench", "--arms")
"""Options that take several values, up to the next option."""


class Several(TyperGroup):
    """Lets ``--bench A B`` stand for ``--bench A --bench B``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Spell the short form out."""
        return super().parse_args(ctx, list(spelled_out(args)))


def spelled_out(args: Iterable[str]) -> Iterable[str]:
    """Every value of an option of `SEVERAL` behind its own name."""
    option, given = None, False
    for arg in args:
        if arg.startswith("-"):
            name, given = arg.partition("=")[0], "=" in arg
            option = name if name in SEVERAL else None
            yield arg
            continue
        if option is not None and given:
            yield option
        given = True
        yield arg


app = typer.Typer(
    cls=Several,
    no_args_is_help=True,
    add_completion=False,
    invoke_without_command=True,
)

_DEFAULT = EvaluationConfig()
_ASKED, _SPREAD, _MODEL = "What is asked", "In several processes", "Model and sandbox"


def _option(help: str, panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **settings)


Bench = Annotated[
    list[str] | None,
    _option(
        "Benchmarks: VStarBench (its file is looked for in --data), NAME=FILE, or a FILE of your own. "
        "thyme-mini needs no file. `thyme eval list` shows all.",
        _ASKED,
        metavar="NAME ...",
    ),
]
Data = Annotated[Path | None, _option("Folder of benchmark files; also $LMUData and ~/LMUData.", _ASKED, metavar="DIR")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; one that is not finished goes on.", metavar="DIR")]
Arms = Annotated[
    list[str] | None,
    _option(
        f"Conditions on the same problems: {', '.join(ARMS)}. See docs/arms.md.",
        _ASKED,
        metavar="ARM ...",
        show_default=" ".join(_DEFAULT.arms),
    ),
]
NoTools = Annotated[bool, _option("The same prompt with code blocked, too: the arm no_tools.", _ASKED, "--no-tools")]
Untrained = Annotated[
    str | None, _option("Another model in the same words, too: the arm untrained.", _ASKED, metavar="MODEL")
]
Mode = Annotated[
    Literal["single", "retry"],
    _option("retry: also what comes of asking again where code failed or no answer came.", _ASKED),
]
Limit = Annotated[
    int | None,
    _option("Ask so many problems of each benchmark, drawn with --seed.", _ASKED, min=1, show_default="all"),
]
Judge = Annotated[
    str | None,
    _option(
        "Who decides what rules leave open, on an OpenAI-compatible server.",
        _ASKED,
        metavar="URL#NAME",
        show_default="nobody",
    ),
]
MinPixels = Annotated[
    int | None, _option("Smaller images are enlarged to so many pixels before the model sees them.", _MODEL, min=1)
]
MaxPixels = Annotated[
    int | None, _option("Larger images are reduced to so many pixels before the model sees them.", _MODEL, min=1)
]
SandboxUrl = Annotated[str | None, _option("Run code at this `thyme sandbox serve`.", _MODEL, metavar="URL")]
Concurrency = Annotated[int, _option("Problems that are under way at once.", _MODEL, min=1)]
ShardText = Annotated[
    str | None,
    _option("Ask one part of every benchmark: I from 0 to N-1, in the same --out.", _SPREAD, "--shard", metavar="I/N"),
]
Processes = Annotated[
    int | None,
    _option(
        "Ask in so many processes here, each with a GPU of its own if CUDA_VISIBLE_DEVICES has enough.", _SPREAD, min=1
    ),
]
Ray = Annotated[
    int | None, _option("Ask in so many tasks of a Ray cluster, which must all see --out and --data.", _SPREAD, min=1)
]
RayGpus = Annotated[float, _option("GPUs that Ray reserves for each task.", _SPREAD, min=0)]


@app.callback()
def evaluate(
    ctx: typer.Context,
    model: options.Model = NANO,
    bench: Bench = None,
    out: Out = None,
    data: Data = None,
    arms: Arms = None,
    no_tools: NoTools = False,
    untrained: Untrained = None,
    mode: Mode = "single",
    limit: Limit = None,
    judge: Judge = None,
    seed: options.Seed = 0,
    prompts: options.Prompts = None,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    isolation: options.Isolation = "best",
    sandbox_url: SandboxUrl = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    concurrency: Concurrency = _DEFAULT.concurrency,
    shard: ShardText = None,
    processes: Processes = None,
    ray: Ray = None,
    ray_gpus: RayGpus = 0.0,
    settings: options.Set = None,
    quiet: Quiet = False,
) -> None:
    """Measure a model on benchmarks, greedily, and write a report.

    Example: thyme eval --model Qwen/Qwen2.5-VL-7B-Instruct --bench VStarBench HRBench4K --no-tools --out runs/v7b

    Example: thyme eval --bench thyme-mini --limit 60 --arms tools no_tools crop_only placebo --out runs/mini
    """
    if ctx.invoked_subcommand is not None:
        return
    named = [name for text in arms or [] for name in text.split(",") if name]
    extra = [*(["no_tools"] if no_tools else []), *(["untrained"] if untrained else [])]
    config = EvaluationConfig(
        engine=EngineConfig(model=model, device=device, dtype=dtype, min_pixels=min_pixels, max_pixels=max_pixels),
        sandbox=SandboxConfig(isolation=isolation),
        seed=seed,
    )
    given: dict[str, Any] = {
        "arms": tuple(dict.fromkeys([*(named or _DEFAULT.arms), *extra])),
        "mode": mode,
        "untrained": untrained,
        "limit": limit,
        "concurrency": concurrency,
        "judge": None if judge is None else JudgeSettings(model=judge),
    }
    config = overridden(changed(config, given, "the options"), settings or [])
    asked = eval_work.Asked(
        config, tuple(bench or ()), _needed(bench, out), data=data, prompts=prompts, sandbox_url=sandbox_url,
        progress=not quiet,
    )  # fmt: skip
    _ask(asked, shard, _spread(shard, processes, ray, ray_gpus))


def _needed(bench: list[str] | None, out: Path | None) -> Path:
    if not bench:
        raise UsageError("name what to ask with --bench, e.g. --bench thyme-mini; `thyme eval list` shows all")
    if out is None:
        raise UsageError("name the folder of the run with --out DIR")
    options.make_folder(out, "--out")
    return out


def _spread(shard: str | None, processes: int | None, ray: int | None, ray_gpus: float) -> Spread | None:
    if sum(one is not None for one in (shard, processes, ray)) > 1:
        raise UsageError("--shard, --processes and --ray are three ways to split a run; take one of them")
    if processes is not None:
        return Spread(processes)
    return None if ray is None else Spread(ray, "ray", gpus=ray_gpus)


def _ask(asked: eval_work.Asked, shard: str | None, spread: Spread | None) -> None:
    part = Shard() if shard is None else Shard.parse(shard)
    with options.kept_when_interrupted("what was asked"):
        if spread is None:
            asyncio.run(asked.run(part))
        else:
            eval_work.run_spread(asked, spread)
    eval_work.conclude(asked, part)


@app.command("list")
def show_benchmarks(data: Data = None, as_json: options.Json = False) -> None:
    """Show the benchmarks: rows as published, how they are scored, and where their file was found.

    Example: thyme eval list --data ~/LMUData
    """
    from rich.console import Console

    rows = eval_work.known_benchmarks(data)
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=2))
    else:
        Console().print(eval_work.benchmarks_table(rows))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run, finished or not.")],
) -> None:
    """Write the report of a run again.

    Example: thyme eval report runs/mini
    """
    eval_work.write_report(folder)


@app.command()
def compare(
    one: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")],
    other: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of another.")],
    out: Annotated[Path | None, typer.Option(help="Write the comparison as a page, too.", metavar="FILE.html")] = None,
) -> None:
    """Hold two runs against each other, problem by problem.

    Example: thyme eval compare runs/before runs/after --out compared.html
    """
    eval_work.write_comparison(one, other, out)
