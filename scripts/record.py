"""Run a command and keep what it printed, with where it ran, for the documents that quote it.

    python scripts/record.py crops -- python benchmarks/crops.py
    python scripts/record.py crops            # the same command again
    python scripts/record.py --list

    python scripts/record.py --docs           # only write what is recorded into the documents again

A record is `docs/results/measured/NAME.json`: the lines that were printed, the command, the commit, the seeds, the
processor, its memory, the load before, and how long it took. Documents show it between `<!-- measured: NAME -->` and
`<!-- end of measured -->`, as this writes it there. tests/test_docs_figures.py holds them against it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thyme.reproduce import machine
from thyme.reproduce.graph import How, write_whole

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RECORDS = DOCS / "results" / "measured"
MEASURED = re.compile(r"^<!-- measured: (\w+) -->\n.*?^<!-- end of measured -->$", re.MULTILINE | re.DOTALL)
"""A place of a document that is written from a record."""


def read(name: str) -> tuple[list[str], How]:
    """What was printed, and where."""
    told = _told(name)
    return told["figures"]["printed"], How.model_validate(told["how"])


def command_of(name: str) -> tuple[list[str], tuple[int, ...], bool]:
    """The command and the seeds of a record, and whether it has tables alone."""
    _, how = read(name)
    return shlex.split(how.command), how.seeds, _told(name)["figures"].get("tables", False)


def _told(name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    return told


def shown(name: str) -> str:
    """A record as documents show it: the lines as markdown, and where they come from."""
    printed, how = read(name)
    lines: list[str] = []
    for line, below in zip(printed, [*printed[1:], ""], strict=True):
        if lines and (not (line.startswith("|") and lines[-1].startswith("|")) or below.startswith(("|--", "|:-"))):
            lines.append("")
        lines.append(line)
    if not any(line.startswith("|") for line in printed):
        lines = ["```text", *printed, "```"]
    where = [how.processor or "", f"{how.cores} cores", f"{how.memory_gib} GiB", *([how.gpu] if how.gpu else [])]
    seeds = f", seed{'s' * (len(how.seeds) > 1)} {', '.join(map(str, how.seeds))}" if how.seeds else ""
    said = (
        f"Printed by `{how.command}` in {how.wall_s:.0f} s on {', '.join(where)} (load before: {how.load}){seeds}; "
        f"commit {how.commit}, {how.finished[:10]}, torch {how.versions.get('torch', 'none')}."
    )
    return "\n".join([f"<!-- measured: {name} -->", *lines, "", said, "<!-- end of measured -->"])


def fill(text: str) -> str:
    """A document with what its records hold now; a place whose record is not there yet stays as it is."""
    return MEASURED.sub(lambda place: shown(place[1]) if (RECORDS / f"{place[1]}.json").exists() else place[0], text)


def fill_documents() -> None:
    """Write all documents that show records."""
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            write_whole(page, filled)
            sys.stdout.write(f"written: {page.relative_to(ROOT)}\n")


def run(words: Sequence[str]) -> tuple[int, list[str]]:
    """Run a command from the root with this interpreter, show what it prints, and give it back without empty lines."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "250"}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    lines = []
    with subprocess.Popen(words, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line.rstrip())
    return process.returncode, [line for line in lines if line]


def record(name: str, words: Sequence[str], seeds: tuple[int, ...], *, tables: bool = False) -> int:
    """Run a command and write its record, of its tables alone if so asked; nothing is written where it fails."""
    load, commit, begun = os.getloadavg()[0], machine.commit(ROOT, "thyme", "benchmarks"), time.monotonic()
    code, printed = run(words)
    if code:
        sys.stderr.write(f"record.py: '{shlex.join(words)}' ended with {code}; nothing is recorded\n")
        return 1
    if tables:
        printed = [line for line in printed if line.startswith("|")]
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
    told = {"figures": {"printed": printed, "tables": tables}, "how": how.model_dump(mode="json")}
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
    parser.add_argument("--tables", action="store_true", help="keep lines that begin with | alone")
    parser.add_argument("--docs", action="store_true", help="write what is recorded into the documents again")
    parser.add_argument("--list", action="store_true", help="show the records and their commands")
    before, _, behind = " ".join(map(shlex.quote, sys.argv[1:])).partition(" -- ")
    asked = parser.parse_args(shlex.split(before))
    if asked.docs:
        fill_documents()
        return 0
    if asked.list or not asked.name:
        for path in sorted(RECORDS.glob("*.json")):
            sys.stdout.write(f"{path.stem:24} {shlex.join(command_of(path.stem)[0])}\n")
        return 0
    if not behind and not (RECORDS / f"{asked.name}.json").exists():
        parser.error(f"no record '{asked.name}' yet; give its command behind --")
    words, seeds, tables = (shlex.split(behind), (), asked.tables) if behind else command_of(asked.name)
    code = record(asked.name, words, seeds if asked.seeds is None else asked.seeds, tables=tables)
    fill_documents()
    return code


if __name__ == "__main__":
    raise SystemExit(main())
