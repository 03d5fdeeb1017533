"""What the Makefile calls is there, and can be called as it calls it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def commands_of(target: str) -> str:
    """What a target would run, environments made anew."""
    asked = ["make", "--no-print-directory", "--dry-run", "--always-make", target]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


def required(path: Path) -> list[str]:
    """Arguments that a program of argparse cannot do without."""
    asked = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"
    ]
    return [
        ast.unparse(call.args[0])
        for call in asked
        if not ast.literal_eval(call.args[0]).startswith("-")
        or any(ast.unparse(keyword) == "required=True" for keyword in call.keywords)
    ]


@pytest.mark.parametrize("target", ["bench", "soak", "package", "test-vllm", "test-outside"])
def test_the_programs_that_a_target_runs_are_there(target: str) -> None:
    programs = re.findall(r"\b(?:benchmarks|scripts)/\w+\.py", commands_of(target))
    assert programs
    assert [name for name in programs if not (ROOT / name).is_file()] == []


def test_the_benchmarks_of_make_bench_need_no_arguments() -> None:
    programs = re.findall(r"benchmarks/\w+\.py", commands_of("bench"))
    assert {name: required(ROOT / name) for name in programs} == {name: [] for name in programs}
    assert required(ROOT / "benchmarks/data_report.py") == ["'out'"], "what is looked for would be seen"
    assert required(ROOT / "benchmarks/eval_parity.py") == ["'--environments'"]


def test_cleaning_up_leaves_what_people_trained_and_measured() -> None:
    assert "runs" not in commands_of("clean").split()


def test_the_longer_suites_are_listed() -> None:
    """``make test-slow`` says so."""
    listed = set(re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"\bmark\.slow\b", path.read_text(encoding="utf-8"))
    }
    assert len(marked) > 40
    assert sorted(marked - listed - {"tests/test_makefile.py"}) == []
