"""Imports in another process: a broken library may take minutes, or end the process that imports it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 120.0
"""Seconds for an import; a cold disk takes its time."""


class ChildError(Exception):
    """The code in the other process failed; the message is its last line."""


def told_by(code: str, timeout_s: float = TIMEOUT_S) -> Mapping[str, Any]:
    """Run code of ours in another interpreter, and read the JSON object that it prints last.

    Args:
        code: Ends with printing one line of JSON.
        timeout_s: Seconds after which it is ended.

    Raises:
        ChildError: It fails, crashes, or takes too long.
    """
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"no end after {timeout_s:.0f} s") from error
    if done.returncode < 0:
        raise ChildError(f"the process ended by signal {-done.returncode}")
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise ChildError(lines[-1] if lines else f"exit code {done.returncode}") from error
    if not isinstance(found, dict):
        raise ChildError(lines[-1])
    return found
