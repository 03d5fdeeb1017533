"""The system call filter, decided by a small interpreter of classic BPF, on both architectures."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import struct

import pytest

from thyme.sandbox.jail import seccomp
from thyme.sandbox.jail.syscalls import AARCH64, ALLOWED, LAST_KNOWN, MISSING, PRETENDED, UNSUPPORTED, X86_64

MACHINES = sorted(seccomp.MACHINES)
DENIED, UNKNOWN = seccomp.refuse(errno.EPERM), seccomp.refuse(errno.ENOSYS)

NEVER = str.split(
    "socket socketpair connect sendto execve execveat fork vfork kill tkill tgkill ptrace process_vm_readv "
    "process_vm_writev mount umount2 pivot_root unshare setns open_tree move_mount memfd_create memfd_secret "
    "io_uring_setup io_uring_enter io_setup keyctl add_key request_key userfaultfd bpf perf_event_open symlink "
    "symlinkat link linkat mknod mknodat truncate chown setxattr prctl seccomp personality pidfd_open pidfd_getfd "
    "pidfd_send_signal open_by_handle_at shmget sched_setaffinity process_madvise"
)


def decide(program: bytes, number: int, arguments: tuple[int, ...] = (), audit: int = 0) -> int:
    """What the kernel would answer: run the program on ``struct seccomp_data``."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<iIQ6Q", number, audit, 0, *(value & (2**64 - 1) for value in padded))
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator, position = 0, 0
    while True:
        operation, true, false, operand = code[position]
        position += 1
        match operation:
            case seccomp.LOAD:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case seccomp.AND:
                accumulator &= operand
            case seccomp.JUMP_EQUAL:
                position += true if accumulator == operand else false
            case seccomp.JUMP_GREATER_EQUAL:
                position += true if accumulator >= operand else false
            case seccomp.JUMP_ANY_BIT:
                position += true if accumulator & operand else false
            case seccomp.RETURN:
                return operand
            case _:
                raise AssertionError(f"unknown operation {operation:#x}")


class Decider:
    """The filter of one architecture, asked by name."""

    def __init__(self, name: str) -> None:
        self.machine = seccomp.MACHINES[name]
        self.program = seccomp.encode(seccomp.assemble(self.machine))

    def __call__(self, name: str | int, *arguments: int) -> int:
        number = self.machine.numbers[name] if isinstance(name, str) else name
        return decide(self.program, number, arguments, self.machine.audit)

    def has(self, name: str) -> bool:
        return name in self.machine.numbers


@pytest.fixture(params=MACHINES)
def ask(request: pytest.FixtureRequest) -> Decider:
    return Decider(request.param)


def test_programs_are_short_and_jump_forward_into_themselves(ask: Decider) -> None:
    code = list(struct.iter_unpack("<HBBI", ask.program))
    assert len(code) < 4096  # the kernel's limit
    for position, (operation, true, false, _) in enumerate(code):
        if operation not in {seccomp.LOAD, seccomp.AND, seccomp.RETURN}:
            assert position + 1 + max(true, false) < len(code)
    assert code[-1][0] == seccomp.RETURN


def test_every_allowed_call_has_a_number_on_x86_and_aarch64_lacks_only_the_old_ones() -> None:
    named = ALLOWED | PRETENDED | MISSING | UNSUPPORTED
    old = (
        "open stat lstat access pipe dup2 poll select readlink mkdir rmdir unlink rename chmod alarm pause time getpgrp"
    )
    assert named - X86_64.keys() == set()
    assert named - AARCH64.keys() == set(old.split())


@pytest.mark.parametrize("table", [X86_64, AARCH64])
def test_numbers_are_unique(table: dict[str, int]) -> None:
    assert len(set(table.values())) == len(table)
    assert max(table.values()) <= LAST_KNOWN


def test_plain_calls_are_allowed(ask: Decider) -> None:
    looked_at = {"clone", "close_range", "mmap", "mprotect", "open", "openat", "fcntl", "ioctl", "prlimit64"}
    for name in ALLOWED - looked_at:
        if ask.has(name):
            assert ask(name) == seccomp.ALLOW, name


@pytest.mark.parametrize("name", NEVER)
def test_call_is_refused(ask: Decider, name: str) -> None:
    if ask.has(name):
        assert ask(name) == DENIED


def test_pretended_missing_and_unsupported_calls(ask: Decider) -> None:
    for name in PRETENDED:
        if ask.has(name):
            assert ask(name) == seccomp.refuse(0)
    for name in MISSING:
        assert ask(name) == UNKNOWN
    for name in UNSUPPORTED:
        assert ask(name) == seccomp.refuse(errno.ENOTSUP)


def test_no_number_outside_of_the_list_is_allowed(ask: Decider) -> None:
    known = {ask.machine.numbers[name] for name in ALLOWED | PRETENDED | MISSING | UNSUPPORTED if ask.has(name)}
    for number in range(1024):
        if number not in known:
            assert ask(number) == (DENIED if number <= LAST_KNOWN else UNKNOWN)


