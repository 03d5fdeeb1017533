"""Thin calls into the kernel that the standard library does not offer."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_NOATIME = 1, 2, 4, 8, 32, 1024
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2

_PROT_READ, _PROT_WRITE, _MAP_SHARED, _MAP_PRIVATE = 1, 2, 1, 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2

_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
_libc.syscall.restype = ctypes.c_long
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mmap.restype = ctypes.c_void_p


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def syscall(what: str, number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Call the kernel by number; integers go as longs, everything else as pointers."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *converted), what)


def unshare(flags: int) -> None:
    """Move into new namespaces."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, flags: int) -> None:
    """Move into the namespace behind a descriptor."""
    _check(_libc.setns(descriptor, flags), "setns")


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    """Mount, remount or change propagation."""
    result = _libc.mount(
        source.encode() if source else None,
        target.encode(),
        kind.encode() if kind else None,
        flags,
        options.encode() or None,
    )
    _check(result, f"mount {target}")


def open_tree(path: str) -> int:
    """Descriptor of a detached copy of the mounts at and below `path`."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    return syscall(f"open_tree {path}", _OPEN_TREE, _AT_FDCWD, path.encode(), flags)


def attach_tree(tree: int, target: str) -> None:
    """Mount what `open_tree` gave at `target`."""
    syscall(f"move_mount {target}", _MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)


def pivot_root_here() -> None:
    """Make the working folder the root, and let go of the old root."""
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount of the old root")


def prctl(option: int, second: int = 0, third: int = 0) -> None:
    """Change a property of this process."""
    _check(_libc.prctl(option, second, third, 0, 0), f"prctl {option}")


def die_with_parent() -> None:
    """Let this process be killed when its parent ends. A change of identity or capabilities clears it."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def map_shared(descriptor: int, size: int) -> memoryview:
    """Map a file for good, to be read and written. Unlike `mmap.mmap`, this keeps no descriptor of the file."""
    return _map(descriptor, size, _PROT_READ | _PROT_WRITE, _MAP_SHARED)


def map_sealed(descriptor: int) -> memoryview:
    """Map a file for good, to be read, and close its descriptor."""
    try:
        return _map(descriptor, os.fstat(descriptor).st_size, _PROT_READ, _MAP_PRIVATE).toreadonly()
    finally:
        os.close(descriptor)


def _map(descriptor: int, size: int, protection: int, flags: int) -> memoryview:
    address = _libc.mmap(None, size, protection, flags, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        _check(-1, "mmap")
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def drop_capabilities() -> None:
    """Give up every capability, for good together with ``no_new_privs``."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    _check(_libc.capset(header, ctypes.create_string_buffer(24)), "capset")


def drop_bounding_set() -> None:
    """Empty the bounding set as far as this process may, and the ambient set."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:  # EINVAL: past the last; EPERM: nothing to drop
            break
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
