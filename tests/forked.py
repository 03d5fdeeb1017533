"""The command in a fresh fork of a process that has the heavy libraries loaded.

Loading torch and transformers takes five seconds of CPU; a suite that runs dozens of commands pays them once. A fork
has nothing else in common with the one before it: its own folder, arguments, output and memory.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HEAVY = ("torch", "transformers.modeling_utils", "thyme.engines.transformers", "thyme.families")
"""Loaded once."""
_FORKS = multiprocessing.get_context("forkserver")


def thyme(words: Sequence[str], folder: Path, *, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command to its end.

    Args:
        words: Its arguments.
        folder: Where it runs.
        timeout_s: After it the command is killed.

    Raises:
        subprocess.TimeoutExpired: It took longer.
    """
    _FORKS.set_forkserver_preload(list(HEAVY))
    with tempfile.TemporaryDirectory() as kept:
        out, err = Path(kept, "out"), Path(kept, "err")
        process = _FORKS.Process(target=_run, args=(list(words), folder, out, err))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["thyme", *words], timeout_s)
        said = [path.read_text(encoding="utf-8") if path.exists() else "" for path in (out, err)]
        return subprocess.CompletedProcess(["thyme", *words], process.exitcode, *said)


def _run(words: list[str], folder: Path, out: Path, err: Path) -> None:
    os.chdir(folder)
    for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["thyme", *words]
    from thyme.cli import main

    main()
