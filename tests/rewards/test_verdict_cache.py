"""A folder of verdicts that many processes write to, some of which are killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thyme.rewards.cache import VerdictCache

WRITER = """
import sys
from pathlib import Path
from thyme.rewards.cache import VerdictCache
for round in range(10**9):
    cache = VerdictCache(Path(sys.argv[1]))
    for key in range(20):
        cache.put(f"{key:032x}", {"correct": key % 2, "padding": "x" * 5000})
        read = VerdictCache(cache.folder).get(f"{19 - key:032x}")
        assert read is None or len(read["padding"]) == 5000, read
"""


def test_processes_share_a_folder_and_may_be_killed(tmp_path: Path) -> None:
    """Every file that has its name is whole, whoever wrote it and however they ended."""
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) for _ in range(3)]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.json"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert [writer.poll() for writer in writers] == [None] * 3  # nobody read a half
    for writer in writers:
        writer.kill()
        writer.wait()
    cache = VerdictCache(tmp_path)
    for key in range(20):
        kept = cache.get(f"{key:032x}")
        assert kept is not None
        assert (kept["correct"], len(kept["padding"])) == (key % 2, 5000)


def test_memory_is_bounded_and_the_folder_is_not(tmp_path: Path) -> None:
    remembering, keeping = VerdictCache(None, in_memory=3), VerdictCache(tmp_path, in_memory=3)
    for cache in (remembering, keeping):
        for key in range(5):
            cache.put(f"{key:032x}", {"correct": key})
    assert [remembering.get(f"{key:032x}") for key in range(5)] == [None, None, *({"correct": k} for k in (2, 3, 4))]
    assert [keeping.get(f"{key:032x}") for key in range(5)] == [{"correct": key} for key in range(5)]


def test_a_folder_that_cannot_be_written_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = VerdictCache(tmp_path / "file")
    for key in ("a" * 32, "b" * 32):
        cache.put(key, {"correct": 1})
        assert cache.get(key) == {"correct": 1}
    assert caplog.text.count("cannot be kept") == 1


def test_a_file_is_the_verdict_and_nothing_else(tmp_path: Path) -> None:
    VerdictCache(tmp_path).put("ab" * 16, {"correct": 1})
    assert json.loads((tmp_path / "ab" / f"{'ab' * 16}.json").read_text()) == {"correct": 1}
    assert [path.name for path in (tmp_path / "ab").iterdir()] == [f"{'ab' * 16}.json"]
