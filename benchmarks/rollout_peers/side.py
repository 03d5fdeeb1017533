"""A side's process, as the benchmark sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollout_peers.protocol import Result, Work

_HERE = Path(__file__).parent


class SideError(RuntimeError):
    """A side does not run, or did other work than it was asked for."""


@dataclass(frozen=True)
class Kind:
    """How a side is started."""

    module: str
    arguments: tuple[str, ...] = ()


KINDS = {
    "thyme": Kind("rollout_peers.ours"),
    "re-encoding, one by one": Kind("rollout_peers.reencode", ("one",)),
    "re-encoding, batched": Kind("rollout_peers.reencode", ("batched",)),
    "vLLM": Kind("rollout_peers.vllm_side"),
}


class Side:
    """Sends commands to a side and checks that it wrote the script's tokens."""

    def __init__(self, name: str, process: subprocess.Popen[str], work: Work, log: Path) -> None:
        self.name = name
        self._process, self._work, self._log = process, work, log

    def wait(self) -> None:
        """Wait until it is ready.

        Raises:
            SideError: It broke down.
        """
        self._read()

    def run(self, count: int, *, score: bool = False) -> Result:
        """Do the first `count` trajectories.

        Raises:
            SideError: It broke down, or wrote other tokens.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"count": count, "score": score}) + "\n")
        self._process.stdin.flush()
        result = Result(**self._read())
        if result.written != [script.written for script in self._work.scripts[:count]]:
            raise SideError(f"{self.name} wrote other tokens than the script's")
        return result

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise SideError(f"{self.name} ended with exit code {self._process.wait()}:\n{tail}")
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def started(name: str, work: Work, vllm: Path) -> Iterator[Side]:
    """A side that is getting ready; its process ends with the block.

    Args:
        name: One of `KINDS`.
        work: What is to be done, saved.
        vllm: The Python of vLLM's environment.
    """
    kind = KINDS[name]
    python = str(vllm) if name == "vLLM" else sys.executable
    log = work.folder / f"{kind.module}-{'-'.join(kind.arguments)}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [python, "-m", kind.module, str(work.folder / "work.json"), *kind.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | _environment(work.threads),
        )
    try:
        yield Side(name, process, work, log)
    finally:
        process.kill()
        process.communicate()


def _environment(threads: int) -> dict[str, str]:
    """The same for everybody; what begins with VLLM only vLLM reads."""
    return {
        "PYTHONPATH": str(_HERE.parent),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
