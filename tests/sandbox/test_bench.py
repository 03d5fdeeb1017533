"""``thyme sandbox bench`` and what it measures with."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from thyme.errors import SandboxError
from thyme.sandbox import check
from thyme.sandbox.bare import BareProcess
from thyme.sandbox.bench import CALCULATION, CROP_DECODED, Timing, check_execution, sample_image
from thyme.sandbox.memory import process_memory
from thyme.types import Execution, ExecutionError


def test_the_command_says_what_sessions_and_executions_cost() -> None:
    if check().best is None:
        pytest.skip("this machine offers no level of isolation")
    command = [sys.executable, "-c", "from thyme.cli import main; main()", "sandbox", "bench", "--n", "3"]
    finished = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    figures = found["figures"]
    assert found["isolation"] == check().best
    assert min(figures.values()) != 0
    assert figures["calc_overhead_ms_p50"] < figures["calc_ms_p50"] < figures["crop_ms_p50"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    assert "session from the pool" in text
    assert "in a plain process" in text


async def test_the_plain_process_runs_the_same_blocks_on_a_decoded_image(tmp_path: Path) -> None:
    file = tmp_path / "image.jpg"
    file.write_bytes(await asyncio.to_thread(sample_image))
    async with BareProcess.open(file) as bare:
        assert bare.decode_s > 0
        assert await bare.run(CALCULATION) > 0
        assert await bare.run(CROP_DECODED) > 0
        with pytest.raises(SandboxError, match="plain process"):
            await bare.run("raise SystemExit(1)")


def test_an_execution_that_failed_is_no_measurement() -> None:
    failed = Execution(code="1 / 0", error=ExecutionError(type="ZeroDivisionError", message="division by zero"))
    for execution, images in ((failed, 0), (Execution(code="x = 1"), 1)):
        with pytest.raises(SandboxError, match="did not run"):
            check_execution(execution, images)
    check_execution(Execution(code="x = 1"), 0)


def test_each_shift_is_another_picture() -> None:
    assert len({sample_image(0), sample_image(1), sample_image(2)}) == 3


def test_quantiles_are_in_milliseconds() -> None:
    timing = Timing.of([0.001 * value for value in range(1, 102)])
    assert (timing.p50_ms, timing.p99_ms, timing.count) == (pytest.approx(51), pytest.approx(100), 101)


def test_memory_is_that_of_the_process() -> None:
    code = "import sys; kept = bytearray(64 << 20); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        memory = process_memory(process.pid)
        process.stdin.close()
    assert memory is not None
    assert 64 < memory.private_mb <= memory.pss_mb < 128
    assert process_memory(process.pid) is None
