"""One run in several processes: on this machine, or on a Ray cluster. Each asks its part, into the same folder."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from thyme.errors import EngineError, MissingExtraError, ThymeError, UsageError
from thyme.eval.run.sources import Shard

Part = Callable[[Shard], None]
"""Asks one part of a run; it goes to other processes, so it must be picklable."""

DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Spread:
    """Into how many processes, and where."""

    parts: int
    where: Literal["here", "ray"] = "here"
    cpus: float = 1.0
    """Processors that Ray reserves for each."""
    gpus: float = 0.0
    """GPUs that Ray reserves for each."""

    def run(self, part: Part) -> None:
        """Ask all parts at once, and wait for them.

        Raises:
            UsageError: A part was refused.
            EngineError: A part failed; what was asked is kept.
            MissingExtraError: Ray is not installed.
        """
        if self.parts < 1:
            raise UsageError(f"{self.parts} processes; take at least one")
        shards = [Shard(number, self.parts) for number in range(self.parts)]
        if self.where == "ray":
            self._on_ray(part, shards)
        else:
            _here(part, shards)

    def _on_ray(self, part: Part, shards: Sequence[Shard]) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("an evaluation on a cluster", "cluster") from error
        if not ray.is_initialized():
            ray.init()
        task: Any = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)(part_far)
        waiting = [task.remote(part, shard) for shard in shards]
        failed = [told for told in map(_Far(ray).told, waiting) if told is not None]
        _conclude(failed, len(shards))


@dataclass(frozen=True)
class _Far:
    ray: Any

    def told(self, waiting: Any) -> str | None:
        """What went wrong with a part; None where nothing did."""
        try:
            told: str | None = self.ray.get(waiting)
        except self.ray.exceptions.RayError as error:
            return f"its process was lost: {str(error)[:500]}"
        return told


def part_far(part: Part, shard: Shard) -> str | None:
    """Ask a part on another machine, which then tells what went wrong."""
    try:
        part(shard)
    except ThymeError as error:
        return f"part {shard.number}: {error}"
    return None


def _here(part: Part, shards: Sequence[Shard]) -> None:
    """In fresh processes of this machine, each with a GPU of its own where `DEVICES` names enough of them."""
    context = multiprocessing.get_context("spawn")
    devices = [device for device in os.environ.get(DEVICES, "").split(",") if device]
    processes: list[BaseProcess] = []
    try:
        for shard in shards:
            device = devices[shard.number] if len(devices) >= len(shards) > 1 else None
            processes.append(context.Process(target=part_here, args=(part, shard, device), name=f"part {shard.number}"))
            processes[-1].start()
        for process in processes:
            process.join()
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join()
    codes = {process.exitcode for process in processes}
    failed = [f"{process.name} ended with code {process.exitcode}" for process in processes if process.exitcode]
    if 2 in codes:
        raise UsageError(f"{'; '.join(failed)}; what it said stands above")
    _conclude(failed, len(shards))


def part_here(part: Part, shard: Shard, device: str | None) -> None:
    """Ask a part in a process that was made for it, and end it with the code of a command."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(format="thyme: %(message)s", level=logging.WARNING)
    if device is not None:
        os.environ[DEVICES] = device
    try:
        part(shard)
    except ThymeError as error:
        sys.stderr.write(f"thyme: part {shard.number}: {error}\n")
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:  # the process that started this one was interrupted, too, and says so
        sys.exit(130)


def _end_with_parent() -> None:
    """End this process when the one that started it was killed: nobody would know that it still asks."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _conclude(failed: Sequence[str], parts: int) -> None:
    if failed:
        raise EngineError(
            f"{len(failed)} of {parts} parts failed: {'; '.join(failed)}; what was asked is kept, and the same command "
            "goes on from there"
        )
