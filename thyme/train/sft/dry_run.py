"""A look at what a recipe would do: data, first samples, steps, memory. No weights are loaded and nothing is trained.

Of long sources only the first rows are read and encoded; what is said of the rest is reckoned from them, and marked so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thyme.config.sft import SFTSettings
from thyme.config.sft_recipe import SFTRecipe, StageRecipe
from thyme.config.training import DataSource
from thyme.errors import MissingExtraError, ModelNotFoundError
from thyme.families import Family, load_family
from thyme.train.batches.vision import FreshPixels
from thyme.train.data.loader import Collator
from thyme.train.data.rows import Reader
from thyme.train.data.samples import Samples, is_by_place, is_stream
from thyme.train.data.sources import count_rows, open_samples
from thyme.train.distributed import world_size
from thyme.train.encode import Encoded
from thyme.train.evaluate import ProblemReader, check_evaluation, evaluation_problems
from thyme.train.memory.cost import UTILISATION, Load, cost
from thyme.train.memory.estimate import estimate
from thyme.train.memory.words import known_config, memory_words
from thyme.train.report.preview import preview
from thyme.train.run.records import SourceReport
from thyme.train.run.tracking import check_trackers
from thyme.train.sft.arguments import steps_of_stream
from thyme.train.sft.stages import check_stage

ROWS = 128
"""Rows of a source that are read and encoded."""
SHOWN = 2
"""Samples of a stage that are shown."""
_CHARACTERS = 3000
_DEVICES = ("rtx-4090", "a100", "h100")
_A_MINUTE = 1 / 60
"""In hours."""


@dataclass(frozen=True)
class Outlook:
    """What a stage would be; reckoned from the rows that were looked at."""

    samples: int
    """In one epoch, repeats counted."""
    tokens: int
    """In one epoch."""
    longest: int
    """Tokens of the longest sample seen."""
    patches: int
    """Of the images of the sample with the most."""
    step_samples: int
    """Samples of one optimiser step (rows, where they are packed), over all processes."""
    steps: int
    load: Load
    """The typical sample."""
    exact: bool
    """Whether every row was looked at."""

    def samples_in_all(self, settings: SFTSettings) -> float:
        """Samples that go through the model in the whole stage."""
        if settings.max_steps is None:
            return self.samples * settings.epochs
        packed = settings.packed_tokens / max(1, self.load.tokens) if settings.packing else 1
        return self.step_samples * packed * self.steps


def dry_run(
    recipe: SFTRecipe,
    model: str | Path,
    readers: Mapping[str, Reader],
    problem_readers: Mapping[str, ProblemReader],
    *,
    only: str | None,
    console: Console,
    rows: int = ROWS,
) -> dict[str, Outlook]:
    """Check a recipe and say what it would do.

    Args:
        recipe: The recipe.
        model: What ``recipe.model`` stands for.
        readers: Readers of more formats of samples.
        problem_readers: Readers of more formats of problems.
        only: The one stage to look at.
        console: Where it is said.
        rows: Rows of each source to look at.

    Returns:
        What each stage would be; empty where the tokenizer is not at hand.

    Raises:
        UsageError: The recipe cannot be followed.
        StoreError: Data cannot be read.
        MissingExtraError: A tracker is not installed.
    """
    check_trackers(recipe.tracking.trackers)
    names = list(recipe.stages) if only is None else [check_stage(recipe, only)]
    family = _family(recipe, model, console)
    config = known_config(model)
    if recipe.evaluation is not None:
        if family is not None:
            check_evaluation(recipe.evaluation, family)
        problems = evaluation_problems(recipe.evaluation.data, problem_readers)
        console.print(f"evaluation: {len(problems)} problems ({recipe.evaluation.data.format})", markup=False)
    found: dict[str, Outlook] = {}
    for name in names:
        stage = recipe.stages[name]
        console.print(Text(f"\nstage {name}", style="bold"))
        outlook = None
        if family is not None:
            found[name] = outlook = _look(recipe, stage, family, readers, console, rows)
        _say_memory(config, recipe, stage.train, outlook, console)
        if family is None:
            _say_rows(stage, readers, console)  # last: without a network the hub's data are out of reach, too
        if config is not None and outlook is not None:
            console.print(_cost(config, stage.train, outlook))
    return found


def _family(recipe: SFTRecipe, model: str | Path, console: Console) -> Family | None:
    """The family, or None where its files are not at hand."""
    try:
        return load_family(model, min_pixels=recipe.min_pixels, max_pixels=recipe.max_pixels)
    except (ModelNotFoundError, MissingExtraError) as error:
        if isinstance(model, Path) or Path(model).expanduser().exists() or known_config(model) is None:
            raise
        console.print(
            f"not at hand: tokenizer and image settings of {model} ({error}). Samples cannot be encoded here; rows are "
            "counted, and memory is reckoned from the model's known layout",
            markup=False,
        )
        return None


def _say_rows(stage: StageRecipe, readers: Mapping[str, Reader], console: Console) -> None:
    for name, source in stage.data.items():
        console.print(f"{name} ({source.format}): {count_rows(source, readers)} rows", markup=False)


def _look(
    recipe: SFTRecipe,
    stage: StageRecipe,
    family: Family,
    readers: Mapping[str, Reader],
    console: Console,
    rows: int,
) -> Outlook:
    """Encode the first rows of each source, show some, and reckon."""
    small = {name: _first(source, rows) for name, source in stage.data.items()}
    samples, reports = open_samples(small, stage.mask, recipe, family, readers, console=console)
    totals = [count_rows(source, readers) for source in stage.data.values()]
    if is_stream(samples):
        first = samples.first(rows)
    else:
        first = [samples[index] for index in range(min(len(samples), stage.train.batch_size))]
        console.print(composition(reports, totals))
    console.print(_batch(first[: stage.train.batch_size], family, stage.train))
    console.print(preview(first[:SHOWN], family, limit=_CHARACTERS))
    outlook = reckon(reports, totals, samples if not is_stream(samples) else first, stage.train)
    console.print(_described(outlook, stage.train))
    return outlook


def _first(source: DataSource, rows: int) -> DataSource:
    return source.model_copy(update={"limit": min(rows, source.limit or rows)})


def composition(reports: Sequence[SourceReport], totals: Sequence[int]) -> Table:
    """Sources and what became of the rows that were looked at.

    Args:
        reports: One a source.
        totals: All rows of each.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("source", "rows", "looked at", "usable", "dropped", "tokens", "trained", "images", "mask", "repeat"):
        table.add_column(name, justify="left" if name in {"source", "dropped", "mask"} else "right")
    for report, total in zip(reports, totals, strict=True):
        usable = max(1, report.samples)
        table.add_row(
            f"{report.name} ({report.format})",
            str(total),
            str(report.rows),
            str(report.samples),
            ", ".join(f"{count} {reason}" for reason, count in report.drops.items()) or "-",
            f"{report.tokens / usable:.0f}",
            f"{report.trained_tokens / max(1, report.tokens):.0%}",
            f"{report.images / usable:.1f}",
            report.mask,
            str(report.repeat),
        )
    return table


