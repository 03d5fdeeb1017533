"""The system call filter of a session: an allow-list, assembled to classic BPF.

The filter is a straight line. It loads architecture and number, lets the unconditional calls through, then looks at
the arguments of a handful of others, and refuses the rest. Nothing here touches the process but `install`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from . import kernel
from .syscalls import AARCH64, ALLOWED, LAST_KNOWN, MISSING, PRETENDED, UNSUPPORTED, X86_64

LOAD, AND, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE = 0, 4

ALLOW, KILL = 0x7FFF0000, 0x80000000
X32_BIT = 0x40000000
"""Set in the numbers of the x32 interface of x86-64, which the allow-list does not know."""

CLONE_THREAD = 0x00010F00
"""CLONE_VM, _FS, _FILES, _SIGHAND and _THREAD: threads share all, so that what a process holds can be counted."""
CLONE_HARMLESS = 0x017C0000
"""CLONE_SYSVSEM, _SETTLS, _PARENT_SETTID, _CHILD_CLEARTID, _DETACHED and _CHILD_SETTID, as C libraries set them."""
CLOSE_RANGE_UNSHARE = 2
PROT_WRITE, PROT_EXEC = 2, 4
FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS = 0x541B, 0x5421, 0x5450, 0x5451, 0x5401
F_DUPFD_CLOEXEC = 1030
FIRST_CLOCK_OF_A_PROCESS, FIRST_CLOCK_OF_ONESELF = 0x80000000, 0xFFFFFFF8
FCNTL_COMMANDS = (fcntl.F_DUPFD, F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL)
"""No owners or signals (they reach other processes), no leases, seals, locks or pipe sizes."""


def refuse(code: int) -> int:
    """The filter's answer that makes a call fail with `code`; 0 lets it seem to succeed."""
    return 0x00050000 | code


@dataclass(frozen=True)
class Machine:
    """What differs from one architecture to the next."""

    audit: int
    """``AUDIT_ARCH_*`` as the kernel reports it."""
    numbers: dict[str, int]


MACHINES = {"x86_64": Machine(0xC000003E, X86_64), "aarch64": Machine(0xC00000B7, AARCH64)}

Instruction = tuple[int, int, int, int]
"""Operation, jump if true, jump if false, operand."""


def argument(index: int, half: int = 0) -> Instruction:
    """Load the lower (0) or upper (1) 32 bits of an argument; both machines are little-endian."""
    return (LOAD, 0, 0, 16 + 8 * index + 4 * half)


def answer(value: int) -> Instruction:
    """End with `value`."""
    return (RETURN, 0, 0, value)


def unless(operation: int, operand: int, value: int) -> list[Instruction]:
    """End with `value` where the comparison does not hold."""
    return [(operation, 1, 0, operand), answer(value)]


def when(operation: int, operand: int, value: int) -> list[Instruction]:
    """End with `value` where the comparison holds."""
    return [(operation, 0, 1, operand), answer(value)]


