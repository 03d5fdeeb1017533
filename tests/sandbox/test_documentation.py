"""The Python in docs/sandbox.md and README.md runs as it stands there, and the figures it names are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from thyme.config.sandbox import ALL_REPAIRS, SandboxConfig
from thyme.sandbox import check
from thyme.sandbox.facade import MAX_INPUT_PIXELS

ROOT = Path(__file__).parents[2]
SANDBOX = (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [text for text in PYTHON.findall(SANDBOX) + PYTHON.findall(README) if "thyme.sandbox" in text]
"""Those that ask a model are run by tests/test_docs_python.py."""


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_run(text: str, tmp_path: Path) -> None:
    if check().best is None:
        pytest.skip("this machine offers no level of isolation")
    Image.effect_noise((1200, 800), 60).convert("RGB").save(tmp_path / "street.jpg")
    # No picture viewer of the machine that runs the tests is to start.
    quiet = "from PIL import Image\nImage.Image.show = lambda self: print('shown', self.size)\n"
    command = [sys.executable, "-W", "error", "-c", quiet + text]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert " None" in done.stdout, "the code of the example did not fail"


def test_there_are_examples() -> None:
    assert len(PYTHON.findall(SANDBOX)) >= 2
    assert any("from thyme.sandbox import Sandbox" in text for text in PYTHON.findall(README))
    assert len(EXAMPLES) == len(PYTHON.findall(SANDBOX)) + sum("thyme.sandbox" in t for t in PYTHON.findall(README))


def test_every_repair_is_named() -> None:
    section = SANDBOX.split("## Repairs")[1].split("\n## ")[0]
    assert set(re.findall(r"`([a-z_]+)`", section)) >= set(ALL_REPAIRS)


def test_limits_are_those_of_the_code() -> None:
    section = SANDBOX.split("## Limits")[1].split("\n## ")[0]
    config = SandboxConfig()
    for figure in (
        f"{config.timeout_s:g} s of wall clock",
        f"{config.cpu_s} s of CPU",
        f"{config.memory_mb // 1024} GiB of address space",
        f"{config.disk_mb} MiB and {config.inodes} inodes",
        f"{config.threads} threads",
        f"{config.max_images} images",
        f"{config.max_sessions} sessions",
    ):
        assert figure in section, figure
    assert f"{MAX_INPUT_PIXELS // 10**6} million" in SANDBOX
