"""Plans of GRPO for `grpo_worker`, in one process and in two. Not a test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import launched
import pytest

from thyme.train.arguments import CHECKPOINTS

WORKER = Path(__file__).parent / "grpo_worker.py"


def plan(
    base: Path,
    *,
    roller: dict[str, Any] | None = None,
    resume: bool = False,
    resume_from: tuple[int, int] | None = None,
    die: bool = False,
    real: bool | str = False,
    copies: bool = False,
    **settings: Any,
) -> launched.Plan:
    """A run of four problems a step, two rollouts each.

    Args:
        base: What it starts from.
        roller: Fields of `grpo_made.MadeRoller`.
        resume: Whether it goes on with what lies in its folder.
        resume_from: A run before it and the step of one of its checkpoints: it goes on there, in its own folder.
        die: Whether the second process is killed before the third step.
        real: Whether rollouts are drawn from the model in training, code run in the sandbox, and scored by rules;
            ``vllm``: drawn by a vLLM in each process.
        copies: Whether a copy of the weights is brought up to date in each step, and kept in the folder of the run.
        settings: Those that differ.
    """
    common = {"max_steps": 2, "problems": 4, "group": 2, "batch_size": 2, "beta": 0.0, "learning_rate": 1e-3}
    common |= {"device": "cpu", "bf16": False, "warmup": 0.0, "schedule": "constant"}
    return {
        "base": str(base),
        "roller": roller or {},
        "resume": resume,
        "resume_from": resume_from,
        "die": die,
        "real": real,
        "copies": copies,
        "settings": common | settings,
    }


def start(
    plans: Sequence[launched.Plan], out: Path, recipe: str | None = None, *, patience: int = 300
) -> subprocess.CompletedProcess[str]:
    """Run all plans in turn, in folders of `out` by their places; see `launched.start`."""
    return launched.launch(WORKER, placed(plans, out), out, recipe, patience=patience)


def placed(plans: Sequence[launched.Plan], out: Path) -> list[launched.Plan]:
    """Plans in folders of `out` by their places."""
    made = []
    for place, one in enumerate(plans):
        before = one["resume_from"]
        checkpoint = str(out / str(before[0]) / CHECKPOINTS / f"checkpoint-{before[1]}") if before else None
        made.append(one | {"out": str(out / str(place)), "resume_from": checkpoint})
    return made


def reports(
    plans: Sequence[launched.Plan], out: Path, recipe: str | None = None, *, patience: int = 300
) -> list[list[Any]]:
    """What each process was told of each plan."""
    return launched.told(start(plans, out, recipe, patience=patience), out)


def nodes(plans: Sequence[launched.Plan], out: Path, recipe: str, *, patience: int = 300) -> list[list[Any]]:
    """What each process was told, where two launchers, both on this machine, start one process each."""
    out.mkdir(parents=True)
    file = out / "plans.json"
    file.write_text(json.dumps(placed(plans, out)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = ["--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", port]
    started = [
        subprocess.Popen(
            [
                *launched.launching(recipe, *together, "--machine_rank", str(rank)),
                str(WORKER),
                str(file),
                str(patience),
            ],
            env=os.environ | launched.ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [node.communicate(timeout=patience + 60)[1] for node in started]
    finally:
        for node in started:
            node.kill()  # nothing where it has ended
    failed = [f"node {rank}: {text[-6000:]}" for rank, text in enumerate(said) if started[rank].returncode]
    assert not failed, "\n".join(failed)
    found: list[list[Any]] = json.loads((out / "plans.reports").read_text())
    return found


def assert_alike(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 2e-5) -> None:
    """Figures of a step; those of a group of figures one by one.

    A gap of sampler and trainer on the same weights is nothing but what float32 leaves between batches of other sizes,
    so there is less to compare.
    """
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_alike(found[name], value, 2e-4 if name == "gaps" else tolerance)
        else:
            assert found[name] == (value if value is None else pytest.approx(value, rel=1e-3, abs=tolerance)), name
