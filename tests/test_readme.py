"""Every command that the README shows is run, or, where it needs a download or the network, at least parsed.

Those of `LONG` are run by the longer suite; what they do, others look at more closely.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from forked import thyme

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""``sh`` blocks are run one after the other in one folder; ``bash`` blocks need a download, and are only parsed."""

LONG = ("thyme nano train", "thyme nano eval", "thyme rl-data filter", "thyme eval --bench")


def commands(language: str) -> list[str]:
    blocks = [body for found, body in BLOCK.findall(README) if found == language]
    lines = [line.split("  #")[0].strip() for body in blocks for line in body.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


def served(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Start a server on a free port, see that it answers, and end it."""
    command = [sys.executable, "-c", "from thyme.cli import main; main()", *words, "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            said = ""
            while (found := re.search(r"http://127\.0\.0\.1:\d+", said)) is None and (line := server.stderr.readline()):
                said += line
            assert found, said
            for path in ("/health", "/"):
                assert httpx.get(found[0] + path, timeout=60).status_code == 200
        finally:
            server.terminate()
        rest = server.stderr.read()
    return subprocess.CompletedProcess(command, server.returncode, "", said + rest)


@pytest.mark.timeout(600)
def test_commands_run(tmp_path: Path) -> None:
    assert run([line for line in commands("sh") if not line.startswith(LONG)], tmp_path) >= 6


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_longer_commands_run(tmp_path: Path) -> None:
    assert run([line for line in commands("sh") if line.startswith(LONG)], tmp_path) == len(LONG)


def run(lines: list[str], folder: Path) -> int:
    """Run commands one after the other; gives how many."""
    for line in lines:
        program, *words = shlex.split(line)
        if program == "make":
            done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        else:
            assert program == "thyme", f"the README shows a command that this test does not know: {line}"
            done = (served if words[0] == "serve" else thyme)(words, folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return len(lines)


def test_commands_that_need_a_model_are_parsed(tmp_path: Path) -> None:
    """With the image missing, a command whose options are right ends at the image, not at an option."""
    lines = [line for line in commands("bash") if line.startswith("thyme ")]
    assert lines
    for line in lines:
        done = thyme(shlex.split(line)[1:], tmp_path)
        assert done.returncode == 2, line
        assert "photo.jpg" in done.stderr, f"{line}\n{done.stderr}"


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture
