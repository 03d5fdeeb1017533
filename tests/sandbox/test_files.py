"""Counting and removing what hostile code left in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from thyme.sandbox import SandboxConfig
from thyme.sandbox.files import Usage, remove_tree


@pytest.fixture
def usage(tmp_path: Path) -> Iterator[Usage]:
    """Of a process that holds nothing: this one may have mapped what other tests removed."""
    with subprocess.Popen(["sleep", "600"]) as process:
        handle = os.pidfd_open(process.pid)
        yield Usage(tmp_path / "s", handle, SandboxConfig(disk_mb=1, inodes=20))
        os.close(handle)
        process.kill()


def make_deep(folder: Path, depth: int) -> None:
    """A tree too deep for any path to its end."""
    top = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 50, dir_fd=top)
        inner = os.open("d" * 50, os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = inner
    os.close(os.open("leaf", os.O_CREAT, dir_fd=top))
    os.close(top)


def excess_of(hold: str, folder: Path) -> str:
    """What is over a limit of 1 MiB in a process that runs `hold` in `folder`, at the time when it calls `say_so`."""
    program = f"import os, time\ndef say_so():\n    print('held', flush=True); time.sleep(60)\n{hold}"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=folder)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        handle = os.pidfd_open(process.pid)
        usage = Usage(folder, handle, SandboxConfig(disk_mb=1))
        os.close(handle)
        return usage.excess()
    finally:
        process.kill()
        process.communicate()


def test_deep_wide_and_closed_trees_are_removed(tmp_path: Path) -> None:
    top = tmp_path / "s"
    top.mkdir()
    make_deep(top, 1500)
    for number in range(300):
        (top / f"f{number}").touch()
    (top / "closed").mkdir()
    (top / "closed" / "inner").mkdir()
    (top / "closed" / "inner").chmod(0)
    (top / "closed").chmod(0)
    (tmp_path / "outside").write_text("stays")
    (top / "link").symlink_to(tmp_path / "outside")
    (top / "folder link").symlink_to(tmp_path)
    remove_tree(top)
    assert not top.exists()
    assert (tmp_path / "outside").read_text() == "stays"
    remove_tree(top)


def test_usage_within_limits(tmp_path: Path, usage: Usage) -> None:
    assert usage.excess() == ""
    (tmp_path / "s" / "a").mkdir(parents=True)
    (tmp_path / "s" / "a" / "f").write_bytes(bytes(1000))
    assert usage.excess() == ""


def test_usage_counts_bytes_entries_and_depth(tmp_path: Path, usage: Usage) -> None:
    top = tmp_path / "s"
    top.mkdir()
    (top / "f").write_bytes(bytes(2 << 20))
    assert usage.excess() == "more than 1 MiB of files"
    (top / "f").unlink()
    for number in range(21):
        (top / str(number)).touch()
    assert usage.excess() == "more than 20 files and folders"


def test_usage_does_not_walk_down_forever(tmp_path: Path, usage: Usage) -> None:
    usage._inodes = 5000
    (tmp_path / "s").mkdir()
    make_deep(tmp_path / "s", 1500)
    assert usage.excess() == "folders more than 64 deep"
    remove_tree(tmp_path / "s")


def test_usage_sees_files_without_a_name(tmp_path: Path) -> None:
    hold = "held = open('f', 'wb', 0); held.write(bytes(2 << 20)); os.unlink('f'); say_so()"
    assert excess_of(hold, tmp_path) == "more than 1 MiB of files"
    assert excess_of(hold.replace("say_so()", "held.close(); say_so()"), tmp_path) == ""


def test_usage_sees_mapped_files_without_a_name_whatever_they_were_called(tmp_path: Path) -> None:
    hold = (
        "import mmap\nos.mkdir('a ')\nheld = os.open('a /memfd:x', os.O_CREAT | os.O_RDWR)\n"
        "os.unlink('a /memfd:x'); os.write(held, bytes(2 << 20))\n"
        "mapped = mmap.mmap(held, 0); os.closerange(3, 20)\nsay_so()"
    )
    assert excess_of(hold, tmp_path) == "more than 1 MiB of files"


def test_usage_counts_a_removed_file_whole_of_which_one_page_is_mapped(tmp_path: Path) -> None:
    """Its size does not show any more: it counts as the most that a file may have, here 1 MiB."""
    hold = (
        "import ctypes\nlibc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p\n"
        "for _ in range(2):\n    held = os.open('f', os.O_CREAT | os.O_RDWR)\n    os.unlink('f')\n"
        "    os.write(held, bytes(900 << 10))\n    libc.mmap(None, 4096, 1, 1, held, 0)\n    os.close(held)\nsay_so()"
    )
    assert excess_of(hold, tmp_path) == "more than 1 MiB of files"


def test_usage_does_not_read_mappings_forever(tmp_path: Path) -> None:
    hold = (
        "import ctypes\nlibc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p\n"
        "first = libc.mmap(None, ctypes.c_size_t(4096 * 50_000), 3, 0x22, -1, 0)\n"
        "for page in range(0, 50_000, 2):\n    libc.mprotect(ctypes.c_void_p(first + 4096 * page), 4096, 1)\nsay_so()"
    )
    assert excess_of(hold, tmp_path) == "more files that it maps than can be looked at"


def test_usage_counts_a_file_without_a_name_once(tmp_path: Path) -> None:
    hold = (
        "import mmap\nheld = os.open('f', os.O_CREAT | os.O_RDWR); os.write(held, bytes(700 << 10)); os.unlink('f')\n"
        "mapped = mmap.mmap(held, 0); again = os.dup(held); say_so()"
    )
    assert excess_of(hold, tmp_path) == ""


def test_usage_sees_what_is_held_when_the_first_thread_has_ended(tmp_path: Path) -> None:
    hold = (
        "import ctypes, platform, threading\n"
        "def hold():\n"
        "    held = os.open('f', os.O_CREAT | os.O_RDWR); os.unlink('f'); os.write(held, bytes(2 << 20))\n"
        "    while 'Z' not in open('/proc/%d/task/%d/stat' % (os.getpid(), os.getpid())).read(): time.sleep(.01)\n"
        "    say_so()\n"
        "threading.Thread(target=hold).start()\n"
        "ctypes.CDLL(None).syscall(60 if platform.machine() == 'x86_64' else 93, 0)"
    )
    assert excess_of(hold, tmp_path) == "more than 1 MiB of files"


def test_usage_counts_threads(tmp_path: Path) -> None:
    handle = os.pidfd_open(os.getpid())
    limit = len(os.listdir("/proc/self/task")) + 2
    usage = Usage(tmp_path / "s", handle, SandboxConfig(threads=limit))
    os.close(handle)
    assert usage.excess_threads() == ""
    go_on = threading.Event()
    threads = [threading.Thread(target=go_on.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert usage.excess_threads() == f"more than {limit} threads"
    go_on.set()
    for thread in threads:
        thread.join()
