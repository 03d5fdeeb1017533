"""The images of deploy/, built and asked for their health, where a container engine is; `test_deploy` reads them."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROBES = {
    "serve": "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=3)",
    "sandbox": "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/healthz', timeout=3)",
}


def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=check)


@pytest.fixture(scope="module")
def engine() -> str:
    """A program that is there, and whose daemon, where it has one, is too."""
    for program in ("docker", "podman"):
        if shutil.which(program) and run(program, "info", check=False).returncode == 0:
            return program
    pytest.skip("there is no docker and no podman that works")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PROBES)
def test_an_image_is_built_starts_and_answers(name: str, engine: str) -> None:
    image = f"thyme-{name}:test"
    run(engine, "build", "--file", f"deploy/Dockerfile.{name}", "--tag", image, ".")
    given = ("--detach", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")
    container = run(engine, "run", *given, image).stdout.strip()
    try:
        ends = time.monotonic() + 180
        while run(engine, "exec", container, "python", "-c", PROBES[name], check=False).returncode:
            assert time.monotonic() < ends, run(engine, "logs", container).stderr
            time.sleep(1)
    finally:
        run(engine, "rm", "--force", container)
