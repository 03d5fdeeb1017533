"""What the command's tests share: code for a scripted model, and the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

TIMEOUT_S = 300
"""Of a command that takes some seconds: the machine may be busy with other things."""
CROP = """from PIL import Image
image = Image.open(image_path)
crop = image.crop((300, 120, 9999, 210))
crop.save('sign.png')
print('sign.png', crop.size)"""


def block(code: str, thought: str = "I look closer.") -> str:
    return f"<think>{thought}\n<code>\n```python\n{code}\n```\n</code>"


def thyme(
    *arguments: object, stdin: bytes | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own.

    Args:
        arguments: Of the command line.
        stdin: What it reads.
        environment: Variables to set beside those that are there.
    """
    command = [sys.executable, "-c", "from thyme.cli import main; main()", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        timeout=TIMEOUT_S,
        input=stdin,
        check=False,
        env={**os.environ, **(environment or {})},
    )
