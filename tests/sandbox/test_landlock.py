"""Landlock alone, as newer and older kernels know it: what may be read, what may be changed, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from thyme.sandbox.jail import landlock

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, shutil, sys
from thyme.sandbox.jail import kernel, landlock
abi, folder = int(sys.argv[1]), sys.argv[2]
landlock.version = lambda: abi
rules = landlock.Ruleset([folder + '/readable', folder + '/missing'], [folder + '/writable'])
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
rules.restrict()
def attempt(name, action):
    try:
        action()
        print(name, 'done')
    except PermissionError:
        print(name, 'denied')
    except OSError as error:
        print(name, error.strerror)
def write(path):
    with open(path, 'w') as file: file.write('x')
def read(path):
    with open(path) as file: file.read()
attempt('read inside', lambda: read(folder + '/readable/f'))
attempt('list inside', lambda: os.listdir(folder + '/readable'))
attempt('write to readable', lambda: write(folder + '/readable/f'))
attempt('make in readable', lambda: write(folder + '/readable/g'))
attempt('remove readable', lambda: os.unlink(folder + '/readable/f'))
attempt('read outside', lambda: read(folder + '/other/f'))
attempt('list outside', lambda: os.listdir(folder + '/other'))
attempt('write outside', lambda: write(folder + '/other/f'))
attempt('make inside', lambda: write(folder + '/writable/f'))
attempt('folder inside', lambda: os.mkdir(folder + '/writable/d'))
attempt('rename inside', lambda: os.rename(folder + '/writable/f', folder + '/writable/g'))
attempt('rename out', lambda: os.rename(folder + '/writable/g', folder + '/other/g'))
attempt('link inside', lambda: os.symlink('/', folder + '/writable/l'))
attempt('remove inside', lambda: shutil.rmtree(folder + '/writable/d'))
"""

EXPECTED = {
    "read inside": "done",
    "list inside": "done",
    "write to readable": "denied",
    "make in readable": "denied",
    "remove readable": "denied",
    "read outside": "denied",
    "list outside": "denied",
    "write outside": "denied",
    "make inside": "done",
    "folder inside": "done",
    "rename inside": "done",
    "link inside": "denied",
    "remove inside": "done",
}


@pytest.mark.parametrize("abi", range(1, 8))
def test_rules_hold_whatever_the_version(abi: int, tmp_path: Path) -> None:
    if landlock.version() < abi:
        pytest.skip(f"this kernel has version {landlock.version()}")
    for name in ("readable", "writable", "other"):
        (tmp_path / name).mkdir()
        if name != "writable":
            (tmp_path / name / "f").write_text("text")
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(abi), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert finished.returncode == 0, finished.stderr
    outcome = dict(line.rsplit(" ", 1) for line in finished.stdout.splitlines() if not line.startswith("rename out"))
    assert outcome == EXPECTED
    assert "rename out done" not in finished.stdout
    assert (tmp_path / "other" / "f").read_text() == "text"
