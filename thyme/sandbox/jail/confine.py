"""Locking a forked session down, step by step, before it sees anything of the model's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from dataclasses import dataclass
from typing import Any

from . import kernel, landlock, root, seccomp

INPUT, OUTPUT, SCRATCH = "/mnt/data/input", "/mnt/data/temp_processed_images", "/mnt/data/tmp"
CONTROL = 3
"""Descriptor a session keeps: the stream to the broker."""

_MIB = 1 << 20
_MOST_DESCRIPTORS = 4096
_mkdir, _open = os.mkdir, os.open  # as they are before the hooks
_TMPFS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC


@dataclass(frozen=True)
class Place:
    """Where a session's files really lie."""

    prefix: str
    """Put before a virtual path it gives the real one; empty at the level ``namespaces``."""
    inputs: str
    """Folder that is shown as `INPUT`, at the level ``namespaces``."""
    readable: tuple[str, ...]
    """What the session's own Landlock layer lets it read."""

    def real(self, path: str) -> str:
        """Real place of a virtual path."""
        return self.prefix + path


def make_folders(place: Place, limits: dict[str, Any]) -> None:
    """Make the session's folders.

    Args:
        place: Where.
        limits: The limits of `SandboxConfig`.
    """
    inputs = -1
    if not place.prefix:
        kernel.unshare(kernel.CLONE_NEWNS)
        inputs = kernel.open_tree(place.inputs)
        size = f"size={limits['disk_mb'] * _MIB},nr_inodes={limits['inodes']},mode=755"
        kernel.mount("tmpfs", root.DATA, "tmpfs", _TMPFS, size)  # hides the store, of which it keeps its own folder
    parents = ("", os.path.dirname(root.DATA), root.DATA) if place.prefix else ()
    for folder in (*parents, INPUT, OUTPUT, SCRATCH):
        with contextlib.suppress(FileExistsError):  # the broker makes them too, to put inputs there
            _mkdir(place.real(folder), 0o755)
    if inputs >= 0:
        kernel.attach_tree(inputs, INPUT)
        os.close(inputs)
        read_only = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOATIME | _TMPFS
        kernel.mount(None, INPUT, None, read_only)


def keep_descriptors(control: int) -> None:
    """Leave nothing open but /dev/null as standard streams, and the control stream.

    The pixel memory, mapped already, is not left open: it could be mapped a second time, to be executed.
    """
    saved = fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, CONTROL + 1)
    null = _open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.dup2(saved, CONTROL)
    os.closerange(CONTROL + 1, _MOST_DESCRIPTORS)


def set_limits(limits: dict[str, Any], base_bytes: int) -> None:
    """Set the resource limits; `base_bytes` is the address space the interpreter takes before any code runs."""
    values = {
        resource.RLIMIT_AS: base_bytes + limits["memory_mb"] * _MIB,
        resource.RLIMIT_CPU: limits["cpu_s"],
        resource.RLIMIT_FSIZE: min(limits["file_mb"], limits["disk_mb"]) * _MIB,
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in values.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def lock(place: Place, limits: dict[str, Any], system_calls: seccomp.Filter) -> None:
    """Give up capabilities, files and system calls. Nothing after this line is trusted."""
    if not place.prefix:
        # A user namespace of its own, without any identity mapped: no capability over the zygote's namespaces is
        # left, and threads are counted for this session alone.
        kernel.unshare(kernel.CLONE_NEWUSER)
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["threads"], limits["threads"]))
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if not place.prefix:  # without mounts the broker looks into /proc at what a session holds open
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    if landlock.version():
        writable = (place.real(OUTPUT), place.real(SCRATCH), "/dev/null")
        rules = landlock.Ruleset((*place.readable, place.real(root.DATA)), writable)
        rules.restrict()
        os.close(rules.descriptor)
    system_calls.install()
