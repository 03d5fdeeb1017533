"""The images of deploy/, built and asked for their health, where a container engine is; `test_deploy` reads them."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def works(program: str) -> bool:
    """Whether it is there, and so is what it talks to."""
    return (
        shutil.which(program) is not None
        and not subprocess.run([program, "info"], capture_output=True, check=False).returncode
    )


ENGINE = next(filter(works, ("docker", "podman")), None)
PROBES = {
    "serve": "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=3)",
    "sandbox": "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/healthz', timeout=3)",
}


def engine(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    assert ENGINE is not None
    return subprocess.run([ENGINE, *words], cwd=ROOT, capture_output=True, text=True, timeout=1500, check=check)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(ENGINE is None, reason="there is no docker and no podman that works")
@pytest.mark.parametrize("name", PROBES)
def test_an_image_is_built_starts_and_answers(name: str) -> None:
    image = f"thyme-{name}:test"
    engine("build", "--file", f"deploy/Dockerfile.{name}", "--tag", image, ".")
    container = engine("run", "--detach", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", image).stdout.strip()
    try:
        ends = time.monotonic() + 180
        while engine("exec", container, "python", "-c", PROBES[name], check=False).returncode:
            assert time.monotonic() < ends, engine("logs", container).stderr
            time.sleep(1)
    finally:
        engine("rm", "--force", container)
