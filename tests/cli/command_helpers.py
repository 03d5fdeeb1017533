"""What the command's tests share: code for a scripted model, and the command in a process of its own."""

from __future__ import annotations

import subprocess
import sys

CROP = """from PIL import Image
image = Image.open(image_path)
crop = image.crop((300, 120, 9999, 210))
crop.save('sign.png')
print('sign.png', crop.size)"""


def block(code: str, thought: str = "I look closer.") -> str:
    return f"<think>{thought}\n<code>\n```python\n{code}\n```\n</code>"


def thyme(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    command = [sys.executable, "-c", "from thyme.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=60, input=stdin, check=False)
