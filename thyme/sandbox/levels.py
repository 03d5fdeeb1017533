"""The levels of isolation, and what to do where one is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LEVELS: tuple[Literal["namespaces", "landlock"], ...] = ("namespaces", "landlock")
"""Strongest first."""

_ADVICE = {
    "namespaces": (
        "It needs Linux user and mount namespaces. On the machine itself: 'sysctl user.max_user_namespaces' must not "
        "be 0, 'kernel.unprivileged_userns_clone' (Debian) must be 1 and 'kernel.apparmor_restrict_unprivileged_userns'"
        " (Ubuntu) 0, or run as root. In a container: no capability is needed, but a filter that lets an ordinary user "
        "make user namespaces, '--user 1000 --security-opt seccomp=deploy/seccomp/thyme-sandbox.json --security-opt "
        "apparmor=unconfined' (docs/sandbox_production.md); or use the level 'landlock'."
    ),
    "landlock": (
        "It needs Linux 5.13 or later on x86-64 or aarch64, with Landlock switched on ('landlock' in "
        "/sys/kernel/security/lsm; if not, boot with 'lsm=landlock,...'). In a container the seccomp profile must "
        "allow the landlock_* calls, as those of Docker 20.10.10 and Podman 3.4 and later do."
    ),
}


def advice(level: str) -> str:
    """What the level needs and how to get it."""
    return _ADVICE[level]


@dataclass(frozen=True)
class LevelReport:
    """Whether one level is to be had here."""

    level: str
    available: bool
    reason: str = ""
    """What is missing; empty where nothing is."""
    advice: str = ""
    """How to get it; empty where it is there."""
    start_s: float = 0.0
    """Seconds until the first code had run."""


@dataclass(frozen=True)
class SandboxReport:
    """What this machine offers."""

    kernel: str
    machine: str
    landlock: int
    """Landlock's ABI version; 0 where there is none."""
    levels: tuple[LevelReport, ...]
    """Strongest first."""
    importable: tuple[str, ...]
    """Modules that code can import beside the standard library, requirements of the libraries among them."""
    libraries: dict[str, str | None]
    """Version of each library that code may import; None where it is not installed."""

    @property
    def best(self) -> str | None:
        """The strongest level there is."""
        return next((report.level for report in self.levels if report.available), None)
