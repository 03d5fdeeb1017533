"""The attacks of tests/data/attacks: one file a class, one table an attack.

``code`` is run after `PRELUDE`, with ``{VICTIM}``, ``{ABSTRACT_NAME}``, ``{HOST_PID}`` and ``{PACKAGE}`` filled in. An
attack has succeeded if it printed ``ESC``, if one of the targets of `shooting_range` was hit, or if what ``criterion``
names happened: ``exists:NAME`` or ``late:NAME`` (a file appeared among the targets), ``bomb``, ``many_pictures``. Each
must be able to succeed: ``plain`` says how a run without a sandbox shows it (test_attacks_unprotected.py makes that
run), or ``why`` says why there is no such run.
"""

from __future__ import annotations

import json
import platform
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thyme.sandbox.jail.syscalls import AARCH64, X86_64

FOLDER = Path(__file__).parents[1] / "data" / "attacks"

Shown = Literal["", "escapes", "dies", "hangs", "forges"]

_MORE_X86_64 = {
    "sendmsg": 46, "sendmmsg": 307, "bind": 49, "listen": 50, "accept4": 288, "getsockname": 51, "getpeername": 52,
    "setsockopt": 54, "getsockopt": 55, "shutdown": 48, "timer_create": 222, "timerfd_create": 283, "signalfd4": 289,
    "eventfd2": 290, "epoll_create1": 291, "inotify_init1": 294, "fanotify_init": 300, "fanotify_mark": 301,
    "name_to_handle_at": 303, "flock": 73, "splice": 275, "vmsplice": 278, "tee": 276, "mlock": 149, "mlock2": 325,
    "mlockall": 151, "mincore": 27, "mbind": 237, "set_mempolicy": 238, "migrate_pages": 256, "move_pages": 279,
    "remap_file_pages": 216, "kcmp": 312, "ioprio_set": 251, "ioprio_get": 252, "setpriority": 141, "getpriority": 140,
    "sched_setscheduler": 144, "sched_getscheduler": 145, "sched_setparam": 142, "sched_getparam": 143,
    "sched_rr_get_interval": 148, "clock_settime": 227, "adjtimex": 159, "clock_adjtime": 305, "settimeofday": 164,
    "acct": 163, "swapon": 167, "reboot": 169, "sethostname": 170, "setdomainname": 171, "init_module": 175,
    "finit_module": 313, "delete_module": 176, "kexec_load": 246, "quotactl": 179, "quotactl_fd": 443, "syslog": 103,
    "iopl": 172, "ioperm": 173, "modify_ldt": 154, "arch_prctl": 158, "lookup_dcookie": 212, "getxattr": 191,
    "listxattr": 194, "removexattr": 197, "lsetxattr": 189, "lchown": 94, "fchownat": 260, "statmount": 457,
    "listmount": 458, "cachestat": 451, "landlock_create_ruleset": 444, "landlock_add_rule": 445,
    "landlock_restrict_self": 446, "map_shadow_stack": 453, "mseal": 462, "futex_waitv": 449, "rt_sigqueueinfo": 129,
    "rt_tgsigqueueinfo": 297, "getsid": 124, "getpgid": 121, "setsid": 112, "setpgid": 109, "mq_open": 240,
    "mq_notify": 244, "semget": 64, "msgget": 68, "shmat": 30, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "mount_setattr": 442, "process_mrelease": 448, "io_pgetevents": 333, "io_uring_register": 427,
    "membarrier": 324, "pkey_alloc": 330, "pkey_mprotect": 329, "get_robust_list": 274, "chroot": 161, "sync": 162,
    "syncfs": 306, "setuid": 105, "setgid": 106, "setreuid": 113, "setregid": 114, "setresuid": 117, "setresgid": 119,
    "setgroups": 116, "setfsuid": 122, "setfsgid": 123, "capget": 125, "capset": 126, "setrlimit": 160,
    "lsm_list_modules": 461,
}  # fmt: skip
_MORE_AARCH64 = {
    "sendmsg": 211, "sendmmsg": 269, "bind": 200, "listen": 201, "accept4": 242, "getsockname": 204,
    "getpeername": 205, "setsockopt": 208, "getsockopt": 209, "shutdown": 210, "timer_create": 107,
    "timerfd_create": 85, "signalfd4": 74, "eventfd2": 19, "epoll_create1": 20, "inotify_init1": 26,
    "fanotify_init": 262, "fanotify_mark": 263, "name_to_handle_at": 264, "flock": 32, "splice": 76, "vmsplice": 75,
    "tee": 77, "mlock": 228, "mlock2": 284, "mlockall": 230, "mincore": 232, "mbind": 235, "set_mempolicy": 237,
    "migrate_pages": 238, "move_pages": 239, "remap_file_pages": 234, "kcmp": 272, "ioprio_set": 30, "ioprio_get": 31,
    "setpriority": 140, "getpriority": 141, "sched_setscheduler": 119, "sched_getscheduler": 120,
    "sched_setparam": 118, "sched_getparam": 121, "sched_rr_get_interval": 127, "clock_settime": 112, "adjtimex": 171,
    "clock_adjtime": 266, "settimeofday": 170, "acct": 89, "swapon": 224, "reboot": 142, "sethostname": 161,
    "setdomainname": 162, "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104,
    "quotactl": 60, "quotactl_fd": 443, "syslog": 116, "lookup_dcookie": 18, "getxattr": 8, "listxattr": 11,
    "removexattr": 14, "lsetxattr": 6, "fchownat": 54, "statmount": 457, "listmount": 458, "cachestat": 451,
    "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446, "map_shadow_stack": 453,
    "mseal": 462, "futex_waitv": 449, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "getsid": 156, "getpgid": 155,
    "setsid": 157, "setpgid": 154, "mq_open": 180, "mq_notify": 184, "semget": 190, "msgget": 186, "shmat": 196,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "process_mrelease": 448,
    "io_pgetevents": 292, "io_uring_register": 427, "membarrier": 283, "pkey_alloc": 289, "pkey_mprotect": 288,
    "get_robust_list": 100, "chroot": 51, "sync": 81, "syncfs": 267, "setuid": 146, "setgid": 144, "setreuid": 145,
    "setregid": 143, "setresuid": 147, "setresgid": 149, "setgroups": 159, "setfsuid": 151, "setfsgid": 152,
    "capget": 90, "capset": 91, "setrlimit": 164, "lsm_list_modules": 461,
}  # fmt: skip
NUMBERS = {**X86_64, **_MORE_X86_64} if platform.machine() == "x86_64" else {**AARCH64, **_MORE_AARCH64}
"""System calls by name, on this machine."""

