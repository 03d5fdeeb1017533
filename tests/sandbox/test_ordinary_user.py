"""The attacks again, run by nobody: an ordinary user gets the same two levels."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65534


def readable_to_all(path: str) -> bool:
    """Whether a stranger can reach and read a folder."""
    return all(os.stat(part).st_mode & 0o005 == 0o005 for part in (path, *map(str, Path(path).parents)))


@pytest.mark.timeout(300)
def test_attacks_are_contained_for_nobody(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else; as an ordinary user the other tests show the same")
    if not shutil.which("setpriv") or not shutil.which("unshare"):
        pytest.skip("setpriv and unshare (util-linux) are not installed")
    packages = sysconfig.get_paths()["purelib"]
    for folder in (packages, str(ROOT)):
        if not readable_to_all(folder):
            pytest.skip(f"nobody cannot read {folder}")
    base = os.path.realpath(sys.base_prefix)
    place, bind = base, ""
    if not readable_to_all(base):  # a private interpreter is shown to nobody in another place, in a mount namespace
        place = "/mnt"
        bind = f"mount --bind {shlex.quote(base)} {place} && "
    python = os.path.join(place, os.path.relpath(os.path.realpath(sys.executable), base))
    tests = f"{python} -m pytest -q -p no:cacheprovider -p no:hypothesispytest {ROOT}/tests/sandbox/test_attacks.py"
    command = f"{bind}exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {tests} --basetemp=$HOME/pytest"
    home = Path("/tmp") / f"thyme-nobody-{os.getpid()}"
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": f"{packages}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        finished = subprocess.run(
            ["unshare", "--mount", "sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if "unshare failed" in finished.stderr or "permission denied" in finished.stderr:
        pytest.skip(f"this machine does not let the interpreter be shown to nobody: {finished.stderr.strip()}")
    last = finished.stdout.strip().splitlines()[-1:]
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-2000:]
    assert last, "nothing ran"
    assert " passed" in last[0]
