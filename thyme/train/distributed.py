"""The processes of a run: who is who, and how they tell each other things. One process alone is rank 0 of 1.

A launcher (``torchrun``, ``accelerate launch``) starts the processes and tells each its rank; all of them run the same
program. Whatever talks here (`barrier`, `gather`, `broadcast`, `agreed`) must be called by all of them, in the same
order. What they say goes over a group of its own on the CPU, whose patience is long: the others may wait while the main
process evaluates, and a process that died breaks the connection at once.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from thyme.errors import ThymeError, UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

_LAUNCHERS = Path(__file__).parent.parent / "recipes" / "accelerate"

_PATIENCE = timedelta(days=1)
"""How long processes wait for one another here; a step of training has accelerate's own, shorter limit."""


def rank() -> int:
    """Number of this process, from 0; that of the launcher before the processes are connected."""
    if _connected():
        from torch import distributed

        return distributed.get_rank()
    return int(os.environ.get("RANK", 0)) if world_size() > 1 else 0


def world_size() -> int:
    """Number of processes of the run."""
    if _connected():
        from torch import distributed

        return distributed.get_world_size()
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    gather(None)


def gather(item: T) -> list[T]:
    """What each process gives, in the order of their ranks; all processes get all of it.

    Args:
        item: Something that can be pickled; small, for it travels over the CPU.
    """
    if world_size() == 1:
        return [item]
    from torch import distributed

    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, item, group=_group())
    return found


def broadcast(item: T) -> T:
    """What the main process gives; what the others give is not looked at.

    Args:
        item: Something that can be pickled.
    """
    if world_size() == 1:
        return item
    from torch import distributed

    said = [item]
    distributed.broadcast_object_list(said, src=0, group=_group())
    return said[0]


def agreed(work: Callable[[], T]) -> T:
    """What the main process finds, for all of them; its error is that of all.

    Args:
        work: Done by the main process alone; what it gives can be pickled.

    Raises:
        ThymeError: The work raised it.
    """
    found: Any = None
    if is_main():
        try:
            found = work()
        except ThymeError as error:
            found = error
    found = broadcast(found)
    if isinstance(found, ThymeError):
        raise found
    made: T = found
    return made


def sharding() -> bool:
    """Whether FSDP or DeepSpeed trains, as the launcher says: at least gradients and optimiser are spread then."""
    return _launched_with("FSDP") or _launched_with("DEEPSPEED")


def split_weights() -> str:
    """What spreads the weights themselves, so that no process has all of them: ``fsdp``, ``zero3``, or nothing."""
    if _launched_with("FSDP"):
        return "fsdp"
    return "zero3" if _launched_with("DEEPSPEED") and _zero_stage() == 3 else ""


def _launched_with(name: str) -> bool:
    """As accelerate itself asks."""
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"


def _zero_stage() -> int:
    """Stage of ZeRO, from DeepSpeed's own file where the launcher was given one, else from accelerate's settings."""
    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "")
    if file and Path(file).is_file():
        stage = json.loads(Path(file).read_text(encoding="utf-8")).get("zero_optimization", {}).get("stage", 0)
        return int(stage)
    return int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))


def own_device(*, cpu: bool) -> torch.device:
    """Where this process puts its model: its own GPU. What will be spread waits on the CPU for its parts to be taken.

    Args:
        cpu: Whether the run is on the CPU.
    """
    import torch

    if cpu or sharding():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def connect() -> None:
    """Connect the processes, if there are several and nobody has yet. All of them must call it."""
    if world_size() == 1 or _connected():
        return
    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        # Both, because a run may train on the CPU of a machine that has GPUs.
        distributed.init_process_group("cpu:gloo,cuda:nccl")
    else:
        distributed.init_process_group("gloo")
        atexit.register(leave)  # gloo's threads would abort an interpreter that ends before them


def leave() -> None:
    """Part from the other processes, at the end of a run that went well: NCCL complains if nobody does."""
    if _connected():
        from torch import distributed

        _group.cache_clear()
        distributed.destroy_process_group()


def launcher(name: str) -> Path:
    """File of a shipped launch recipe, for ``accelerate launch --config_file``.

    Args:
        name: ``ddp``, ``fsdp2``, ``fsdp2_offload``, ``zero2`` or ``zero3``.

    Raises:
        UsageError: There is none of that name.
    """
    found = {path.stem: path for path in sorted(_LAUNCHERS.glob("*.yaml"))}
    if name not in found:
        raise UsageError(f"there is no launch recipe '{name}'; there are: {', '.join(found)}")
    return found[name]


def _connected() -> bool:
    """Whether the processes are connected; does not import torch to find that out."""
    if "torch.distributed" not in sys.modules:
        return False
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


@cache
def _group() -> Any:
    """The group for messages; connects the processes if nobody has yet."""
    from torch import distributed

    connect()
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)


if __name__ == "__main__":
    try:
        print(launcher(*sys.argv[1:2] or [""]))  # noqa: T201  # it is what this command is for
    except UsageError as error:
        print(f"thyme: {error}", file=sys.stderr)  # noqa: T201  # as the command does
        sys.exit(2)
