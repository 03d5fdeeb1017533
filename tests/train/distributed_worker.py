"""One process of a run of several, for the tests: trains on made-up samples. Not a test.

accelerate knows FSDP and DeepSpeed on devices other than the CPU only. Told that the CPU is one of those, it does all
the rest as it does on GPUs, over gloo.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import run_recipes
import samples
import torch
from rich.console import Console
from transformers import TrainerCallback

from thyme.config.sft import SFTSettings
from thyme.families import Family, load_family
from thyme.train import distributed
from thyme.train.data.rows import RandomParts
from thyme.train.data.stream import StreamedSamples, StreamSource
from thyme.train.encode import Encoded, MaskPolicy, encode
from thyme.train.sft import CHECKPOINTS, train_sft
from thyme.train.sft.run import run_sft
from thyme.types import Trajectory

# Of eight samples, by name: rounds of code, each with an image, and whether the question shows one.
MIXTURES: dict[str, tuple[Callable[[int], int], Callable[[int], bool]]] = {
    "some": (lambda i: i % 3, lambda i: i % 2 == 1),
    "halves": (lambda i: 0, lambda i: i % 4 < 2),  # two and two: with two processes one has images, the other none
    "none": (lambda i: 0, lambda i: False),
}


def trajectories(family: Family, mixture: str, count: int = 8) -> list[Trajectory]:
    rounds, shown = MIXTURES[mixture]
    return [
        samples.trajectory(
            [samples.crop(i + j) for j in range(rounds(i))],
            family=family,
            images=[samples.picture(i)] if shown(i) else [],
        )
        for i in range(count)
    ]


def made_samples(family: Family, mixture: str, count: int = 8) -> list[Encoded]:
    return [encode(trajectory, family) for trajectory in trajectories(family, mixture, count)]


def streamed(family: Family, mixture: str) -> StreamedSamples:
    source = StreamSource("made", "trajectories", RandomParts(trajectories(family, mixture)), MaskPolicy.RELEASED)
    return StreamedSamples([source], family, max_tokens=10_000, buffer=4)


def call_the_cpu_a_gpu() -> None:
    from accelerate.state import DistributedType, PartialState

    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda self, *args, **kwargs: ("gloo", DistributedType.MULTI_GPU)
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        from thyme.train import arguments

        arguments.on_cpu = lambda settings: False


class Watcher(TrainerCallback):
    """Notes how much of the model this process holds; ends it in the middle of a run, where that is the plan."""

    held = 0

    def __init__(self, *, die: bool) -> None:
        self.die = die and distributed.rank() == 1

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.held = sum(
            getattr(
                parameter, "ds_tensor", parameter.to_local() if hasattr(parameter, "to_local") else parameter
            ).numel()
            for parameter in model.parameters()
        )
        if self.die and state.global_step == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def follow(path: Path, out: Path) -> dict[str, Any]:
    """A whole run from its recipe, as ``thyme sft`` does it."""
    recipe = run_recipes.read(path)
    report = run_sft(recipe, path.stem, out, prompts=Path(recipe.prompts), console=Console(file=io.StringIO()))
    return report.model_dump(mode="json")


def bring_checkpoint(plan: dict[str, Any]) -> None:
    """Copy the checkpoint that a plan goes on with into its folder, once for all processes."""
    if plan["resume_from"] is not None and distributed.is_main():
        shutil.copytree(plan["resume_from"], Path(plan["out"]) / CHECKPOINTS / Path(plan["resume_from"]).name)
    distributed.barrier()


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Train as the plan says; the report of this process."""
    if plan["recipe"] is not None:
        return follow(Path(plan["recipe"]), Path(plan["out"]))
    watcher = Watcher(die=plan["die"])
    base = Path(plan["base"])
    family = load_family(base)
    bring_checkpoint(plan)
    report = train_sft(
        (streamed if plan["streamed"] else made_samples)(family, plan["mixture"]),
        base,
        SFTSettings(**plan["settings"]),
        Path(plan["out"]),
        family=family,
        validation=made_samples(family, plan["mixture"], 3),
        resume=plan["resume"] or plan["resume_from"] is not None,
        callbacks=[watcher],
    )
    return report.model_dump(mode="json") | {"held": watcher.held}


def main(run: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Follow the plans of the file that the command line names; what all processes report goes beside it."""
    file, patience = Path(sys.argv[1]), float(sys.argv[2])
    faulthandler.dump_traceback_later(patience, exit=True)  # a process that waits for ever says where
    torch.set_num_threads(1)
    if distributed.sharding():
        call_the_cpu_a_gpu()
    reports = [distributed.gather(run(plan)) for plan in json.loads(file.read_text())]
    if distributed.is_main():
        file.with_suffix(".reports").write_text(json.dumps(reports))


if __name__ == "__main__":
    main(run)
