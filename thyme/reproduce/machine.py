"""What a result has to say about the machine and the code that it was made with."""

from __future__ import annotations

import os
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine, python_version

_ROOT = Path(__file__).parents[2]
_LIBRARIES = ("thyme-vl", "torch", "transformers", "trl", "numpy", "pillow")


def processor() -> str | None:
    """Name of the processor; None where the kernel does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, None) or machine() or None


def memory_gib() -> float | None:
    """Memory of the machine."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0))


def gpu() -> str | None:
    """Name of the first GPU that its driver tells of; None without one."""
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(told.stdout.splitlines()), "").strip() or None


def commit(root: Path = _ROOT, *parts: str) -> str | None:
    """Commit of the code, with a plus sign where it was changed since; None outside of a checkout.

    Args:
        root: Of the checkout.
        parts: Folders in it that count as the code; the package alone by default.
    """
    if not (root / ".git").exists():  # else git would tell of a checkout further up
        return None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *(parts or ("thyme",)))
    return None if head is None else head + "+" * bool(changed)


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Of Python and the libraries that matter; one that is not installed is left out."""
    found = {"python": python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def spent() -> tuple[float, float]:
    """CPU seconds of this process and of those it waited for, and its largest resident size, MiB."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses), uses[0].ru_maxrss / 1024
