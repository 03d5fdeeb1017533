"""A look at what a recipe of GRPO would do: problems, steps, memory, and one group rolled out. Nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from thyme.config.grpo import GRPOSettings
from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.sft import SFTSettings
from thyme.config.training import TrainingSettings
from thyme.errors import MissingExtraError, ModelNotFoundError, UsageError
from thyme.families import Family, load_family
from thyme.families.checkpoint import find_checkpoint
from thyme.prompts import PromptSet
from thyme.train.evaluate import ProblemReader, check_evaluation, evaluation_problems
from thyme.train.grpo.arguments import forwards
from thyme.train.grpo.assembly import make_roller
from thyme.train.grpo.batch import encode_rollout
from thyme.train.grpo.draws import Draws
from thyme.train.grpo.groups import Group
from thyme.train.grpo.identity import RUN_FILE
from thyme.train.grpo.preview import preview, write_group_page
from thyme.train.grpo.problems import MixedProblems, Reader, open_problems
from thyme.train.grpo.run import check_rewards, described, steps_of
from thyme.train.memory.estimate import MemoryEstimate, estimate
from thyme.train.memory.words import known_config, memory_words, size_words
from thyme.train.run.around import starting_model
from thyme.train.run.disk import make_folder
from thyme.train.run.recipe import own_prompts
from thyme.train.run.tracking import check_trackers

_UNKNOWN_CONTEXT = 8192
"""Tokens of the longest sample where no recipe says it."""


def dry_run(
    recipe: GRPORecipe,
    name: str,
    *,
    model: str | Path,
    prompts: Path | None = None,
    readers: Mapping[str, Reader] | None = None,
    problem_readers: Mapping[str, ProblemReader] | None = None,
    console: Console,
    page: Path | None = None,
) -> Group | None:
    """Check a recipe, say what it would do, and roll the first group of its first step out with the starting weights.

    Args:
        recipe: The recipe.
        name: Of the recipe.
        model: What ``recipe.model`` stands for.
        prompts: See `thyme.train.grpo.run.run_grpo`.
        readers: Likewise.
        problem_readers: Likewise.
        console: Where it is said.
        page: Folder that the group is written into as a page too, made if missing; None writes none.

    Returns:
        The group; None where the model's files are not at hand.

    Raises:
        UsageError: The recipe cannot be followed, or the folder of the page holds a run or cannot be written.
        StoreError: Problems cannot be read.
        MissingExtraError: A tracker is not installed.
        NoVerdictError: A judge is not there.
    """
    check_trackers(recipe.tracking.trackers)
    if page is not None:
        _check_page(page)
    _say_memory(recipe, model, console)
    problems = open_problems(recipe.data, readers)
    steps = steps_of(recipe, problems)
    console.print(_sources(problems))
    console.print(described(recipe, problems, steps), markup=False, soft_wrap=True)
    console.print(_sizes(recipe.train, steps), markup=False, soft_wrap=True)
    family = _family(recipe, model, console)
    if recipe.evaluation is not None:
        if family is not None:
            check_evaluation(recipe.evaluation, family)
        asked = evaluation_problems(recipe.evaluation.data, problem_readers)
        console.print(f"evaluation: {len(asked)} problems ({recipe.evaluation.data.format})", markup=False)
    check_rewards(recipe.rewards)
    if family is None:
        return None
    words = PromptSet.load(prompts or own_prompts(model))
    group = _rolled(recipe, name, model, family, words, problems)
    console.print(preview(group, family, recipe.train))
    if page is not None:
        written = write_group_page(group, family, recipe.train, page)
        console.print(f"the group as a page: {written}", markup=False, soft_wrap=True)
    _say_seen(recipe, model, group, family, console)
    return group


def _check_page(folder: Path) -> None:
    if (folder / RUN_FILE).is_file():
        raise UsageError(f"'{folder.name}' holds a run, whose page is not to be replaced: name another folder (--out)")
    make_folder(folder, "thyme grpo")


def _family(recipe: GRPORecipe, model: str | Path, console: Console) -> Family | None:
    """The family, or None where the model is not at hand."""
    try:
        find_checkpoint(model)
        return load_family(model, min_pixels=recipe.min_pixels, max_pixels=recipe.max_pixels)
    except (ModelNotFoundError, MissingExtraError) as error:
        console.print(f"not at hand: {model} ({error}); nothing can be rolled out", markup=False, soft_wrap=True)
        return None


def _sources(problems: MixedProblems) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("source", "problems", "repeat"):
        table.add_column(name, justify="left" if name == "source" else "right")
    for source in problems.sources:
        size = "without end" if problems.endless else str(source.size)
        table.add_row(f"{source.name} ({source.format})", size, str(source.repeat))
    return table


def _sizes(settings: GRPOSettings, steps: int) -> str:
    each = settings.problems * settings.group
    return f"{each * steps} rollouts in all; {forwards(settings)} forward passes of {settings.batch_size} a step"


def _say_memory(recipe: GRPORecipe, model: str | Path, console: Console) -> None:
    """Memory of the trainer's part of a step, with the longest rollout that is allowed."""
    config = known_config(model)
    if config is None:
        console.print("memory: not reckoned, the model's configuration is not at hand")
        return
    limit = int(config.get("text_config", config).get("max_position_embeddings", _UNKNOWN_CONTEXT))
    tokens = min(recipe.engine.max_context or _UNKNOWN_CONTEXT, limit)
    found = _memory(recipe.train, config, tokens, 4 * tokens)
    console.print(memory_words("longest allowed", tokens, found, _device(recipe.train)), markup=False, soft_wrap=True)
    more = f", and the reference {size_words(found.weights)}" if recipe.train.beta and not recipe.train.lora else ""
    console.print(f"not in it: what generates (weights of a copy, key-value cache){more}", markup=False, soft_wrap=True)


