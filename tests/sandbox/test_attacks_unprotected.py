"""Each attack that says so succeeds where there is no sandbox: what the other tests hold back is really held back.

The code runs as ``python script.py``, with nothing but a limit on its processor time, against targets of its own. That
is for a machine that can be thrown away, so that it must be asked for: ``THYME_ATTACK_UNPROTECTED=1``.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack_records import RECORDS, Attack
from shooting_range import Range, open_range

from thyme.markup import TagScanner
from thyme.sandbox.files import remove_tree
from thyme.types import Execution

LONG_S, SHORT_S = 30.0, 2.0
SHOWN = [attack for attack in RECORDS.values() if attack.plain]


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A folder to work in, which goes away however deep it became."""
    folder = Path(tempfile.mkdtemp(prefix="unprotected-"))
    try:
        yield folder
    finally:
        remove_tree(folder)


def limit_time() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_unprotected(attack: Attack, targets: Range, folder: Path) -> subprocess.CompletedProcess[str] | None:
    """Run it; None if it was still there when its time was over."""
    picture = shutil.copy(targets.folder / "input.jpg", folder / f"{targets.folder.name}.jpg")
    script = folder / "attack.py"
    head = f"image_path={str(picture)!r}\nimage_paths=[image_path]\n"
    script.write_text(head + targets.aim(attack.body, f"{folder}/"))
    with (
        (folder / "out").open("w") as out,
        subprocess.Popen(
            [sys.executable, str(script)],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=limit_time,
        ) as process,
    ):
        try:
            process.wait(SHORT_S if attack.plain == "hangs" else LONG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    printed = (folder / "out").read_text(errors="replace")
    return subprocess.CompletedProcess(script, process.returncode, printed)


def achieved(attack: Attack, targets: Range, finished: subprocess.CompletedProcess[str] | None) -> str:
    """What shows that it succeeded."""
    if finished is None:
        return "hangs"
    if attack.plain == "dies":
        return "dies" if finished.returncode < 0 else ""
    execution = Execution(code="", stdout=finished.stdout)
    if attack.plain == "forges":
        tags = [piece.tag for piece in TagScanner().all(finished.stdout) if piece.tag]
        return "forges" if tags else ""
    hit = any(happened for _, happened in targets.hits(execution))
    return "escapes" if hit or targets.achieved(attack.criterion, execution) else ""


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("THYME_ATTACK_UNPROTECTED") != "1",
    reason="attacks this machine without a sandbox; set THYME_ATTACK_UNPROTECTED=1 where that does not matter",
)
@pytest.mark.parametrize("attack", SHOWN, ids=[attack.id for attack in SHOWN])
def test_attack_succeeds_without_a_sandbox(attack: Attack) -> None:
    if os.geteuid() != 0 and attack.kind == "kernel":
        pytest.skip("an ordinary user is refused by the kernel itself")
    with open_range() as targets, workplace() as folder:
        finished = run_unprotected(attack, targets, folder)
        assert achieved(attack, targets, finished) == attack.plain, finished