def reckon(
    reports: Sequence[SourceReport],
    totals: Sequence[int],
    looked_at: Samples | Sequence[Encoded],
    settings: SFTSettings,
) -> Outlook:
    """What a stage would be.

    Args:
        reports: One a source.
        totals: All rows of each source.
        looked_at: Samples by place; or the first ones of a stream, which does not know yet what it will drop.
        settings: How they would be trained on.

    Raises:
        ConfigError: How many steps a stream makes is not known, and there is no `max_steps`.
    """
    encoded = [looked_at[index] for index in range(min(len(looked_at), ROWS))]
    weighed = list(zip(reports, totals, strict=True))
    if is_by_place(looked_at):
        shares = [total / max(1, report.rows) * report.repeat for report, total in weighed]  # a file may be empty
        samples = sum(report.samples * share for report, share in zip(reports, shares, strict=True))
        tokens = sum(report.tokens * share for report, share in zip(reports, shares, strict=True))
        rows = math.ceil(tokens / settings.packed_tokens) if settings.packing else round(samples)
        in_all, longest = settings.max_steps or steps(rows, settings, world_size()), max(looked_at.lengths)
    else:
        samples = sum(total * report.repeat for report, total in weighed)
        tokens = samples * sum(map(len, encoded)) / len(encoded)
        in_all, longest = steps_of_stream(round(samples), settings), max(map(len, encoded))
    load = Load(
        tokens=round(tokens / max(1.0, samples)),
        targets=_mean([sample.trained for sample in encoded]),
        patches=_mean([_patches(sample) for sample in encoded]),
        images=max(1, _mean([len(sample.images) for sample in encoded])),
    )
    return Outlook(
        samples=round(samples),
        tokens=round(tokens),
        longest=longest,
        patches=max(map(_patches, encoded)),
        step_samples=settings.batch_size * settings.accumulation * world_size(),
        steps=in_all,
        load=load,
        exact=is_by_place(looked_at) and not settings.packing and all(r.rows == total for r, total in weighed),
    )