def _say_seen(recipe: GRPORecipe, model: str | Path, group: Group, family: Family, console: Console) -> None:
    """The same with the longest rollout of the group."""
    config = known_config(model)
    read = (encode_rollout(member.trajectory, family, recipe.train.code_policy) for member in group.members)
    sizes = [(len(one), sum(math.prod(grid) for grid in one.encoded.grids)) for one in read if one is not None]
    if config is None or not sizes:
        return
    tokens, patches = max(sizes)
    found = _memory(recipe.train, config, tokens, patches)
    console.print(memory_words("longest seen", tokens, found, _device(recipe.train)), markup=False, soft_wrap=True)


def _memory(settings: GRPOSettings, config: Mapping[str, Any], tokens: int, patches: int) -> MemoryEstimate:
    """As of fine-tuning with the same settings: the step is the same but for its loss."""
    shared = {key: getattr(settings, key) for key in TrainingSettings.model_fields}
    alike, rows = SFTSettings(**shared, accumulation=forwards(settings)), settings.batch_size
    return estimate(config, alike, tokens=tokens * rows, patches=patches * rows, device=_device(settings))


def _device(settings: GRPOSettings) -> Literal["cpu", "cuda"]:
    return "cpu" if settings.device == "cpu" else "cuda"


def _rolled(
    recipe: GRPORecipe, name: str, model: str | Path, family: Family, words: PromptSet, problems: MixedProblems
) -> Group:
    """The first group of the first step."""
    settings, folder = recipe.train, find_checkpoint(model)
    asked = Draws(len(problems), settings.problems, settings.seed).asked(problems, 0, [0])
    with (
        TemporaryDirectory(prefix="thyme-") as cache,
        make_roller(recipe, folder, family, words, name=name, cache=Path(cache)) as roller,
    ):
        start = starting_model(model, folder, settings)
        (group,) = roller.roll(start, asked, step=0, group=settings.group)
    return group
