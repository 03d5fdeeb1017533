"""``thyme nano ablate-sft`` and ``ablate-grpo``: the paper's ablations on the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from thyme.cli import options
from thyme.cli.training import missing_extra
from thyme.config.base import Config

SettingsT = TypeVar("SettingsT", bound=Config)

Out = Annotated[Path, typer.Option(help="Folder of the run; an interrupted one goes on there.", metavar="DIR")]
PerKind = Annotated[int | None, typer.Option(min=1, help="Test problems of each kind a seed.")]
Workers = Annotated[int, typer.Option(min=1, help="Arms that are trained at a time.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="A few steps and problems; learns nothing.")]


def ablate_sft(
    out: Out,
    seeds: options.Seeds = "1,2,3",
    arms: Annotated[str, typer.Option(help="Names, separated by commas.", show_default="all")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the arms that start from the base.")] = None,
    per_kind: PerKind = None,
    demonstrations: Annotated[
        Path | None, typer.Option(help="Take demonstrations from this file instead of making them.", exists=True)
    ] = None,
    workers: Workers = 1,
    smoke: Smoke = False,
) -> None:
    """Repeat the paper's ablation of fine-tuning in miniature: masks, last round, annealing; with intervals.

    Example: thyme nano ablate-sft --out runs/ablation --seeds 1,2,3 --workers 2
    """
    options.check_folder(out, "--out")
    try:
        from thyme.nano.ablation.run import run
    except ImportError as error:
        raise missing_extra(error, "the ablation") from error
    from rich.console import Console

    from thyme.nano.ablation.arms import ARMS, SMOKE, AblationSettings
    from thyme.nano.ablation.report import Ablation

    how = _with(SMOKE if smoke else AblationSettings(), steps=steps, problems=per_kind)
    results = run(
        out,
        how,
        seeds=options.whole_numbers(seeds),
        arms=_names(arms) or list(ARMS),
        demonstrations=demonstrations,
        workers=workers,
    )
    found = Ablation.of(results, how, demonstrations)
    found.write(out)
    for table in found.tables():
        Console().print(table)


def ablate_grpo(
    out: Out,
    start: Annotated[
        Literal["weak", "injected", "careless", "all"], typer.Option(help="What the arms start from.")
    ] = "all",
    arms: Annotated[
        str, typer.Option(help="Names, separated by commas.", show_default="those that each start is for")
    ] = "",
    seeds: options.Seeds = "1,2,3",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of each arm.")] = None,
    per_kind: PerKind = None,
    given: Annotated[
        list[Path] | None, typer.Option(help="A start of another run (RUN/weak/build). Repeatable.", exists=True)
    ] = None,
    workers: Workers = 1,
    smoke: Smoke = False,
) -> None:
    """Compare arms of GRPO-ATS in miniature: temperature and policy of code, gating, repairs; with intervals.

    Example: thyme nano ablate-grpo --out runs/ablation_grpo --seeds 1,2,3 --workers 2
    """
    options.check_folder(out, "--out")
    try:
        from thyme.nano.grpo_ablation.run import run
    except ImportError as error:
        raise missing_extra(error, "the ablation") from error
    from rich.console import Console

    from thyme.nano.grpo_ablation.arms import SMOKE, STARTS, GRPOAblationSettings
    from thyme.nano.grpo_ablation.report import asked_beforehand, sentences, write
    from thyme.nano.sheets import as_tables

    found = run(
        out,
        _with(SMOKE if smoke else GRPOAblationSettings(), steps=steps, asked=per_kind),
        seeds=options.whole_numbers(seeds),
        starts=[name for name in STARTS if start in (name, "all")],
        arms=_names(arms),
        given=given or (),
        workers=workers,
    )
    write(found, out)
    for table in as_tables([asked_beforehand(found)]):
        Console().print(table)
    for line in sentences(found):
        Console().print(line, highlight=False)


def _with(how: SettingsT, **changes: Any) -> SettingsT:
    """Settings with those changes that were asked for."""
    return how.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")] if text else []
