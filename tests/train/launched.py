"""Starts `distributed_worker` in one process or, by a shipped launch recipe, in two. Not a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from thyme.train.arguments import CHECKPOINTS
from thyme.train.distributed import launcher

WORKER = Path(__file__).parent / "distributed_worker.py"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "DS_ACCELERATOR": "cpu",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}

Plan = dict[str, Any]


def plan(
    base: Path,
    *,
    mixture: str = "halves",
    streamed: bool = False,
    resume: bool = False,
    resume_from: tuple[int, int] | None = None,
    die: bool = False,
    recipe: Path | None = None,
    **settings: Any,
) -> Plan:
    """A run over eight samples, two a step; or one of `run_recipes`.

    Args:
        base: What it starts from.
        mixture: Of `distributed_worker.MIXTURES`.
        streamed: Whether the samples come from a stream.
        resume: Whether it goes on with what lies in its folder.
        resume_from: A run before it and the step of one of its checkpoints: it goes on there, in its own folder.
        die: Whether the second process is killed before the third step.
        recipe: File of a recipe that is followed instead, stages and evaluation and all.
        settings: Those that differ.
    """
    common = {"epochs": 1, "learning_rate": 2e-3, "log_steps": 1, "device": "cpu", "bf16": False}
    common |= {"group_by_length": False, "batch_size": 2}
    return {
        "base": str(base),
        "mixture": mixture,
        "streamed": streamed,
        "resume": resume,
        "resume_from": resume_from,
        "die": die,
        "recipe": None if recipe is None else str(recipe),
        "settings": common | settings,
    }


def placed(made: Plan, out: Path, place: int, processes: int) -> Plan:
    """The run for several processes, as many samples a step, in its folder."""
    settings = made["settings"] | {"batch_size": made["settings"]["batch_size"] // processes}
    before = made["resume_from"]
    start = str(out / str(before[0]) / CHECKPOINTS / f"checkpoint-{before[1]}") if before else None
    return made | {"settings": settings, "out": str(out / str(place)), "resume_from": start}


def start(
    plans: Sequence[Plan], out: Path, recipe: str | None = None, *, patience: int = 300
) -> subprocess.CompletedProcess[str]:
    """Run all plans in turn, in folders of `out` by their places; hanging processes are ended.

    Args:
        plans: What to do.
        out: Folder.
        recipe: Launch recipe for two processes; None: one process.
        patience: Seconds after which a process that is still there says where it stands, and ends.
    """
    processes = 1 if recipe is None else 2
    placed_plans = [placed(one, out, place, processes) for place, one in enumerate(plans)]
    return launch(WORKER, placed_plans, out, recipe, patience=patience)


def launch(
    worker: Path, plans: Sequence[Plan], out: Path, recipe: str | None, *, patience: int
) -> subprocess.CompletedProcess[str]:
    """Hand plans to a worker, in one process or in two, in folders that they name themselves.

    Args:
        worker: A program that is given the plans' file and its patience.
        plans: What to do.
        out: Folder of the plans' file, ``plans.json``; made if missing.
        recipe: See `start`.
        patience: See `start`.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "plans.json"
    file.write_text(json.dumps(plans))
    return subprocess.run(
        [*launching(recipe), str(worker), str(file), str(patience)],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=patience + 60,
        check=False,
    )


def launching(recipe: str | None, *more: str) -> list[str]:
    """The command before the program: Python, or accelerate's launcher for two processes.

    Args:
        recipe: Launch recipe; None: one process.
        more: Further words for the launcher.
    """
    if recipe is None:
        return [sys.executable]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launcher(recipe))]
    return [*launch, "--num_processes", "2", *(more or ("--main_process_port", "0"))]


def reports(plans: Sequence[Plan], out: Path, recipe: str | None = None, *, patience: int = 300) -> list[list[Any]]:
    """The report of each process for each plan."""
    return told(start(plans, out, recipe, patience=patience), out)


def told(done: subprocess.CompletedProcess[str], out: Path) -> list[list[Any]]:
    """The report of each process for each plan of `out`; what was said where the launcher failed."""
    assert done.returncode == 0, done.stderr[-6000:]
    found: list[list[Any]] = json.loads((out / "plans.reports").read_text())
    return found


def files(folder: Path) -> list[str]:
    """What lies in the folder of a run, resumable checkpoints left out."""
    inside = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in inside if path.parts[0] != "checkpoints")


def distance(one: Path, other: Path) -> float:
    """Largest difference between the weights of two checkpoints of equal names, types and shapes."""
    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert {name: (t.dtype, t.shape) for name, t in a.items()} == {name: (t.dtype, t.shape) for name, t in b.items()}
    return max(float((a[name] - b[name]).abs().max()) for name in a)
