"""The ablations of `thyme.nano` as steps: the arms of a seed, and what all seeds say together."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from thyme.nano.ablation.arms import ARMS, AblationSettings
from thyme.nano.ablation.arms import SMOKE as SFT_SMOKE
from thyme.nano.ablation.jobs import ArmResult
from thyme.nano.ablation.report import Ablation
from thyme.nano.ablation.run import run as ablate_sft
from thyme.nano.grpo_ablation.arms import SMOKE as GRPO_SMOKE
from thyme.nano.grpo_ablation.arms import STARTS, GRPOAblationSettings, arms_of
from thyme.nano.grpo_ablation.findings import Findings
from thyme.nano.grpo_ablation.jobs import BUILD, Job, arm_folder, do, read_arm, read_start, start_folder
from thyme.nano.grpo_ablation.records import GRPOArmResult, StartResult
from thyme.nano.grpo_ablation.report import markdown as grpo_tables
from thyme.nano.grpo_ablation.report import write as write_grpo
from thyme.nano.grpo_ablation.run import run as ablate_grpo
from thyme.nano.jobs import is_done
from thyme.reproduce.runner import Doing

Figures = dict[str, Any]
TABLES = "tables"
"""Among the figures of an ablation: all of them as tables, for a page."""


def sft_arms(doing: Doing) -> Figures:
    """Train and ask every arm of the ablation of fine-tuning with one seed."""
    quiet = Console(file=io.StringIO())
    results = ablate_sft(doing.folder, _sft(doing), seeds=(doing.settings["seed"],), arms=list(ARMS), console=quiet)
    return {"results": [result.model_dump(mode="json") for result in results]}


def sft_ablation(doing: Doing) -> Figures:
    """Differences over the seeds."""
    told = (result for before in doing.before.values() for result in before.figures["results"])
    found = Ablation.of([ArmResult.model_validate(result) for result in told], _sft(doing), None)
    found.write(doing.folder)
    return {**found.as_json(), TABLES: found.markdown()}


def _sft(doing: Doing) -> AblationSettings:
    return SFT_SMOKE if doing.settings["smoke"] else AblationSettings()


def grpo_starts(doing: Doing) -> Figures:
    """Make the starts of the ablation of GRPO, once for all seeds."""
    jobs = [Job(start, BUILD, 0, doing.folder, _grpo(doing)) for start in STARTS]
    for job in jobs:
        if not is_done(job.folder):
            do(job)
    return {"starts": [read_start(job.folder).model_dump(mode="json") for job in jobs]}


def grpo_arms(doing: Doing) -> Figures:
    """Train and ask every arm of the ablation of GRPO with one seed."""
    made, how, seed = doing.store.work(doing.step.inputs[0]), _grpo(doing), doing.settings["seed"]
    ablate_grpo(
        doing.folder,
        how,
        seeds=(seed,),
        given=[start_folder(made, start) for start in STARTS],
        console=Console(file=io.StringIO()),
    )
    jobs = [Job(start, arm, seed, doing.folder, how) for start in STARTS for arm in arms_of(start)]
    return {"arms": [read_arm(arm_folder(job)).model_dump(mode="json") for job in jobs]}


def grpo_ablation_together(doing: Doing) -> Figures:
    """Differences over the seeds."""
    starts, *arms = (before.figures for before in doing.before.values())
    found = Findings.of(
        [StartResult.model_validate(start) for start in starts["starts"]],
        [GRPOArmResult.model_validate(arm) for one in arms for arm in one["arms"]],
        _grpo(doing),
    )
    write_grpo(found, doing.folder)
    return {**found.model_dump(mode="json"), TABLES: grpo_tables(found)}


def _grpo(doing: Doing) -> GRPOAblationSettings:
    return GRPO_SMOKE if doing.settings["smoke"] else GRPOAblationSettings()
