"""The level ``namespaces``: a root of its own, in which only the runtime exists.

The zygote becomes process 1 of its own user, mount, pid, network, IPC, UTS and cgroup namespaces. Its root is a small
read-only tmpfs with the runtime bound into it; there is no /proc, no /sys, no network but a dead loopback, no home.
The root of the host, if it started us, is nobody here.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

from . import kernel

SITE = "/site"
"""Where importable packages lie inside."""
DATA = "/mnt/data"
NOBODY = 65534

_NAMESPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
_STAGING = "/tmp"  # any folder that exists on every machine; the new root is put together on top of it
_QUIET = kernel.MS_NOSUID | kernel.MS_NODEV


@dataclass(frozen=True)
class Tree:
    """A detached mount and the place inside it goes to."""

    descriptor: int
    target: str
    is_folder: bool


def enter(runtime: dict[str, Any]) -> tuple[int, int]:
    """Move this process's future into namespaces of its own; the caller goes on as process 1 inside.

    The calling process stays behind as a guard that ends when process 1 ends.

    Returns:
        Descriptor of the pid namespace, to come back to after a session got its own, and one of this process's memory
        statistics, which no path leads to from inside.

    Raises:
        OSError: The machine does not allow it.
    """
    was_root = os.geteuid() == 0
    _unshare_with_identity(was_root)
    child = os.fork()
    if child:
        _guard(child)
    kernel.die_with_parent()
    pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    statistics = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    socket.sethostname("sandbox")
    trees = _open_trees(runtime)  # before the identity changes: the interpreter may lie in a private home
    if was_root:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.die_with_parent()  # again: a change of identity clears it
    _build(runtime, trees)
    return pid_namespace, statistics


def _guard(child: int) -> None:
    """Wait for process 1 and end as it ended."""
    kernel.die_with_parent()  # again: the new user namespace cleared it
    os.closerange(3, 1024)
    status = os.waitpid(child, 0)[1]
    os._exit(os.waitstatus_to_exitcode(status) & 255)


def _unshare_with_identity(was_root: bool) -> None:
    """Unshare everything; a helper outside maps this identity, root to nobody, to root inside."""
    uid, gid = (NOBODY, NOBODY) if was_root else (os.geteuid(), os.getegid())
    target = os.getpid()
    ready_read, ready_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(ready_write)
        os._exit(_write_maps(target, uid, gid, was_root) if os.read(ready_read, 1) else 1)
    os.close(ready_read)
    try:
        kernel.unshare(_NAMESPACES)
        os.write(ready_write, b"1")
    finally:
        os.close(ready_write)
        failed = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
    if failed:
        raise OSError(failed, f"the user namespace could not be mapped: {os.strerror(failed)}")


def _write_maps(target: int, uid: int, gid: int, was_root: bool) -> int:
    """Write the identity maps of `target`; the errno of the failure, or 0."""
    lines = [] if was_root else [("setgroups", "deny")]
    lines += [("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")]
    try:
        for name, text in lines:
            descriptor = os.open(f"/proc/{target}/{name}", os.O_WRONLY)
            os.write(descriptor, text.encode())
            os.close(descriptor)
    except OSError as error:
        return error.errno or 1
    return 0


def _open_trees(runtime: dict[str, Any]) -> list[Tree]:
    places = [(path, path) for path in runtime["trees"]]
    places += [(path, f"{SITE}/{name}") for name, path in runtime["packages"]]
    return [Tree(kernel.open_tree(path), target, os.path.isdir(path)) for path, target in places]


def _build(runtime: dict[str, Any], trees: list[Tree]) -> None:
    """Put the new root together and make it the root."""
    kernel.mount("tmpfs", _STAGING, "tmpfs", _QUIET, "size=1m,mode=755")
    for path, target in runtime["links"]:
        os.makedirs(_STAGING + os.path.dirname(path), exist_ok=True)
        os.symlink(target, _STAGING + path)
    for tree in trees:
        _attach(tree)
    for hole in runtime["holes"]:
        kernel.mount("tmpfs", _STAGING + hole, "tmpfs", _QUIET | kernel.MS_RDONLY, "size=4k,mode=755")
    os.makedirs(_STAGING + DATA)
    os.chdir(_STAGING)
    kernel.pivot_root_here()
    os.chdir("/")
    kernel.mount(None, "/", None, kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | _QUIET)


def _attach(tree: Tree) -> None:
    place = _STAGING + tree.target
    if tree.is_folder:
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    kernel.attach_tree(tree.descriptor, place)
    os.close(tree.descriptor)
    if not tree.target.startswith("/dev/"):
        kernel.mount(None, place, None, kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | _QUIET)
