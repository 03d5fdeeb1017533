"""A plain Python process that runs what it is sent: what the sandbox's cost is measured against.

Run by path, so that nothing of the package is imported. Standard input gives one JSON line a request: first
``{"image": PATH}``, which is decoded once and kept as `image`, then ``{"code": SOURCE}`` as often as wanted. Standard
output answers each with ``{"seconds": ..., "stdout": ...}``, timed inside, without the way there and back. Isolates
nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from typing import Any

from PIL import Image


def serve() -> None:
    """Answer until standard input ends."""
    variables: dict[str, Any] = {"__name__": "__main__"}
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        if "image" in request:
            variables["image"] = Image.open(request["image"])
            variables["image"].load()
            answer = {"seconds": time.perf_counter() - started, "stdout": ""}
        else:
            answer = _run(request["code"], variables)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _run(code: str, variables: dict[str, Any]) -> dict[str, Any]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        started = time.perf_counter()
        exec(compile(code, "<code>", "exec"), variables)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "stdout": printed.getvalue()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        serve()
