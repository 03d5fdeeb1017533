"""Counting and removing what hostile code left in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thyme.sandbox import SandboxConfig
from thyme.sandbox.files import Usage, remove_tree


@pytest.fixture
def usage(tmp_path: Path) -> Usage:
    handle = os.pidfd_open(os.getpid())
    try:
        return Usage(tmp_path / "s", handle, SandboxConfig(disk_mb=1, inodes=20))
    finally:
        os.close(handle)


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


def test_usage_does_not_walk_down_forever(tmp_path: Path) -> None:
    handle = os.pidfd_open(os.getpid())
    usage = Usage(tmp_path / "s", handle, SandboxConfig(inodes=5000))
    os.close(handle)
    (tmp_path / "s").mkdir()
    make_deep(tmp_path / "s", 1500)
    assert usage.excess() == "folders more than 64 deep"
    remove_tree(tmp_path / "s")


def test_usage_sees_files_without_a_name(tmp_path: Path, usage: Usage) -> None:
    (tmp_path / "s").mkdir()
    with open(tmp_path / "s" / "f", "wb") as file:
        file.write(bytes(2 << 20))
        file.flush()
        os.unlink(file.name)
        assert usage.excess() == "more than 1 MiB of files"
    assert usage.excess() == ""
