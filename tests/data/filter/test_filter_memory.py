"""Files larger than the memory that a filter may take: the published layout read, filtered and written by rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filter_memory import make

SCRIPT = Path(__file__).with_name("filter_memory.py")
_MIB = 1 << 20


def done(*words: object) -> Any:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def filtered(tmp_path: Path, *, files: int, rows: int, allowed: int, group: int) -> int:
    """Bytes of the files that were filtered; the kernel refuses more memory than is allowed."""
    source = tmp_path / "source"
    source.mkdir()
    size = make(source, files, rows)
    told = done(source, tmp_path / "out", allowed, group)
    assert (told["rows"], told["kept"]) == (files * rows, files * rows)
    return size


def test_a_file_of_one_row_group_that_is_larger_than_the_memory_there_is(tmp_path: Path) -> None:
    allowed = 48 * _MIB
    assert filtered(tmp_path, files=1, rows=24, allowed=allowed, group=_MIB) > 1.2 * allowed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_gigabytes_in_files_as_large_as_the_published_ones_and_the_real_reader_reads_what_comes_out(
    tmp_path: Path,
) -> None:
    allowed = 400 * _MIB
    assert filtered(tmp_path, files=4, rows=200, allowed=allowed, group=32 * _MIB) > 4 * allowed
    from datasets import load_dataset

    files = sorted(str(path) for path in (tmp_path / "out" / "problems" / "data").glob("*.parquet"))
    read = load_dataset("parquet", data_files=files, split="train", streaming=True)
    questions = [row["question"] for row in read.select_columns(["question"])]
    assert questions == [f"What is at place {file}, {place}?" for file in range(4) for place in range(200)]
