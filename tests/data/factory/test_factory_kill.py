"""Builds that are killed, interrupted, or lose a process: what was finished stays, the rest comes to the same bytes."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import factory_parts as parts
import psutil
import pytest
from PIL import Image
from waiting import wait_until

from thyme.data.factory import folder
from thyme.data.factory.journal import outcomes
from thyme.data.factory.manifest import read_manifest
from thyme.data.factory.run import run_build
from thyme.types import image_id

SCRIPT = Path(__file__).with_name("factory_script.py")
COUNT = 64
END = b"IEND\xaeB`\x82"
"""Of a whole PNG."""


@contextmanager
def building(out: Path, stages: str = "SLOW", count: int = COUNT) -> Iterator[subprocess.Popen[bytes]]:
    """A build in another process, which is gone at the end, and so is everything that it started."""
    command = [sys.executable, str(SCRIPT), str(out), stages, str(count)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def journalled(out: Path) -> dict[int, bytes]:
    """What has an outcome, by index."""
    found: dict[int, bytes] = {}
    if (out / folder.BUILD).exists():
        for kind in (False, True):
            found |= {one.index: one.json for one in folder.read_outcomes(out, rejected=kind)}
    return found


def made(out: Path) -> int:
    """How many outcomes there are; cheaper than to read them."""
    return sum(folder.count_records(out)) if (out / folder.BUILD).exists() else 0


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [one for one in psutil.Process(process.pid).children() if any("spawn_main" in arg for arg in one.cmdline())]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same build, left alone."""
    out = tmp_path_factory.mktemp("undisturbed")
    run_build(parts.build(out, parts.SLOW, count=COUNT, concurrency=64, duplicates=None), execute=parts.run_here)
    return out


def test_killed_again_and_again_it_loses_nothing_and_comes_to_the_same(tmp_path: Path, undisturbed: Path) -> None:
    assert killed(tmp_path, "SLOW", COUNT, (14, 24)) >= 2
    run_build(parts.build(tmp_path, parts.SLOW, count=COUNT, duplicates=None), execute=parts.run_here)
    same(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_twenty_times_with_code_under_way_it_comes_to_the_same(tmp_path: Path) -> None:
    assert killed(tmp_path / "killed", "WHOLE", 160, (4, 10)) >= 15
    for name in ("killed", "whole"):
        build = parts.build(tmp_path / name, parts.WHOLE, sandbox=True, count=160, duplicates=None)
        run_build(build, execute=parts.run_here)
    same(tmp_path / "killed", tmp_path / "whole")


def killed(out: Path, stages: str, count: int, every: tuple[int, int]) -> int:
    """Kill a build after every so many outcomes until all are there; gives how often."""
    drawn, kills, before = random.Random(0), 0, dict[int, bytes]()
    while len(before) < count:
        with building(out, stages, count) as process:
            wanted = min(count, len(before) + drawn.randint(*every))
            wait_until(lambda wanted=wanted: process.poll() is not None or made(out) >= wanted)
            time.sleep(drawn.random() * 0.05)
            ended = process.poll() is not None
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()  # the one that the user started; the others must notice
            psutil.wait_procs(children, timeout=20)
        kills += 1
        after = journalled(out)
        assert all(after[index] == json for index, json in before.items()), "what was finished is not made again"
        assert not ended or len(after) == count, "who ends by itself has made everything"
        before = after
    return kills


def same(one: Path, other: Path) -> None:
    """Two builds are equal but for seconds; every picture is whole, and the one that its name says."""
    assert parts.contents(one) == parts.contents(other)
    ours, theirs = parts.files(one), parts.files(other)
    assert ours.keys() == theirs.keys()
    pictures = [name for name in ours if not name.endswith("parquet")]
    assert pictures
    assert [
        told(name, data[name]) for name in pictures for data in (ours, theirs) if not is_right(name, data[name])
    ] == []


def is_right(name: str, data: bytes) -> bool:
    """Whether a file is a whole PNG of the pixels that it is called by; how they were packed does not matter."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            return data.endswith(END) and image_id(picture) == Path(name).stem
    except (OSError, SyntaxError):
        return False


def told(name: str, data: bytes) -> str:
    return f"{name}: {len(data)} bytes: {data.hex()}"


def test_the_processes_of_a_killed_build_end_by_themselves(tmp_path: Path) -> None:
    with building(tmp_path) as process:
        wait_until(lambda: len(journalled(tmp_path)) >= 1)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(workers(process)) == 2
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive


def test_a_process_that_is_killed_is_replaced(tmp_path: Path, undisturbed: Path) -> None:
    with building(tmp_path) as process:
        wait_until(lambda: len(journalled(tmp_path)) >= 4)
        workers(process)[0].kill()
        told, warned = process.communicate(timeout=100)
    assert told.decode().startswith("finished"), warned.decode()
    assert b"its chunks are taken up again" in warned
    assert parts.contents(tmp_path) == parts.contents(undisturbed)


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    with building(tmp_path) as process:
        wait_until(lambda: len(journalled(tmp_path)) >= 4)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody gets it
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert b"Traceback" not in said
        _, alive = psutil.wait_procs(children, timeout=10)  # some notice by the end of a pipe
        assert not alive
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert (manifest.state, manifest.kept + manifest.rejected) == ("interrupted", len(journalled(tmp_path)))


def test_what_a_process_left_between_two_steps_is_put_right(tmp_path: Path, undisturbed: Path) -> None:
    """Killed after the first shard of a chunk, after the second, and in the middle of a line and of a picture."""
    build = parts.build(tmp_path, parts.SLOW, count=COUNT, duplicates=None)
    run_build(build, execute=parts.run_here)
    for chunk, lost in ((0, ("records",)), (1, ())):
        kinds = {kind: folder.chunk_file(tmp_path, kind, chunk) for kind in ("records", "rejected")}
        found = [one for kind in (False, True) for one in folder.read_outcomes(tmp_path, rejected=kind)]
        lines = b"".join(one.line for one in found if one.index // 8 == chunk)
        journal = folder.chunk_file(tmp_path, folder.JOURNAL, chunk)
        journal.parent.mkdir(exist_ok=True)
        journal.write_bytes(lines)
        for kind in lost:
            kinds[kind].unlink()
    torn = folder.chunk_file(tmp_path, folder.JOURNAL, 0)
    torn.write_bytes(torn.read_bytes()[:-40])
    (tmp_path / "journal" / ".000001-make.tries").write_bytes(b"..")  # of a run on Ray
    (tmp_path / "images" / "ab").mkdir(exist_ok=True)
    (tmp_path / "images" / "ab" / ".abcd.png.123.tmp").write_bytes(b"half a picture")
    assert len(outcomes(torn)) == 7
    run_build(build, execute=parts.run_here)
    assert parts.contents(tmp_path) == parts.contents(undisturbed)
    assert not list((tmp_path / "journal").iterdir())
    assert not list(tmp_path.rglob("*.tmp"))