def _closer_looks() -> dict[str, list[Instruction]]:
    """Calls whose arguments decide, each with the instructions that end the filter."""
    denied = refuse(errno.EPERM)
    no_write_and_exec: list[Instruction] = [argument(2), (AND, 0, 0, PROT_WRITE | PROT_EXEC)]
    no_write_and_exec += [*when(JUMP_EQUAL, PROT_WRITE | PROT_EXEC, denied), answer(ALLOW)]

    def no_hidden_truncate(flags: int) -> list[Instruction]:
        # Before Landlock's third version O_TRUNC with O_RDONLY empties a file that may only be read.
        read_only_truncate = [argument(flags), (AND, 0, 0, os.O_ACCMODE | os.O_TRUNC)]
        return [*read_only_truncate, *when(JUMP_EQUAL, os.O_TRUNC, denied), answer(ALLOW)]

    # Ids below zero name the processor time of a process by its number; the last eight of them that of this one.
    own_clocks: list[Instruction] = [argument(0), *unless(JUMP_GREATER_EQUAL, FIRST_CLOCK_OF_A_PROCESS, ALLOW)]
    own_clocks += [*when(JUMP_GREATER_EQUAL, FIRST_CLOCK_OF_ONESELF, ALLOW), answer(refuse(errno.EINVAL))]

    return {
        "clone": [
            argument(0),
            (AND, 0, 0, 0xFFFFFFFF ^ CLONE_HARMLESS),
            *unless(JUMP_EQUAL, CLONE_THREAD, denied),
            answer(ALLOW),
        ],
        "close_range": [argument(2), *when(JUMP_ANY_BIT, CLOSE_RANGE_UNSHARE, denied), answer(ALLOW)],
        "clock_gettime": own_clocks,
        "clock_getres": own_clocks,
        "clock_nanosleep": own_clocks,
        # In any other mode it takes blocks beyond the limit of a file's size.
        "fallocate": [argument(1), *unless(JUMP_EQUAL, 0, refuse(errno.EOPNOTSUPP)), answer(ALLOW)],
        "mmap": no_write_and_exec,
        "mprotect": [argument(2), *when(JUMP_ANY_BIT, PROT_EXEC, denied), answer(ALLOW)],
        "open": no_hidden_truncate(1),
        "openat": no_hidden_truncate(2),
        "fcntl": [argument(1), *(i for c in FCNTL_COMMANDS for i in when(JUMP_EQUAL, c, ALLOW)), answer(denied)],
        "ioctl": [
            argument(1),
            *when(JUMP_EQUAL, TCGETS, refuse(errno.ENOTTY)),
            *(i for request in (FIONREAD, FIONBIO, FIONCLEX, FIOCLEX) for i in when(JUMP_EQUAL, request, ALLOW)),
            answer(denied),
        ],
        # Reading one's own limits only: pid 0, and no new limit in either half of the pointer.
        "prlimit64": [
            i
            for load in (argument(0), argument(2), argument(2, half=1))
            for i in (load, *unless(JUMP_EQUAL, 0, denied))
        ]
        + [answer(ALLOW)],
    }


def assemble(machine: Machine) -> list[Instruction]:
    """The filter for one architecture."""
    numbers, looks = machine.numbers, _closer_looks()

    def known(names: Iterable[str]) -> list[int]:
        return sorted(numbers[name] for name in names if name in numbers)

    program = [(LOAD, 0, 0, ARCHITECTURE), *unless(JUMP_EQUAL, machine.audit, KILL), (LOAD, 0, 0, NUMBER)]
    program += when(JUMP_GREATER_EQUAL, X32_BIT, KILL)
    for names, value in (
        (ALLOWED - looks.keys(), ALLOW),
        (PRETENDED, refuse(0)),
        (MISSING, refuse(errno.ENOSYS)),
        (UNSUPPORTED, refuse(errno.ENOTSUP)),
    ):
        for number in known(names):
            program += when(JUMP_EQUAL, number, value)
    for name, body in looks.items():
        if name in numbers:
            program += [(JUMP_EQUAL, 0, len(body), numbers[name]), *body]
    program += when(JUMP_GREATER_EQUAL, LAST_KNOWN + 1, refuse(errno.ENOSYS))
    return [*program, answer(refuse(errno.EPERM))]


def encode(program: Iterable[Instruction]) -> bytes:
    """The program as an array of ``struct sock_filter``."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


class Filter:
    """A filter ready to be installed; the buffers it points into live as long as it does."""

    def __init__(self, machine: str = "") -> None:
        """Assemble the filter.

        Args:
            machine: As `platform.machine` names it; this machine's by default.

        Raises:
            OSError: There is no table for this architecture.
        """
        name = machine or platform.machine()
        if name not in MACHINES:
            raise OSError(errno.ENOSYS, f"no system call table for {name}; there is one for {', '.join(MACHINES)}")
        code = encode(assemble(MACHINES[name]))
        self._code = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(self._code))
        self._header = ctypes.create_string_buffer(header, len(header))

    def install(self) -> None:
        """Put the filter on this process, for good. Needs ``no_new_privs``."""
        kernel.prctl(kernel.PR_SET_SECCOMP, kernel.SECCOMP_MODE_FILTER, ctypes.addressof(self._header))
