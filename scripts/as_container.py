#!/usr/bin/env python3
"""Run a command as a container engine would: with its system call filter, capabilities and user, on this machine.

    python3 scripts/as_container.py --profile FILE thyme sandbox check
    python3 scripts/as_container.py --profile FILE --add SYS_ADMIN thyme sandbox check
    python3 scripts/as_container.py --profile FILE --drop-all --user 1000 --no-new-privileges thyme sandbox check

It needs root and libseccomp, and answers without an engine what a profile and capabilities leave of the sandbox. Not
imitated are AppArmor, SELinux, the engine's own namespaces, and what it hides of /proc; see docs/sandbox_production.md.
A profile is a file in the format of Docker and Kubernetes.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCKER = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FSETID": 4,
    "FOWNER": 3,
    "MKNOD": 27,
    "NET_RAW": 13,
    "SETGID": 6,
    "SETUID": 7,
    "SETFCAP": 31,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "SYS_CHROOT": 18,
    "KILL": 5,
    "AUDIT_WRITE": 29,
}
"""What Docker and containerd leave to a container that asks for nothing, with the numbers of ``linux/capability.h``."""
NUMBERS = {**DOCKER, "SYS_ADMIN": 21, "SYS_PTRACE": 19, "SYS_RESOURCE": 24, "NET_ADMIN": 12, "DAC_READ_SEARCH": 2}
"""Those and what may be added."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
COMPARISONS = {"SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_EQ": 4, "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7}
"""``enum scmp_compare``, as far as profiles use it."""
CTL_NNP = 3
CAP_VERSION, BOUNDING_DROP, NO_NEW_PRIVILEGES, AMBIENT, AMBIENT_CLEAR = 0x20080522, 24, 38, 47, 4


class Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class Rule:
    """One answer of a filter."""

    name: str
    answer: int
    comparisons: tuple[Comparison, ...]


def main() -> None:
    """Become the container, and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", type=Path, help="system call filter in Docker's format; none without")
    parser.add_argument("--add", action="append", default=[], metavar="CAPABILITY", help="such as SYS_ADMIN")
    parser.add_argument("--drop-all", action="store_true", help="leave no capability but those that --add names")
    parser.add_argument("--user", type=int, default=0, help="user and group id")
    parser.add_argument("--no-new-privileges", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    if unknown := set(asked.add) - NUMBERS.keys():
        parser.error(f"no such capability: {', '.join(sorted(unknown))}")
    if not asked.command or os.geteuid() != 0:
        parser.error("name a command" if os.geteuid() == 0 else "only root can become a container of another user")
    kept = {*asked.add, *(() if asked.drop_all else DOCKER)}
    if asked.profile is not None:
        try:
            profile = json.loads(asked.profile.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            parser.error(f"{asked.profile} is no profile in Docker's format: {error}")
        machine = platform.machine()
        install(profile, list(rules(profile, kept, ARCHITECTURES.get(machine, machine))))
    become(asked.user, kept, no_new_privileges=asked.no_new_privileges)
    try:
        os.execvp(asked.command[0], asked.command)
    except OSError as error:
        sys.exit(f"{asked.command[0]}: {error.strerror}")


def rules(profile: Mapping[str, Any], capabilities: set[str], architecture: str) -> Iterator[Rule]:
    """What a profile says to a container with these capabilities; later rules on one call stand beside earlier ones."""
    for entry in profile["syscalls"]:
        if not applies(entry, capabilities, architecture):
            continue
        compared = tuple(
            Comparison(one["index"], COMPARISONS[one["op"]], one["value"], one.get("valueTwo", 0))
            for one in entry.get("args") or ()
        )
        for name in entry["names"]:
            yield Rule(name, answer(entry["action"], entry.get("errnoRet")), compared)


def applies(entry: Mapping[str, Any], capabilities: set[str], architecture: str) -> bool:
    """Whether an entry's conditions hold; ``minKernel`` always does on kernels that have Landlock."""
    includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
    wanted = {name.removeprefix("CAP_") for name in includes.get("caps", ())}
    unwanted = {name.removeprefix("CAP_") for name in excludes.get("caps", ())}
    if not wanted <= capabilities or unwanted & capabilities:
        return False
    where = includes.get("arches")
    return (where is None or architecture in where) and architecture not in excludes.get("arches", ())


def answer(action: str, code: int | None) -> int:
    """What the filter does, as libseccomp writes it."""
    return ALLOW if action == "SCMP_ACT_ALLOW" else REFUSE | (errno.EPERM if code is None else code)


def install(profile: Mapping[str, Any], filtered: list[Rule]) -> None:
    """Put the filter on this process; what comes behind it is made by the calls that it allows."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        sys.exit("a profile needs libseccomp: apt-get install libseccomp2")
    library.seccomp_init.restype = ctypes.c_void_p
    otherwise = answer(profile["defaultAction"], profile.get("defaultErrnoRet"))
    made = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(otherwise)))
    library.seccomp_attr_set(made, CTL_NNP, 0)  # engines leave it to `--security-opt no-new-privileges`
    for rule in filtered:
        number = library.seccomp_syscall_resolve_name(rule.name.encode())
        if number >= 0 and rule.answer != otherwise:  # calls of other machines have negative numbers
            compared = (Comparison * len(rule.comparisons))(*rule.comparisons)
            arguments = ctypes.c_uint32(rule.answer), number, len(rule.comparisons), compared
            checked(library.seccomp_rule_add_array(made, *arguments), rule.name)
    checked(library.seccomp_load(made), "seccomp_load")


def become(user: int, capabilities: set[str], *, no_new_privileges: bool) -> None:
    """Give up everything else, as runc does: bounding set, ids, then the sets of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if number not in {NUMBERS[name] for name in capabilities}:
            libc.prctl(BOUNDING_DROP, number, 0, 0, 0)
    libc.prctl(AMBIENT, AMBIENT_CLEAR, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if user == 0:
        set_capabilities(libc, sum(1 << NUMBERS[name] for name in capabilities))
    if no_new_privileges:
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def set_capabilities(libc: ctypes.CDLL, bits: int) -> None:
    """Effective, permitted and inheritable; a user who is not root has lost all of them with the id."""
    header = (ctypes.c_uint32 * 2)(CAP_VERSION, 0)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    checked(-libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)), "capset")


def checked(result: int, what: str) -> None:
    """End where a step failed."""
    if result:
        sys.exit(f"{what}: {os.strerror(abs(result))}")


if __name__ == "__main__":
    main()