FORGE = """
import gc, json, os, struct, sys, zlib
def request_id():
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            if isinstance(value, dict) and len(str(value.get("id"))) == 32: return value["id"]
        frame = frame.f_back
    return "0" * 32
def honest(**changes):
    reply = dict(id=request_id(), ran=None, stdout="", truncated=False, error=None, images=[], repairs=[])
    return {**reply, **changes}
def say(message):
    data = json.dumps(message).encode()
    os.write(3, struct.pack("<I", len(data)) + data)
def reachable(most=60_000):
    frame, waiting, seen = sys._getframe(), [m for n, m in sys.modules.items() if n.startswith("jail")], set()
    while frame:
        waiting += frame.f_locals.values()
        frame = frame.f_back
    for thing in waiting:
        if id(thing) not in seen and len(seen) < most:
            seen.add(id(thing))
            yield thing
            if not isinstance(thing, (type, type(sys))) or getattr(thing, "__name__", "").startswith("jail"):
                waiting += gc.get_referents(thing)
"""
"""How code in a session speaks for it: the id of the request is in a frame below. `reachable` finds the sandbox's own
objects, frozen ones too, which `gc.get_objects` does not show."""

PRELUDE = f"""{FORGE}import ctypes
X86 = {platform.machine() == "x86_64"}
NR = {NUMBERS}
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
def call(name, *arguments):
    ctypes.set_errno(0)
    longs = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return LIBC.syscall(ctypes.c_long(NR.get(name, 99999)), *longs)
def reaches(name, *arguments):
    return call(name, *arguments) >= 0 or ctypes.get_errno() not in (1, 38)
"""
"""What attacks may use: the protocol, and the kernel by number."""


@dataclass(frozen=True)
class Attack:
    """One record."""

    kind: str
    name: str
    code: str
    about: str = ""
    criterion: str = ""
    plain: Shown = ""
    why: str = ""
    machine: str = ""
    """Where it makes sense; empty for everywhere."""

    @property
    def id(self) -> str:
        """Class and name."""
        return f"{self.kind}-{self.name}"

    @property
    def body(self) -> str:
        """The code with what it uses. The kernel by number comes only where it is used: code that opens a library is
        watched more closely by the sandbox.
        """
        by_number = any(word in self.code for word in ("call(", "reaches(", "LIBC", "ctypes", "X86"))
        return (PRELUDE if by_number else FORGE) + self.code


def _load() -> dict[str, Attack]:
    found: dict[str, Attack] = {}
    for kind, name in (("given", "attacks.json"), ("more", "more_attacks.json")):
        for title, record in json.loads((Path(__file__).parent / name).read_text()).items():
            found[f"{kind}-{title}"] = Attack(kind, title, record["code"], criterion=record["criterion"])
    for path in sorted(FOLDER.glob("*.toml")):
        for name, record in tomllib.loads(path.read_text()).items():
            attack = Attack(path.stem, name, **record)
            if attack.machine in {"", platform.machine()}:
                found[attack.id] = attack
    return found


RECORDS = _load()
"""By class and name; the classes ``given`` and ``more`` are those of the two JSON files beside this module, whose
criteria are watched by `shooting_range` for all attacks alike."""
