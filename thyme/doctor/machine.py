"""Checks of the machine: interpreter, memory, disk, open files, browser."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from thyme.doctor.findings import Finding

LEAST: Final = (3, 11)
"""Python that the package needs."""
GIB: Final = 1 << 30
LITTLE_DISK: Final = 10 * GIB
"""Bytes below which a checkpoint of a usual size does not fit."""
LITTLE_MEMORY: Final = 4 * GIB
"""Bytes below which training the embedded model and its tests get into trouble."""
FEW_FILES: Final = 4096
"""Descriptors: each session of the sandbox takes some ten."""
_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")


def python() -> list[Finding]:
    """The interpreter."""
    said = f"{platform.python_version()} ({platform.machine()}, {sys.executable})"
    if sys.version_info < LEAST:
        return [Finding(name="Python", state="fault", said=said, mend="install Python 3.11 or newer")]
    if sys.prefix == sys.base_prefix:
        mend = "keep thyme in an environment of its own: python3 -m venv .venv && . .venv/bin/activate"
        return [Finding(name="Python", state="warning", said=f"{said}, no virtual environment", mend=mend)]
    return [Finding(name="Python", state="ok", said=said)]


def memory() -> list[Finding]:
    """Memory and processors that this process may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = min(total, _cgroup_limit() or total)
    cores = len(os.sched_getaffinity(0))
    said = f"{most / GIB:.1f} GiB, {cores} core{'s' if cores > 1 else ''}"
    if most < LITTLE_MEMORY:
        mend = "4 GiB are needed to train the embedded model; asking it takes 1 GiB"
        return [Finding(name="memory", state="warning", said=said, mend=mend)]
    return [Finding(name="memory", state="ok", said=said)]


def _cgroup_limit() -> int | None:
    try:
        return int(_CGROUP.read_text())
    except (OSError, ValueError):  # no cgroups of version 2, or "max"
        return None


def disk() -> list[Finding]:
    """Free space where runs, temporary files and downloaded models go."""
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    places = {"here": Path.cwd(), "temporary files": Path(tempfile.gettempdir()), "models": cache}
    return [_free(f"disk, {name}", path) for name, path in places.items()]


def _free(name: str, path: Path) -> Finding:
    existing = next(one for one in (path, *path.parents) if one.exists())
    free = shutil.disk_usage(existing).free
    said = f"{free / GIB:.1f} GiB free in {path}"
    if not os.access(existing, os.W_OK):
        return Finding(
            name=name, state="fault", said=f"{existing} cannot be written", mend=f"chown or chmod {existing}"
        )
    if free < LITTLE_DISK:
        return Finding(
            name=name, state="warning", said=said, mend="make room: a checkpoint of 7 billion weights has 15 GiB"
        )
    return Finding(name=name, state="ok", said=said)


def files() -> list[Finding]:
    """How many files may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"{soft} (at most {hard})"
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        mend = f"ulimit -n {FEW_FILES} before a server or an evaluation with many sessions"
        return [Finding(name="open files", state="warning", said=said, mend=mend)]
    return [Finding(name="open files", state="ok", said=said)]


def chromium() -> list[Finding]:
    """A browser: only the tests of pages need one."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        mend = "only to run the tests: apt-get install chromium"
        return [Finding(name="Chromium", state="absent", said="not installed", mend=mend)]
    mend = "reinstall it: apt-get install --reinstall chromium"
    try:
        done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Finding(name="Chromium", state="warning", said=f"{found} does not start ({error})", mend=mend)]
    if done.returncode:
        said = f"{found} does not start ({done.stderr.strip()[-200:]})"
        return [Finding(name="Chromium", state="warning", said=said, mend=mend)]
    return [Finding(name="Chromium", state="ok", said=f"{done.stdout.strip()} ({found})")]
