"""The quickstart and the guides are walked: each command of a page, one after the other, in one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from document_blocks import ROOT, Block, blocks_of
from PIL import Image
from sample_records import trajectory

from thyme.config.data import SourceSettings
from thyme.data.sources import open_source
from thyme.store import write_trajectories

THYME = f'#!/bin/sh\nexec "{sys.executable}" -c "from thyme.cli import main; main()" "$@"\n'
PAGES = (
    "quickstart.md",
    "troubleshooting.md",
    "guides/annotate.md",
    "guides/ask.md",
    "guides/data.md",
    "guides/evaluate.md",
    "guides/sandbox.md",
    "guides/serve.md",
    "guides/train.md",
)
SERVERS = ("thyme serve", "thyme studio serve")


def walked(page: str, folder: Path) -> None:
    """Run the blocks of a page that need no download (``sh``, ``python``)."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/thyme").write_text(THYME)
    (folder / "bin/thyme").chmod(0o755)
    for block in blocks_of(ROOT / "docs" / page):
        if block.language == "python":
            done = run([sys.executable, "-c", block.text], folder)
        elif block.language == "sh":
            done = walk(block, folder)
        else:
            continue
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def walk(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    text = block.text.replace(". .venv/bin/activate\n", "")
    if text.startswith("make "):
        text = re.sub("^make", f"make -n -C {ROOT}", text, flags=re.MULTILINE)
    if text.startswith("python -m pytest"):
        text = f"cd {ROOT} && {text.replace('python', sys.executable, 1).strip()} --collect-only -p no:cacheprovider"
    if text.startswith(SERVERS):
        with served(text.strip(), folder) as url:
            return run(["curl", "-sf", url + ("/health" if "studio" not in text else "/ui/static/studio.css")], folder)
    if text.startswith("curl "):
        with served("thyme serve", folder) as url:
            return run(
                ["bash", "-ec", text.replace("curl -s", "curl -sf").replace("http://127.0.0.1:8000", url)], folder
            )
    return run(["bash", "-ec", text], folder)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=900, check=False)


@contextmanager
def served(line: str, folder: Path) -> Iterator[str]:
    """A server on a free port; its address."""
    command = [str(folder / "bin/thyme"), *line.split()[1:], "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            said = ""
            while (found := re.search(r"http://127\.0\.0\.1:\d+", said)) is None and (new := server.stderr.readline()):
                said += new
            assert found, said
            yield found[0]
        finally:
            server.terminate()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages ask a server by curl")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_walked(page: str, tmp_path: Path) -> None:
    walked(page, tmp_path)


def python(page: str, begin: str) -> str:
    (text,) = (b.text for b in blocks_of(ROOT / "docs" / page) if b.language == "python" and b.text.startswith(begin))
    return text


def test_a_source_of_the_page_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Image.new("RGB", (8, 6)).save("data/a.png")
    Path("data/photos.jsonl").write_text('{"image": "a.png", "question": "What is it?", "answer": "night"}\n')
    assert len(open_source("photos", SourceSettings(path="data/photos.jsonl"))) == 1
    exec(compile(python("data_export.md", "from thyme.config.data"), "data_export.md", "exec"), {})
    assert capsys.readouterr().out.endswith("What is it?\n")


@pytest.mark.slow
def test_the_memory_of_the_page_is_reckoned(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python("sft_memory.md", "from thyme.config.sft"), "sft_memory.md", "exec"), {})
    peak, moment = capsys.readouterr().out.split()[:2]
    assert float(peak) > 1
    assert moment.isidentifier()


def test_the_rewards_of_the_page_are_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_trajectories(Path("trajectories.jsonl"), [trajectory()])
    exec(compile(python("rewards.md", "import asyncio"), "rewards.md", "exec"), {"__name__": "__main__"})
    first, *rest = capsys.readouterr().out.splitlines()
    assert re.match(r"-?\d|None", first)
    assert len(rest) == 1
