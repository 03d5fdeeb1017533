"""Memory does not grow with the number of records."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from pathlib import Path

import factory_parts as parts
import psutil
import pytest

from thyme.config.data import SourceSettings
from thyme.data.factory.chunk import open_maker
from thyme.data.factory.folder import BUILD, count_records
from thyme.data.factory.jobs import Jobs

RECORDS = 50_000
SCRIPT = Path(__file__)
_MIB = 1 << 20


def measured(out: Path, records: int) -> list[float]:
    """MiB that this process has in memory, after each tenth of a build without pictures and without code."""
    text = {"text": SourceSettings(world="squares", count=records, split="text")}
    build = parts.build(out, count=records, chunk=250, concurrency=32, scenarios={"text": 1.0}, sources=text)
    plan = build.plan(build.sources())
    (out / BUILD).write_text(json.dumps({"recipe": {"chunk": 250}}))
    found = []

    async def run() -> None:
        jobs = Jobs(build, plan, ahead=3)
        async with open_maker(build, plan) as maker:
            while not jobs.finished:
                job = jobs.next()
                assert job is not None
                if job.kind == "survey":
                    jobs.done(job, await maker.survey(job.chunk))
                    continue
                await maker.make(job.chunk, job.duplicates)
                jobs.done(job)
                if (job.chunk + 1) % (plan.chunks // 10) == 0:
                    gc.collect()
                    found.append(psutil.Process().memory_info().rss / _MIB)
        jobs.close()

    asyncio.run(run())
    assert sum(count_records(out)) == records
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_thousand_records_take_no_more_memory_than_five_thousand(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(RECORDS)]
    sizes = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(sizes) == 10
    assert sizes[-1] - sizes[0] < 40, f"MiB after each tenth: {sizes}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps([round(size, 1) for size in measured(Path(sys.argv[1]), int(sys.argv[2]))]))
