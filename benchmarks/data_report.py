"""What the report of a build takes: processor time and memory, for the records of a build repeated N times.

    python -m benchmarks.data_report OUT --records 4000 16000

OUT is the folder of a build; nothing in it is changed. The report is made by a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from pathlib import Path

from thyme.data.factory import folder
from thyme.data.factory.journal import Outcome
from thyme.data.factory.shard import write_shard
from thyme.data.report.write import write_report

CHUNK = 256


def repeated(source: Path, count: int) -> Iterator[Outcome]:
    """The outcomes of a build over and over, each under an id of its own."""
    have = [*folder.read_outcomes(source), *folder.read_outcomes(source, rejected=True)]
    for index, one in enumerate(islice(cycle(have), count)):
        record = json.loads(one.json)
        draft = record if one.kept else record["draft"]
        record["id"] = draft["id"] = f"again-{index:07d}-{draft['scenario']}"
        yield Outcome(index, one.kept, one.images, json.dumps(record).encode())


def copy(source: Path, out: Path, count: int) -> None:
    """A build of so many records, its pictures those of another."""
    manifest = json.loads((source / folder.BUILD).read_bytes())
    manifest["count"], manifest["recipe"]["chunk"] = count, CHUNK
    (out / folder.BUILD).write_text(json.dumps(manifest), encoding="utf-8")
    (out / folder.IMAGES).symlink_to((source / folder.IMAGES).resolve())
    records = repeated(source, count)
    for chunk in range(-(-count // CHUNK)):
        rows = list(islice(records, CHUNK))
        for kind, kept in ((folder.REJECTED, False), (folder.RECORDS, True)):
            write_shard(folder.chunk_file(out, kind, chunk), (one for one in rows if one.kept is kept), kept=kept)


def measure(out: Path) -> tuple[int, float, int, int]:
    """Records, seconds of a core, and the peak of memory before and after, KiB."""
    before, started = peak_kib(), time.process_time()
    funnel = write_report(out)
    return funnel.total.drawn, time.process_time() - started, before, peak_kib()


def peak_kib() -> int:
    """Of this program alone; getrusage would count what its parent had when it was forked."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--records", type=int, nargs="+", default=[4000, 16000])
    given = parser.parse_args()
    print("| records | processor time, s | peak of memory, MiB | before, MiB |\n|---:|---:|---:|---:|")
    for records in given.records:
        with tempfile.TemporaryDirectory() as made:
            copy(given.out, Path(made), records)
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                drawn, took, before, peak = fresh.submit(measure, Path(made)).result()
        print(f"| {drawn} | {took:.2f} | {peak / 1024:.0f} | {before / 1024:.0f} |", flush=True)


if __name__ == "__main__":
    main()