def _patches(sample: Encoded) -> int:
    return sum(math.prod(grid) for grid in sample.grids)


def _mean(numbers: Sequence[int]) -> int:
    return round(sum(numbers) / len(numbers))


def steps(rows: int, settings: SFTSettings, processes: int) -> int:
    """Optimiser steps of a stage, as the trainer counts them.

    Args:
        rows: Rows of an epoch: samples, or packed rows.
        settings: Batch, accumulation, epochs.
        processes: That share the rows.
    """
    batches = math.ceil(rows / (settings.batch_size * processes))
    return math.ceil(settings.epochs * max(1, math.ceil(batches / settings.accumulation)))


def _batch(samples: Sequence[Encoded], family: Family, settings: SFTSettings) -> str:
    """The shapes of a first batch, made as training makes it."""
    collator = Collator(FreshPixels(family), family, settings.pad_to_multiple, settings.packing)
    numbered = list(enumerate(samples))
    batch = collator([numbered] if settings.packing else [[one] for one in numbered])
    shapes = ", ".join(
        f"{name} {'x'.join(map(str, value.shape))}" for name, value in batch.items() if hasattr(value, "shape")
    )
    return f"a first batch: {shapes}"


def _described(outlook: Outlook, settings: SFTSettings) -> str:
    about = "" if outlook.exact else "about "
    millions = outlook.samples_in_all(settings) * outlook.load.tokens / 1e6
    unit = "packed rows" if settings.packing else "samples"
    return (
        f"{about}{outlook.samples} samples and {outlook.tokens / 1e6:.3g} M tokens an epoch; a step is "
        f"{outlook.step_samples} {unit} ({settings.batch_size} x {settings.accumulation} x {world_size()} "
        f"process{'es' if world_size() > 1 else ''}); {about}{outlook.steps} steps, {millions:.3g} M tokens in all"
    )


def _say_memory(
    config: dict[str, Any] | None, recipe: SFTRecipe, settings: SFTSettings, outlook: Outlook | None, console: Console
) -> None:
    """Memory with the longest sample seen, and with the longest allowed."""
    if config is None:
        console.print("memory: not reckoned, the model's configuration is not at hand")
        return
    device: Any = "cpu" if settings.device == "cpu" else "cuda"
    longest = {"longest allowed": recipe.max_tokens}
    if outlook is not None:
        longest = {"longest seen": outlook.longest, **longest}
    for name, tokens in longest.items():
        seen = outlook is not None and name == "longest seen"
        # Without a sample in hand: as many patches as tokens could stand for, four to a token.
        patches = outlook.patches if outlook is not None and seen else 4 * tokens
        row = settings.packed_tokens if settings.packing else tokens
        found = estimate(
            config, settings, tokens=row * settings.batch_size, patches=patches * settings.batch_size, device=device
        )
        console.print(memory_words(name, tokens, found, device))


def _cost(config: dict[str, Any], settings: SFTSettings, outlook: Outlook) -> str:
    found = cost(config, settings, outlook.load, samples=outlook.samples_in_all(settings))
    operations = f"cost, estimated: {found.operations:.2e} operations"
    if settings.device == "cpu":
        return operations
    hours = {device: found.gpu_hours(device) for device in _DEVICES}
    if max(hours.values()) < _A_MINUTE:
        return f"{operations}, less than a minute on a GPU"
    each = ", ".join(f"{needed:.3g} h on one {device}" for device, needed in hours.items())
    return f"{operations}; at {UTILISATION:.0%} of the data sheet's bfloat16 peak {each}"
