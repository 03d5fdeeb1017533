"""A plain Python process beside the sandbox, to tell what the sandbox costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from thyme.errors import SandboxError


@dataclass(frozen=True)
class BareProcess:
    """`thyme.sandbox.bare_process`, started; isolates nothing."""

    process: asyncio.subprocess.Process
    decode_s: float
    """Seconds that decoding the image took."""

    @classmethod
    @asynccontextmanager
    async def open(cls, image: Path) -> AsyncIterator[BareProcess]:
        """Start it, and have the image decoded."""
        script = str(Path(__file__).with_name("bare_process.py"))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, script, stdin=pipe, stdout=pipe)
        try:
            yield cls(process, (await _ask(process, {"image": str(image)}))[0])
        finally:
            with contextlib.suppress(ProcessLookupError):  # its code may have ended it
                process.kill()
            await process.wait()

    async def run(self, code: str) -> float:
        """Seconds the code took, by the clock of the process."""
        return (await _ask(self.process, {"code": code}))[0]


async def _ask(process: asyncio.subprocess.Process, request: dict[str, str]) -> tuple[float, str]:
    if process.stdin is None or process.stdout is None:
        raise SandboxError("the plain process has no streams")
    process.stdin.write(json.dumps(request).encode() + b"\n")
    answer = await process.stdout.readline()
    if not answer:
        raise SandboxError("the plain process ended; its own message is above")
    found = json.loads(answer)
    return found["seconds"], found["stdout"]
