"""Run a command and keep what it printed, with where it ran, for the documents that quote it.

    python scripts/record.py crops -- python benchmarks/crops.py
    python scripts/record.py crops            # the same command again
    python scripts/record.py --list

A record is `docs/results/measured/NAME.json`: the lines that were printed, the command, the commit, the seeds, the
processor, its memory, the load before, and how long it took. tests/test_docs_figures.py holds the documents against it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from thyme.reproduce import machine
from thyme.reproduce.graph import How, write_whole

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "results" / "measured"


def command_of(name: str) -> tuple[list[str], tuple[int, ...]]:
    """The command and the seeds of a record."""
    how = How.model_validate(json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))["how"])
    return shlex.split(how.command), how.seeds


def run(words: Sequence[str]) -> tuple[int, list[str]]:
    """Run a command from the root with this interpreter, show what it prints, and give it back without empty lines."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    lines = []
    with subprocess.Popen(words, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line.rstrip())
    return process.returncode, [line for line in lines if line]


def record(name: str, words: Sequence[str], seeds: tuple[int, ...]) -> int:
    """Run a command and write its record; nothing is written where it fails."""
    load, commit, begun = os.getloadavg()[0], machine.commit(ROOT), time.monotonic()
    code, printed = run(words)
    if code:
        sys.stderr.write(f"record.py: '{shlex.join(words)}' ended with {code}; nothing is recorded\n")
        return 1
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    how = How(
        command=shlex.join(words),
        commit=commit,
        seeds=seeds,
        processor=machine.processor(),
        cores=machine.cores(),
        memory_gib=machine.memory_gib(),
        gpu=machine.gpu(),
        load=round(load, 2),
        wall_s=round(time.monotonic() - begun, 1),
        cpu_s=round(used.ru_utime + used.ru_stime, 1),
        peak_memory_mib=round(used.ru_maxrss / 1024, 1),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=machine.versions(),
    )
    told = {"figures": {"printed": printed}, "how": how.model_dump(mode="json")}
    RECORDS.mkdir(parents=True, exist_ok=True)
    write_whole(RECORDS / f"{name}.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return 0


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(seed) for seed in text.split(","))


def main() -> int:
    """Record one command, or list the records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", help="of the record")
    parser.add_argument("--seeds", type=_seeds, default=None, help="comma-separated, where the command has some")
    parser.add_argument("--list", action="store_true", help="show the records and their commands")
    before, _, behind = " ".join(map(shlex.quote, sys.argv[1:])).partition(" -- ")
    asked = parser.parse_args(shlex.split(before))
    if asked.list or not asked.name:
        for path in sorted(RECORDS.glob("*.json")):
            sys.stdout.write(f"{path.stem:24} {shlex.join(command_of(path.stem)[0])}\n")
        return 0
    if not behind and not (RECORDS / f"{asked.name}.json").exists():
        parser.error(f"no record '{asked.name}' yet; give its command behind --")
    words, seeds = (shlex.split(behind), ()) if behind else command_of(asked.name)
    return record(asked.name, words, seeds if asked.seeds is None else asked.seeds)


if __name__ == "__main__":
    raise SystemExit(main())