def test_wrong_architecture_and_x32_end_the_process(ask: Decider) -> None:
    number = ask.machine.numbers["read"]
    assert decide(ask.program, number, audit=0x40000003) == seccomp.KILL
    assert ask(number | seccomp.X32_BIT) == seccomp.KILL


def test_threads_but_no_processes(ask: Decider) -> None:
    thread = 0x3D0F00  # what pthread_create asks for
    assert ask("clone", thread) == seccomp.ALLOW
    assert ask("clone", 0x7D0F00) == seccomp.ALLOW  # musl's
    assert ask("clone", 17) == DENIED
    assert ask("clone", 0x4111) == DENIED
    assert ask("clone", 0x10000011) == DENIED


def test_threads_share_everything(ask: Decider) -> None:
    """What one of them holds would otherwise be held out of sight."""
    for shared in (0x100, 0x200, 0x400, 0x800, 0x10000):
        assert ask("clone", 0x3D0F00 & ~shared) == DENIED
    for apart in (0x20000, 0x2000, 0x8000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask("clone", 0x3D0F00 | apart) == DENIED
    assert ask("close_range", 4, 2**32 - 1, 0) == seccomp.ALLOW
    assert ask("close_range", 4, 2**32 - 1, 4) == seccomp.ALLOW
    assert ask("close_range", 4, 2**32 - 1, 2) == DENIED
    assert ask("close_range", 4, 2**32 - 1, 6) == DENIED


def test_memory_is_never_writable_and_executable(ask: Decider) -> None:
    assert ask("mmap", 0, 4096, 3) == seccomp.ALLOW
    assert ask("mmap", 0, 4096, 5) == seccomp.ALLOW
    assert ask("mmap", 0, 4096, 7) == DENIED
    assert ask("mmap", 0, 4096, 6) == DENIED
    assert ask("mprotect", 0, 4096, 3) == seccomp.ALLOW
    assert ask("mprotect", 0, 4096, 5) == DENIED


def test_limits_may_be_read_and_only_ones_own(ask: Decider) -> None:
    assert ask("prlimit64", 0, 7, 0, 0x7FFF0000) == seccomp.ALLOW
    assert ask("prlimit64", 5, 7, 0, 0) == DENIED
    assert ask("prlimit64", 0, 7, 0x10, 0) == DENIED
    assert ask("prlimit64", 0, 7, 1 << 40, 0) == DENIED


@pytest.mark.parametrize("name", ["clock_gettime", "clock_getres", "clock_nanosleep"])
def test_clocks_of_other_processes_do_not_exist(ask: Decider, name: str) -> None:
    for own in (0, 1, 2, 3, 11, -2, -6):
        assert ask(name, own) == seccomp.ALLOW
    for pid in (1, 2, 1000, 4_000_000):
        for kind in range(8):
            assert ask(name, ((~pid << 3) | kind) & 0xFFFFFFFF) == seccomp.refuse(errno.EINVAL)


def test_blocks_are_taken_within_the_size_of_a_file_only(ask: Decider) -> None:
    """FALLOC_FL_KEEP_SIZE takes them beyond, where RLIMIT_FSIZE does not look."""
    assert ask("fallocate", 5, 0, 0, 100) == seccomp.ALLOW
    for mode in (1, 2, 3, 8, 16):
        assert ask("fallocate", 5, mode, 0, 100) == seccomp.refuse(errno.EOPNOTSUPP)


def test_descriptor_commands(ask: Decider) -> None:
    assert ask("fcntl", 3, fcntl.F_GETFL) == seccomp.ALLOW
    assert ask("fcntl", 3, fcntl.F_DUPFD_CLOEXEC, 10) == seccomp.ALLOW
    for command in (fcntl.F_SETOWN, fcntl.F_SETSIG, fcntl.F_SETLEASE, fcntl.F_NOTIFY, fcntl.F_ADD_SEALS, 15):
        assert ask("fcntl", 3, command, 1) == DENIED


def test_device_commands(ask: Decider) -> None:
    assert ask("ioctl", 1, 0x5401) == seccomp.refuse(errno.ENOTTY)
    assert ask("ioctl", 1, seccomp.FIONREAD) == seccomp.ALLOW
    assert ask("ioctl", 1, 0x5412) == DENIED  # TIOCSTI


def test_reading_does_not_truncate(ask: Decider) -> None:
    assert ask("openat", 0, 0, os.O_RDONLY | os.O_TRUNC) == DENIED
    assert ask("openat", 0, 0, os.O_WRONLY | os.O_TRUNC | os.O_CREAT) == seccomp.ALLOW
    assert ask("openat", 0, 0, os.O_RDONLY | os.O_CLOEXEC) == seccomp.ALLOW


def test_unknown_architecture_is_an_error() -> None:
    with pytest.raises(OSError, match="no system call table for riscv64"):
        seccomp.Filter("riscv64")


def test_this_machine_has_a_table() -> None:
    assert platform.machine() in seccomp.MACHINES
    seccomp.Filter()
